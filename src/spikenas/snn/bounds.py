"""How far each value of an integer model can reach, proven by interval arithmetic over its actual weights.

Serves to choose number types that cannot overflow: a sum is exact in float32 below 2**24, in int32 below 2**31.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Input, Kind, Layer, Lif, Linear, Mean, Output, Vote
from spikenas.model import CURRENT_MAX, CURRENT_MIN, IntegerModel, in_accumulator

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """``low`` <= 0 <= ``high``: limits of a node's output per channel; ``peak``: of any sum on the way to it."""

    low: Ints
    high: Ints
    peak: int


def reaches(model: IntegerModel) -> Mapping[str, Reach]:
    """The reach of every node."""
    graph = model.graph
    found = {name: _nothing(shape[0]) for name, shape in graph.shapes.items()}
    for _ in range(graph.timesteps if graph.has_feedback else 1):  # each round lets delayed values go one step on
        for node in graph.nodes:
            found[node.name] = _reach(model, node.name, node.layer, [found[e.source] for e in graph.sources[node.name]])
    return found


def _nothing(channels: int) -> Reach:
    return Reach(np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0)


def _reach(model: IntegerModel, name: str, layer: Layer, inputs: list[Reach]) -> Reach:
    graph = model.graph
    if isinstance(layer, Input):
        return _made(np.full(layer.shape[0], -128), np.full(layer.shape[0], 127))
    low, high = inputs[0].low, inputs[0].high
    match layer:
        case Conv2d() | Linear():
            reach = _weighted(model, name, layer, inputs[0])
        case Lif():
            return _neuron(model, name, layer, inputs[0])
        case Add():
            reach = _made(np.sum([i.low for i in inputs], axis=0), np.sum([i.high for i in inputs], axis=0))
        case AvgPool2d() if graph.kinds[name] is Kind.CURRENT:
            size = layer.kernel_size[0] * layer.kernel_size[1]
            reach = Reach(low, high, 2 * size * _largest(low, high) + size)
        case AvgPool2d():
            size = layer.kernel_size[0] * layer.kernel_size[1]
            reach = _made(low * size, high * size)
        case Flatten():
            repeat = graph.shapes[name][0] // len(low)
            reach = _made(np.repeat(low, repeat), np.repeat(high, repeat))
        case Vote():
            reach = _made(low.reshape(-1, layer.group).sum(axis=1), high.reshape(-1, layer.group).sum(axis=1))
        case Mean():
            reach = _made(low * graph.inference_steps, high * graph.inference_steps)
        case _:
            reach = inputs[0]
    stored = graph.kinds[name] is Kind.CURRENT and not in_accumulator(graph, name)
    if stored and not isinstance(layer, Mean | Output):
        low, high = np.clip(reach.low, CURRENT_MIN, CURRENT_MAX), np.clip(reach.high, CURRENT_MIN, CURRENT_MAX)
        return Reach(low, high, reach.peak)
    return reach


def _weighted(model: IntegerModel, name: str, layer: Conv2d | Linear, x: Reach) -> Reach:
    weight = model.weights[f"{name}.weight"].astype(np.int64)
    weight = weight.reshape(*weight.shape[:2], -1)
    low, high = _per_weight(x.low, layer, len(weight)), _per_weight(x.high, layer, len(weight))
    products = weight * low[:, :, None], weight * high[:, :, None]
    least = np.minimum(*products).sum(axis=(1, 2))
    most = np.maximum(*products).sum(axis=(1, 2))
    left, right = model.shifts(name)
    half = 1 << right >> 1
    least, most = least << left, most << left
    bias = model.weights[f"{name}.bias"].astype(np.int64) if layer.bias else np.zeros(len(weight), np.int64)
    after = _made(((least + half) >> right) + bias, ((most + half) >> right) + bias)
    return Reach(after.low, after.high, max(after.peak, _largest(least, most) + half))


def _per_weight(limit: Ints, layer: Conv2d | Linear, outputs: int) -> Ints:
    """[outputs, inputs of one output]: each output of a grouped convolution sees its own group's channels."""
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    return np.repeat(limit.reshape(groups, -1), outputs // groups, axis=0)


def _neuron(model: IntegerModel, name: str, layer: Lif, x: Reach) -> Reach:
    current = min(_largest(x.low, x.high), -CURRENT_MIN)
    if layer.folded_norm:
        current += int(np.abs(model.weights[f"{name}.bias"]).max())
    ones = np.ones(model.graph.shapes[name][0], np.int64)
    return Reach(0 * ones, ones, 256 * 2 ** (layer.membrane_bits - 1) + current)


def _made(low: Ints, high: Ints) -> Reach:
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    return Reach(low, high, _largest(low, high))


def _largest(low: Ints, high: Ints) -> int:
    return int(max(-low.min(), high.max()))
