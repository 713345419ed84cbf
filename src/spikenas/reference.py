"""The interpreter in numpy: what "correct" means, in floating point and in integers. Slow and obvious.

Everything fast (the torch network, the C runtime) is tested against :func:`run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spikenas.errors import ModelError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Kind,
    Layer,
    Lif,
    Linear,
    Mean,
    Output,
    Reset,
    Vote,
)
from spikenas.model import CURRENT_MAX, CURRENT_MIN, IntegerModel, Model, decay_q, in_accumulator

Array = npt.NDArray[Any]
PIXEL_ZERO = 128  # the pixel that is 0 to the network


@dataclass(frozen=True)
class Trace:
    """``outputs`` [N, classes]; ``values``: every node's output [T, N, ...] (T = 1 where it is static).

    Where the Input is mirrored, values before the Mean are of all images, then of their mirror images, [T, 2 N, ...].
    """

    outputs: Array
    values: Mapping[str, Array]


def run(model: Model | IntegerModel, images: npt.NDArray[np.uint8]) -> Trace:
    """Run a batch through the model.

    ``images``: uint8 [N, C, H, W], or [N, T, C, H, W] for an Input that is not static. The network sees
    ``(pixel - 128) / 128``, in an integer model ``pixel - 128``.
    Outputs are float logits averaged over time, or the integer sums over time.
    Raises ModelError when the images have another shape than the graph's input.
    """
    graph = model.graph
    if images.dtype != np.uint8 or images.shape[1:] != graph.sample_shape:
        raise ModelError(f"images are {images.dtype} {images.shape[1:]}: the network takes uint8 {graph.sample_shape}")
    frames = _frames(graph, images if graph.views == 1 else np.concatenate((images, images[..., ::-1])))
    arithmetic: _Arithmetic = _Integer(model) if isinstance(model, IntegerModel) else _Float(model)
    values: dict[str, list[Array]] = {node.name: [] for node in graph.nodes}
    membranes: dict[str, Array] = {}
    for t in range(graph.timesteps):
        for node in graph.nodes:
            if t and node.name in graph.static:
                continue
            if isinstance(node.layer, Input):
                value = arithmetic.image(frames[t])
            elif isinstance(node.layer, Mean | Output):
                continue
            else:
                inputs = _inputs(graph, node.name, values, t)
                if isinstance(node.layer, Lif):
                    membrane = membranes.get(node.name, np.zeros_like(inputs[0]))
                    value, membranes[node.name] = arithmetic.neuron(node.name, node.layer, membrane, inputs[0])
                else:
                    value = arithmetic.layer(node.name, node.layer, inputs)
            values[node.name].append(value)
    stacked = {name: np.stack(steps) for name, steps in values.items() if steps}
    return _finish(graph, stacked, arithmetic)


class _Arithmetic(Protocol):
    def image(self, pixels: Array) -> Array: ...
    def neuron(self, name: str, layer: Lif, v: Array, x: Array) -> tuple[Array, Array]: ...
    def layer(self, name: str, layer: Layer, inputs: list[Array]) -> Array: ...
    def mean(self, steps: Array, timesteps: int) -> Array: ...


class _Float:
    """Double precision, so that differences from float32 networks are theirs."""

    def __init__(self, model: Model) -> None:
        self.weights = {name: array.astype(np.float64) for name, array in model.weights.items()}

    def image(self, pixels: Array) -> Array:
        return (pixels.astype(np.float64) - PIXEL_ZERO) / PIXEL_ZERO

    def neuron(self, name: str, layer: Lif, v: Array, x: Array) -> tuple[Array, Array]:
        u = layer.decay * v + layer.gain * x
        s = (u >= layer.threshold).astype(u.dtype)
        return s, _reset(layer, u, s, layer.threshold)

    def mean(self, steps: Array, timesteps: int) -> Array:
        return np.asarray(steps.mean(axis=0))

    def layer(self, name: str, layer: Layer, inputs: list[Array]) -> Array:
        x = inputs[0]
        match layer:
            case Conv2d() | Linear():
                y = _weighted_sum(layer, x, self.weights[f"{name}.weight"])
                return y + _per_channel(self.weights[f"{name}.bias"], y) if layer.bias else y
            case BatchNorm2d():
                get = {key: _per_channel(self.weights[f"{name}.{key}"], x) for key in _NORM}
                scale = get["weight"] / np.sqrt(get["running_var"] + layer.eps)
                return (x - get["running_mean"]) * scale + get["bias"]
            case AvgPool2d():
                return _window_sum(layer, x) / (layer.kernel_size[0] * layer.kernel_size[1])
            case Vote():
                return np.asarray(x.reshape(len(x), -1, layer.group).mean(axis=2))
            case _:
                return _structural(layer, inputs)


class _Integer:
    """The table in :mod:`spikenas.model`, in 64 bits so that nothing wraps unseen."""

    def __init__(self, model: IntegerModel) -> None:
        self.model, self.graph = model, model.graph
        self.weights = {name: array.astype(np.int64) for name, array in model.weights.items()}

    def image(self, pixels: Array) -> Array:
        return pixels.astype(np.int64) - PIXEL_ZERO

    def neuron(self, name: str, layer: Lif, v: Array, x: Array) -> tuple[Array, Array]:
        x = np.clip(x, CURRENT_MIN, CURRENT_MAX)
        if layer.folded_norm:
            x = _per_channel(self.weights[f"{name}.sign"], x) * x + _per_channel(self.weights[f"{name}.bias"], x)
        limit = 2 ** (layer.membrane_bits - 1)
        threshold = _per_channel(self.weights[f"{name}.threshold"], x)
        u = np.clip(((decay_q(layer) * v) >> 8) + x, -limit, limit - 1)
        s = (u >= threshold).astype(np.int64)
        return s, _reset(layer, u, s, threshold)

    def mean(self, steps: Array, timesteps: int) -> Array:
        return np.asarray(steps.sum(axis=0) * (timesteps // len(steps)))

    def layer(self, name: str, layer: Layer, inputs: list[Array]) -> Array:
        x = inputs[0]
        match layer:
            case Conv2d() | Linear():
                left, right = self.model.shifts(name)
                y = _weighted_sum(layer, x, self.weights[f"{name}.weight"])
                y = ((y << left) + (1 << right >> 1)) >> right
                if layer.bias:
                    y = y + _per_channel(self.weights[f"{name}.bias"], y)
            case AvgPool2d():
                y = _window_sum(layer, x)
                if self.graph.kinds[name] is Kind.CURRENT:
                    size = layer.kernel_size[0] * layer.kernel_size[1]
                    y = (2 * y + size) // (2 * size)
            case Vote():
                y = x.reshape(len(x), -1, layer.group).sum(axis=2)
            case _:
                y = _structural(layer, inputs)
        if self.graph.kinds[name] is Kind.CURRENT and not in_accumulator(self.graph, name):
            y = np.clip(y, CURRENT_MIN, CURRENT_MAX)
        return y


_NORM = ("weight", "bias", "running_mean", "running_var")


def _frames(graph: Graph, images: npt.NDArray[np.uint8]) -> list[Array]:
    return [images] * graph.timesteps if graph.input in graph.static else list(np.moveaxis(images, 1, 0))


def _inputs(graph: Graph, name: str, values: Mapping[str, list[Array]], t: int) -> list[Array]:
    """What enters ``name`` at step ``t``: a delayed edge brings the step before, nothing at the first step."""
    present: list[Array] = []
    for edge in graph.sources[name]:
        steps = values[edge.source]
        if edge.delay == 0:
            present.append(steps[min(t, len(steps) - 1)])
        elif t:
            present.append(steps[min(t - 1, len(steps) - 1)])
    return present


def _finish(graph: Graph, values: dict[str, Array], arithmetic: _Arithmetic) -> Trace:
    """Mean over time and what follows it, outside the loop over time."""
    for node in graph.nodes:
        if isinstance(node.layer, Mean):
            steps = values[graph.sources[node.name][0].source]
            steps = np.concatenate(np.split(steps, graph.views, axis=1))
            values[node.name] = arithmetic.mean(steps, graph.inference_steps)[np.newaxis]
        elif isinstance(node.layer, Output):
            values[node.name] = values[graph.sources[node.name][0].source]
    return Trace(values[graph.output][-1], values)


def _structural(layer: Layer, inputs: list[Array]) -> Array:
    match layer:
        case Add():
            total = inputs[0]
            for other in inputs[1:]:
                total = total + other
            return total
        case Flatten():
            return inputs[0].reshape(len(inputs[0]), -1)
        case _:
            raise NotImplementedError(f"reference has no rule for {type(layer).__name__}")


def _reset(layer: Lif, u: Array, s: Array, threshold: Any) -> Array:
    after: Array = u * (1 - s) if layer.reset is Reset.ZERO else u - s * threshold
    return after


def _per_channel(array: Array, like: Array) -> Array:
    return array.reshape(1, -1, *[1] * (like.ndim - 2))


def _weighted_sum(layer: Conv2d | Linear, x: Array, weight: Array) -> Array:
    """The sums in double precision: exact for integers below 2**53, and BLAS is quick."""
    if isinstance(layer, Linear):
        y: Array = x.astype(np.float64) @ weight.astype(np.float64).T
        return y.astype(x.dtype) if x.dtype == np.int64 else y
    windows = _windows(x, layer.kernel_size, layer.stride, layer.padding)
    n, c, height, width = windows.shape[:4]
    grouped = windows.reshape(n, layer.groups, c // layer.groups, height, width, *layer.kernel_size)
    kernels = weight.reshape(layer.groups, -1, *weight.shape[1:])
    y = np.einsum("ngchwij,gocij->ngohw", grouped.astype(np.float64), kernels.astype(np.float64), optimize=True)
    y = y.reshape(n, layer.out_channels, height, width)
    return np.rint(y).astype(np.int64) if x.dtype == np.int64 else y


def _window_sum(layer: AvgPool2d, x: Array) -> Array:
    total: Array = _windows(x, layer.kernel_size, layer.stride, layer.padding).sum(axis=(-1, -2))
    return total


def _windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """[N, C, H, W] -> [N, C, H', W', kernel height, kernel width], zero-padded."""
    (ph, pw), (sh, sw) = padding, stride
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, ::sh, ::sw]
