"""From a NIR file, whoever wrote it, to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.deploy.nir_arrays import diagonal, dilated, pair, sparse, stands_for_add, votes
from spikenas.deploy.nir_file import NirEdge, NirFile, NirNode, read_file
from spikenas.deploy.nir_neuron import DT, Continuous, to_lif
from spikenas.errors import GraphError, InputError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GraphBuilder,
    Input,
    Layer,
    Lif,
    Linear,
    Mean,
    Output,
    Pair,
    Shape,
    Vote,
)
from spikenas.model import FloatArray, Model

Array = npt.NDArray[Any]
TIMESTEPS = 4
"""taken when neither the file nor the caller says how many steps"""


@dataclass(frozen=True, slots=True)
class Imported:
    """A model, and what the file did not say and was taken for granted, one sentence each."""

    model: Model
    assumed: tuple[str, ...]


def read_nir(path: Path, *, timesteps: int | None = None, dt: float | None = None, at_threshold: bool = False) -> Model:
    """The model in a NIR file; see :func:`import_nir`."""
    return import_nir(path, timesteps=timesteps, dt=dt, at_threshold=at_threshold).model


def import_nir(
    path: Path, *, timesteps: int | None = None, dt: float | None = None, at_threshold: bool = False
) -> Imported:
    """Read a NIR graph of Conv2d, Linear, Affine, Scale, AvgPool2d, SumPool2d, Flatten, IF, LIF, Threshold and Delay.

    Nested graphs are unfolded, several edges into a node become an Add, an edge that closes a cycle brings the step
    before. The input is an image, the output the mean over the timesteps.

    Args:
        path: what ``nir.write`` wrote.
        timesteps: steps to run; default the file's metadata, else 4.
        dt: seconds a step; default the file's metadata, else 1e-4 as all common simulators take.
        at_threshold: whether v == v_threshold fires, as in spikingjelly; NIR, and the default, says no.

    Raises ModelError when the file cannot be read, GraphError naming the node when it cannot become a graph,
    MissingTool without h5py.
    """
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise GraphError(f"dt {dt!r}: a step takes more than 0 seconds")
    file = read_file(path, dt, DT)
    steps = timesteps if timesteps is not None else _whole(file.stated.get("timesteps"), TIMESTEPS)
    reader = _Reader(file, at_threshold)
    graph, weights = reader.read(steps)
    assumed = [*reader.assumed]
    if timesteps is None and "timesteps" not in file.stated:
        assumed.insert(0, f"{steps} timesteps")
    if dt is None and "dt" not in file.stated:
        assumed.insert(0, f"dt = {file.dt:g} s")
    return Imported(Model(graph, weights), tuple(assumed))


def _whole(value: Any, default: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


class _Reader:
    """Grows the graph; ``at`` is the layer of each NIR node, ``factor`` what its value must yet be multiplied by.

    The factor is that of SumPool2d, which is an AvgPool2d times its window: the layers behind it take it.
    """

    def __init__(self, file: NirFile, at_threshold: bool) -> None:
        self.file, self.at_threshold = file, at_threshold
        self.builder = GraphBuilder()
        self.weights: dict[str, FloatArray] = {}
        self.shapes: dict[str, Shape] = {}
        self.at: dict[str, str] = {}
        self.factor: dict[str, float] = {}
        self.late: list[tuple[NirEdge, str]] = []
        self.used: set[str] = set()
        self.assumed: list[str] = []

    def read(self, timesteps: int) -> tuple[Any, dict[str, FloatArray]]:
        for node in self.file.nodes.values():
            self.at[node.name] = self._node(node)
        for edge, target in self.late:
            self.builder.feedback(self._plain(self.at[edge.source]), target)
        return self.builder.build(timesteps), self.weights

    def _node(self, node: NirNode) -> str:
        if node.kind not in READERS:
            known = ", ".join(READERS)
            raise GraphError(f"node '{node.name}' is a {node.kind}, which has no counterpart here: use {known}")
        if node.kind == "Input":
            return self._input(node)
        value = self._gather(node)
        if stands_for_add(node):
            return value
        if node.kind != "Output" and not self.file.consumers(node.name):
            raise GraphError(f"node '{node.name}' feeds nothing: connect it to the Output or remove it")
        try:
            return READERS[node.kind](self, node, value)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise GraphError(
                f"node '{node.name}' ({node.kind}) is malformed ({error}): write the file again"
            ) from error

    # --- values ---------------------------------------------------------------------------------------------

    def _gather(self, node: NirNode) -> str:
        """The layer that is the sum of all that enters ``node``."""
        now = [edge for edge in self.file.sources(node.name) if not edge.delay]
        late = [edge for edge in self.file.sources(node.name) if edge.delay]
        if len(now) == 1 and not late:
            return self.at[now[0].source]
        terms = [self._plain(self.at[edge.source]) for edge in now]
        shapes = [self.shapes[term] for term in terms]
        if any(shape != shapes[0] for shape in shapes):
            inputs = ", ".join(f"{edge.source} {shape}" for edge, shape in zip(now, shapes, strict=True))
            raise GraphError(f"node '{node.name}' adds different shapes ({inputs}): they must be equal")
        own = stands_for_add(node)
        total = self._add(Add(), *terms, name=self._title(node) if own else f"{self._title(node)}_sum", shape=shapes[0])
        self.late += [(edge, total) for edge in late]
        return total

    def _plain(self, value: str) -> str:
        """``value`` with its factor carried out."""
        factor = self.factor.get(value, 1.0)
        return value if factor == 1 else self._norm(f"{value}_scale", value, np.full(self.shapes[value][:1], factor))

    def _title(self, node: NirNode) -> str:
        return str(node.stated.get("name", node.name))

    def _add(self, layer: Layer, *sources: str, name: str, shape: Shape, **weights: Array) -> str:
        while name in self.used:
            name += "_"
        self.used.add(name)
        self.builder.add(layer, *sources, name=name)
        self.shapes[name] = shape
        for key, array in weights.items():
            self.weights[f"{name}.{key}"] = array.astype(np.float32)
        return name

    def _norm(self, name: str, value: str, scale: Array, offset: Array | None = None) -> str:
        """``scale * x + offset`` per channel, as a BatchNorm2d with mean 0 and variance 1."""
        shape = self.shapes[value]
        if len(shape) != 3:
            raise GraphError(f"node '{name}' scales {shape}, and only maps can be: move it into a Linear's weights")
        zero, one = np.zeros(shape[0]), np.ones(shape[0])
        bias = zero if offset is None else offset
        arrays = {"weight": scale, "bias": bias, "running_mean": zero, "running_var": one}
        return self._add(BatchNorm2d(eps=0.0), value, name=name, shape=shape, **arrays)

    # --- nodes ----------------------------------------------------------------------------------------------

    def _input(self, node: NirNode) -> str:
        sizes = [int(size) for size in np.atleast_1d(node.array("shape"))]
        while len(sizes) > 1 and sizes[0] == 1 and len(sizes) != 3:
            sizes = sizes[1:]  # a batch of one
        shape = (1, *sizes) if len(sizes) == 2 else tuple(sizes)
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise GraphError(f"node '{node.name}' takes shape {shape}: an input is (channels, height, width)")
        if "static_input" not in self.file.stated:
            self.assumed.append("the same image at every step")
        static = bool(_whole(self.file.stated.get("static_input"), 1))
        return self._add(Input(shape, static), name=self._title(node), shape=shape)

    def _output(self, node: NirNode, value: str) -> str:
        value = self._plain(value)
        if len(shape := self.shapes[value]) == 3:
            value = self._add(Flatten(), value, name="flat", shape=(prod(shape),))
        shape = self.shapes[value]
        mean = self._add(Mean(), value, name="mean", shape=shape)
        if "output" not in self.file.stated:
            self.assumed.append("the output is the mean over the timesteps")
        return self._add(Output(), mean, name=self._title(node), shape=shape)

    def _conv(self, node: NirNode, value: str) -> str:
        kernel, bias, shape = node.array("weight"), node.array("bias"), self.shapes[value]
        kernel = dilated(kernel, pair(node, "dilation"))
        groups = int(node.array("groups"))
        if len(shape) != 3 or kernel.ndim != 4 or kernel.shape[1] * groups != shape[0]:
            raise self._mismatch(node, f"kernel {kernel.shape} with {groups} groups", value)
        layer = Conv2d(kernel.shape[0], kernel.shape[2:], pair(node, "stride"), self._padding(node, kernel))
        if node.stated.get("stands_for") == "norm" and (scale := diagonal(kernel)) is not None:
            return self._norm(self._title(node), self._plain(value), scale, bias)
        groups, kernel = sparse(kernel, groups, _whole(node.stated.get("groups"), groups))
        layer = replace(layer, groups=groups, bias=bool(bias.any()), weight_bits=self._bits(node))
        arrays = {"weight": kernel * self.factor.get(value, 1.0), **({"bias": bias} if layer.bias else {})}
        return self._add(layer, value, name=self._title(node), shape=self._windows(node, layer, value), **arrays)

    def _padding(self, node: NirNode, kernel: Array) -> Pair:
        padding = node.fields["padding"]
        if not isinstance(padding, str):
            return pair(node, "padding")
        if padding == "valid":
            return (0, 0)
        if padding == "same":
            if pair(node, "stride") != (1, 1) or not all(size % 2 for size in kernel.shape[2:]):
                raise GraphError(f"node '{node.name}': padding 'same' needs stride 1 and an odd kernel: write numbers")
            return kernel.shape[2] // 2, kernel.shape[3] // 2
        raise GraphError(f"node '{node.name}': padding {padding!r} is unknown: write 'same', 'valid' or numbers")

    def _linear(self, node: NirNode, value: str) -> str:
        matrix, shape = node.array("weight"), self.shapes[value]
        bias = node.array("bias").reshape(-1) if node.kind == "Affine" else np.zeros(matrix.shape[0])
        if matrix.ndim != 2 or shape != (matrix.shape[1],) or bias.shape != (matrix.shape[0],):
            raise self._mismatch(node, f"weight {matrix.shape}", value)
        group = _whole(node.stated.get("group"), 0)
        if node.stated.get("stands_for") == "vote" and group > 0 and votes(matrix, group):
            return self._add(Vote(group), self._plain(value), name=self._title(node), shape=(matrix.shape[0],))
        layer = Linear(matrix.shape[0], bias=bool(bias.any()), weight_bits=self._bits(node))
        arrays = {"weight": matrix * self.factor.get(value, 1.0), **({"bias": bias} if layer.bias else {})}
        return self._add(layer, value, name=self._title(node), shape=(matrix.shape[0],), **arrays)

    def _bits(self, node: NirNode) -> int:
        return _whole(node.stated.get("weight_bits"), 8)

    def _scale(self, node: NirNode, value: str) -> str:
        scale, shape = node.array("scale"), self.shapes[value]
        channels = np.broadcast_to(scale if scale.ndim != 1 or len(shape) == 1 else scale[:, None, None], shape)
        if (channels.reshape(shape[0], -1) != channels.reshape(shape[0], -1)[:, :1]).any():
            raise GraphError(f"node '{node.name}' scales every value differently: one scale per channel is the most")
        factor = self.factor.get(value, 1.0)
        return self._norm(self._title(node), value, channels.reshape(shape[0], -1)[:, 0] * factor)

    def _pool(self, node: NirNode, value: str) -> str:
        layer = AvgPool2d(pair(node, "kernel_size"), pair(node, "stride"), pair(node, "padding"))
        shape = self._windows(node, layer, value)
        name = self._add(layer, value, name=self._title(node), shape=shape)
        window = prod(layer.kernel_size) if node.kind == "SumPool2d" else 1
        self.factor[name] = self.factor.get(value, 1.0) * window
        return name

    def _flatten(self, node: NirNode, value: str) -> str:
        shape = self.shapes[value]
        if len(shape) == 1:
            return value
        first, last = int(node.array("start_dim")), int(node.array("end_dim"))
        if first not in (0, 1, -3) or last not in (-1, 2, 3):
            raise GraphError(f"node '{node.name}' flattens dimensions {first}..{last}: all of {shape} must be one")
        name = self._add(Flatten(), value, name=self._title(node), shape=(prod(shape),))
        self.factor[name] = self.factor.get(value, 1.0)
        return name

    def _neuron(self, node: NirNode, value: str) -> str:
        uniform = {key: self._uniform(node, key, value) for key in NEURON_FIELDS[node.kind] if key in node.fields}
        for key in ("v_leak", "v_reset"):
            if uniform.get(key, 0.0) != 0:
                raise GraphError(f"node '{node.name}': {key} is {uniform[key]:g}, only 0 is known here: shift v by it")
        shape, name = self.shapes[value], self._title(node)
        if node.kind == "Threshold":
            threshold = np.nextafter(np.float32(uniform["threshold"]), np.float32(np.inf))
            lif = Lif(0.0, 1.0, uniform["threshold"] if self.at_threshold else float(threshold))
        else:
            lif = self._lif(node, uniform)
        lif = replace(lif, gain=lif.gain * self.factor.get(value, 1.0))
        return self._add(lif, value, name=name, shape=shape)

    def _lif(self, node: NirNode, uniform: Mapping[str, float]) -> Lif:
        dt, r = self.file.dt, uniform["r"]
        if node.kind == "IF" and r == 1:
            r = 1 / dt
            self.assumed.append(f"node '{node.name}' (IF, r = 1) adds its input once a step")
        neuron = Continuous(uniform.get("tau"), r, uniform["v_threshold"])
        return to_lif(node.name, neuron, dt, self.at_threshold, node.stated)

    def _uniform(self, node: NirNode, key: str, value: str) -> float:
        array, shape = node.array(key), self.shapes[value]
        if array.size not in (1, shape[0], prod(shape)) or (
            array.ndim > 1 and array.squeeze().shape not in ((), tuple(size for size in shape if size > 1), shape[:1])
        ):
            raise self._mismatch(node, f"{key} {array.shape}", value)
        if np.ptp(array) > 1e-6 * abs(array).max():
            raise GraphError(
                f"node '{node.name}': {key} differs between neurons, it must be one number: split the layer"
            )
        return float(array.flat[0])

    def _windows(self, node: NirNode, layer: Conv2d | AvgPool2d, value: str) -> Shape:
        shape = self.shapes[value]
        if len(shape) != 3:
            raise self._mismatch(node, f"kernel {layer.kernel_size}", value)
        sizes = [
            (size + 2 * pad - kernel) // stride + 1
            for size, kernel, stride, pad in zip(shape[1:], layer.kernel_size, layer.stride, layer.padding, strict=True)
        ]
        if min(sizes) < 1:
            raise self._mismatch(node, f"kernel {layer.kernel_size}", value)
        return (layer.out_channels if isinstance(layer, Conv2d) else shape[0], *sizes)

    def _mismatch(self, node: NirNode, has: str, value: str) -> InputError:
        before = ", ".join(edge.source for edge in self.file.sources(node.name))
        return GraphError(
            f"node '{node.name}' ({node.kind}) has {has}, which does not fit shape {self.shapes[value]} "
            f"from '{before}': correct one of them"
        )


READERS: dict[str, Callable[[_Reader, NirNode, str], str]] = {
    "Input": lambda reader, node, _: reader._input(node),
    "Output": _Reader._output,
    "Conv2d": _Reader._conv,
    "Linear": _Reader._linear,
    "Affine": _Reader._linear,
    "Scale": _Reader._scale,
    "AvgPool2d": _Reader._pool,
    "SumPool2d": _Reader._pool,
    "Flatten": _Reader._flatten,
    "IF": _Reader._neuron,
    "LIF": _Reader._neuron,
    "Threshold": _Reader._neuron,
}
NEURON_FIELDS = {
    "LIF": ("tau", "r", "v_threshold", "v_leak", "v_reset"),
    "IF": ("r", "v_threshold", "v_reset"),
    "Threshold": ("threshold",),
}
