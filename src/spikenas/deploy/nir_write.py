"""From a model to a NIR file."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.deploy.float_fold import fold_into_convolutions, norm_scale
from spikenas.deploy.nir_neuron import DT, to_continuous
from spikenas.errors import MissingTool, ModelError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
    Shape,
    Vote,
)
from spikenas.model import IntegerModel, Model

Array = npt.NDArray[Any]


def write_nir(model: Model, path: Path, *, dt: float = DT) -> tuple[str, ...]:
    """Write ``model`` for other simulators; returns what they will not know of it, one sentence each.

    BatchNorm2d is folded into the convolution before it; elsewhere it becomes a diagonal 1x1 convolution. An Add
    becomes several edges into one node. Depthwise kernels are written dense, because nir's type check refuses groups.
    In a graph with delayed edges the names are numbered, because simulators find the delayed edge by order.

    Raises ModelError for an integer model or a kernel that is not square, MissingTool without the package nir.
    """
    if isinstance(model, IntegerModel):
        raise ModelError("NIR has no integer arithmetic: export the float model")
    nir = _package()
    _check(model)
    writer = _Writer(nir, fold_into_convolutions(model), dt)
    graph = writer.graph()
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        nir.write(temporary, graph)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return _notes(writer.model, graph)


def _package() -> ModuleType:
    try:
        import nir
    except ImportError as error:
        raise MissingTool("NIR files need the package nir: pip install 'spikenas[nir]'") from error
    package: ModuleType = nir
    return package


def _check(model: Model) -> None:
    for node in model.graph.nodes:
        if isinstance(node.layer, Lif) and node.layer.folded_norm:
            raise ModelError(f"node '{node.name}' has a folded norm, which is integer: export the float model")
        if isinstance(node.layer, Conv2d) and len(set(node.layer.kernel_size)) > 1:
            raise ModelError(
                f"node '{node.name}': kernel {node.layer.kernel_size}, nir takes square ones: pad it with zeros"
            )


def _notes(model: Model, graph: Any) -> tuple[str, ...]:
    notes = []
    if model.graph.views > 1:
        notes.append(
            "the network is run on the mirror image as well and the outputs are averaged, which NIR cannot say"
        )
    layers = model.graph.layers.items()
    if soft := [name for name, layer in layers if isinstance(layer, Lif) and layer.reset is not Reset.ZERO]:
        notes.append(f"{len(soft)} neurons reset by subtraction ('{soft[0]}' first), which only metadata can say")
    if late := [name for name, node in graph.nodes.items() if type(node).__name__ == "Delay"]:
        notes.append(f"node '{late[0]}' is a Delay, as no cycle runs there: spikingjelly and snntorch do not know it")
    return tuple(notes)


class _Writer:
    """One file. ``terms`` holds, for each layer, the NIR nodes whose sum is its value."""

    def __init__(self, nir: ModuleType, model: Model, dt: float) -> None:
        self.nir, self.model, self.dt = nir, model, dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.delayed: list[tuple[str, str]] = []
        self.terms: dict[str, list[str]] = {}

    def graph(self) -> Any:
        structure = self.model.graph
        for node in structure.nodes:
            self._layer(node)
        for edge in structure.edges:
            if edge.delay:
                self._feedback(edge)
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=self._metadata())

    def _feedback(self, edge: Edge) -> None:
        """An edge that closes a cycle is delayed in every simulator; elsewhere it takes a Delay node."""
        source, target = self.terms[edge.source][0], self.terms[edge.target][0]
        if _leads(self.model.graph, edge.target, edge.source):
            self.delayed.append((source, target))
        else:
            name = self._name(f"{source}_late")
            delay = np.full(self.model.graph.shapes[edge.source], self.dt)
            self.nodes[name] = self.nir.Delay(delay)
            self.edges.append((source, name))
            source = name
        self.edges.append((source, target))

    def _metadata(self) -> dict[str, Any]:
        structure = self.model.graph
        image = structure[structure.input]
        assert isinstance(image, Input)
        resets = sorted({layer.reset.value for layer in structure.layers.values() if isinstance(layer, Lif)})
        return {
            "written_by": "spikenas",
            "timesteps": structure.timesteps,
            "dt": self.dt,
            "units": "dt and tau in seconds, everything else without unit",
            "reset": " and ".join(resets),
            "ties": "spikenas fires at v >= threshold, NIR at v > v_threshold: v_threshold is the float32 just below",
            "initial_state": "v = 0 at the start of every sample",
            "input": "(pixel - 128) / 128, " + ("the same image at every step" if image.static else "a frame a step"),
            "static_input": int(image.static),
            "output": "mean over the timesteps",
            "delayed_edges": json.dumps(self.delayed),
        }

    def _layer(self, node: Node) -> None:
        structure = self.model.graph
        before = [term for edge in structure.sources[node.name] if not edge.delay for term in self.terms[edge.source]]
        if isinstance(node.layer, Mean) or (isinstance(node.layer, Add) and self._dissolves(node.name)):
            self.terms[node.name] = before
            return
        name = self._name(node.name)
        translated = self._translate(node)
        translated.metadata = {"name": node.name, **_stated(node)}
        self.nodes[name] = translated
        self.edges += [(term, name) for term in self._distinct(before, structure.shapes[node.name])]
        self.terms[node.name] = [name]

    def _dissolves(self, name: str) -> bool:
        """Whether an Add is nothing but edges: not where a delay or the output needs its value as one node."""
        structure = self.model.graph
        delays = any(edge.delay for edge in structure.sources[name] + structure.consumers[name])
        return not delays and not any(isinstance(structure[edge.target], Mean) for edge in structure.consumers[name])

    def _distinct(self, terms: list[str], shape: Shape) -> list[str]:
        """A term that counts twice needs a node in between, since equal edges count once."""
        distinct: list[str] = []
        for term, count in Counter(terms).items():
            distinct.append(term)
            for copy in range(1, count):
                name = self._name(f"{term}_again{copy}")
                self.nodes[name] = self._identity(self._shape_of(term))
                self.nodes[name].metadata = {"name": name, "stands_for": "add"}
                self.edges.append((term, name))
                distinct.append(name)
        return distinct

    def _shape_of(self, term: str) -> Shape:
        return self.model.graph.shapes[self.nodes[term].metadata["name"]]

    def _name(self, name: str) -> str:
        safe = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
        if self.model.graph.has_feedback:
            safe = f"n{len(self.nodes):04d}_{safe}"
        while safe in self.nodes:
            safe += "_"
        return safe

    def _translate(self, node: Node) -> Any:
        nir, structure, weights = self.nir, self.model.graph, self.model.weights
        shape = structure.shapes[node.name]
        match node.layer:
            case Input():
                return nir.Input({"input": np.array(shape)})
            case Output():
                return nir.Output({"output": np.array(shape)})
            case Conv2d() as conv:
                kernel = _dense(weights[f"{node.name}.weight"], conv.groups)
                bias = weights[f"{node.name}.bias"] if conv.bias else np.zeros(conv.out_channels, np.float32)
                size = structure.in_shape(node.name)[1:]
                return nir.Conv2d(size, kernel, conv.stride, conv.padding, (1, 1), 1, np.asarray(bias))
            case BatchNorm2d():
                scale, offset = norm_scale(self.model, node.name)
                return self._pointwise(np.diag(scale), offset, shape)
            case Lif() as lif:
                return self._neuron(lif, shape)
            case AvgPool2d() as pool:
                return nir.AvgPool2d(np.array(pool.kernel_size), np.array(pool.stride), np.array(pool.padding))
            case Linear() as linear:
                matrix = np.asarray(weights[f"{node.name}.weight"])
                return (
                    nir.Affine(matrix, np.asarray(weights[f"{node.name}.bias"])) if linear.bias else nir.Linear(matrix)
                )
            case Flatten():
                return nir.Flatten(
                    {"input": np.array(structure.in_shape(node.name))}, -len(structure.in_shape(node.name)), -1
                )
            case Vote() as vote:
                return nir.Linear(
                    np.kron(np.eye(shape[0]), np.full((1, vote.group), 1 / vote.group)).astype(np.float32)
                )
            case _:
                return self._identity(shape)

    def _neuron(self, lif: Lif, shape: Shape) -> Any:
        neuron = to_continuous(lif, self.dt)
        zero, r, threshold = np.zeros(shape), np.full(shape, neuron.r), np.full(shape, neuron.threshold)
        if neuron.tau is None:
            return self.nir.IF(r=r, v_threshold=threshold, v_reset=zero)
        tau = np.full(shape, neuron.tau)
        return self.nir.LIF(tau=tau, r=r, v_leak=zero, v_threshold=threshold, v_reset=zero)

    def _identity(self, shape: Shape) -> Any:
        if len(shape) == 1:
            return self.nir.Linear(np.eye(shape[0], dtype=np.float32))
        return self._pointwise(np.eye(shape[0]), np.zeros(shape[0]), shape)

    def _pointwise(self, matrix: Array, bias: Array, shape: Shape) -> Any:
        kernel = matrix[:, :, None, None].astype(np.float32)
        return self.nir.Conv2d(shape[1:], kernel, (1, 1), (0, 0), (1, 1), 1, bias.astype(np.float32))


def _leads(graph: Graph, start: str, end: str) -> bool:
    """Whether ``end`` depends on ``start`` within one step."""
    reached = {start}
    for node in graph.nodes:
        if any(edge.source in reached and not edge.delay for edge in graph.sources[node.name]):
            reached.add(node.name)
    return end in reached


def _dense(kernel: Array, groups: int) -> Array:
    """(out, in / groups, h, w) -> (out, in, h, w) with zeros between the groups."""
    outs, ins = kernel.shape[0] // groups, kernel.shape[1]
    dense = np.zeros((kernel.shape[0], ins * groups, *kernel.shape[2:]), np.float32)
    for group in range(groups):
        rows = slice(group * outs, (group + 1) * outs)
        dense[rows, group * ins : (group + 1) * ins] = kernel[rows]
    return dense


def _stated(node: Node) -> dict[str, Any]:
    """What the NIR node itself cannot say."""
    match node.layer:
        case Conv2d() as conv:
            return {"weight_bits": conv.weight_bits, "groups": conv.groups}
        case Linear() as linear:
            return {"weight_bits": linear.weight_bits}
        case Lif() as lif:
            constants = {"decay": float(lif.decay), "gain": float(lif.gain), "threshold": float(lif.threshold)}
            return {"reset": lif.reset.value, "membrane_bits": lif.membrane_bits, **constants}
        case BatchNorm2d():
            return {"stands_for": "norm"}
        case Vote() as vote:
            return {"stands_for": "vote", "group": vote.group}
        case Add():
            return {"stands_for": "add"}
        case _:
            return {}
