"""The least and the largest value that every sum of an integer model can take.

They prove, for any image, that 16 bits are enough for a step's sums or that 32 are; what is not proven is not
written with fewer bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.steps import Group, Reading, Step, Term
from spikenas.errors import QuantizeError
from spikenas.graph import Conv2d, Input, Kind, Lif, Linear
from spikenas.model import CURRENT_MAX, CURRENT_MIN, IntegerModel, decay_q

Array = npt.NDArray[Any]
INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Bounds:
    """``low`` <= value <= ``high`` for every channel; low <= 0 <= high, so that parts of a sum keep them too."""

    low: Array
    high: Array

    def within(self, least: int, most: int) -> bool:
        return bool(self.low.min() >= least and self.high.max() <= most)

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class StepBounds:
    """Of the step's sums, and of those of each group (with the bias, before its shift)."""

    total: Bounds
    groups: tuple[Bounds, ...]


def step_bounds(model: IntegerModel, steps: tuple[Step, ...], work: list[tuple[Group, ...]]) -> list[StepBounds]:
    """The bounds of all steps. Raises QuantizeError where a sum could leave the bits that hold it."""
    graph = model.graph
    stored: dict[str, Bounds] = {}
    for node in graph.nodes:
        channels = graph.shapes[node.name][0]
        if isinstance(node.layer, Input):
            stored[node.name] = _range(channels, -128, 127)
        elif isinstance(node.layer, Lif):
            stored[node.name] = _range(channels, 0, 1)
        else:
            stored[node.name] = _range(channels, 0, 0)
    result: list[StepBounds] = []
    for _ in range(graph.timesteps if graph.has_feedback else 1):
        result = []
        for step, step_groups in zip(steps, work, strict=True):
            bounds = _step(model, step_groups, stored)
            result.append(bounds)
            if step.node in step.writes and not isinstance(graph[step.node], Lif):
                stored[step.node] = _stored(model, step.node, bounds.total, stored[step.node])
    for step, bounds in zip(steps, result, strict=True):
        times = graph.inference_steps if step.node == graph.output else 1
        for part in (bounds.total, *bounds.groups):
            if not part.within(-INT32_MAX // times, INT32_MAX // times):
                raise QuantizeError(f"node '{step.node}': its sums can leave 32 bits: use smaller weights or shifts")
    return result


def stays_within(layer: Lif, current: Bounds, timesteps: int) -> bool:
    """Whether no membrane can reach the limit of its bits in so many steps, whatever the currents.

    A reset never moves a membrane away from zero: it happens at u >= threshold > 0 and leaves 0 or u - threshold.
    """
    limit = 2 ** (layer.membrane_bits - 1)
    low, high = max(int(current.low.min()), CURRENT_MIN), min(int(current.high.max()), CURRENT_MAX)
    least = most = 0
    for _ in range(timesteps):
        least, most = ((decay_q(layer) * least) >> 8) + low, ((decay_q(layer) * most) >> 8) + high
    return bool(least >= -limit and most < limit)


def _range(channels: int, low: int, high: int) -> Bounds:
    return Bounds(np.full(channels, low, np.int64), np.full(channels, high, np.int64))


def _stored(model: IntegerModel, name: str, value: Bounds, before: Bounds) -> Bounds:
    """What a stored number can be: currents are clamped, counts must fit."""
    if model.graph.kinds[name] is not Kind.CURRENT and not value.within(CURRENT_MIN, CURRENT_MAX):
        raise QuantizeError(f"node '{name}': its counts can leave 16 bits: pool smaller windows")
    low = np.minimum(np.maximum(value.low, CURRENT_MIN), before.low)
    return Bounds(low, np.maximum(np.minimum(value.high, CURRENT_MAX), before.high))


def _step(model: IntegerModel, step_groups: tuple[Group, ...], stored: Mapping[str, Bounds]) -> StepBounds:
    inside, total = [], None
    for group in step_groups:
        bounds, result = _group(model, group, stored)
        inside.append(bounds)
        total = result if total is None else total + result
    assert total is not None
    return StepBounds(total, tuple(inside))


def _group(model: IntegerModel, group: Group, stored: Mapping[str, Bounds]) -> tuple[Bounds, Bounds]:
    """(sums before the shift, contribution to the step's sums)."""
    parts = [_term(model, group.layer, term, stored[term.source]) for term in group.terms]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    low, high = total.low, total.high
    if group.layer is not None:
        _, shift = model.shifts(group.layer)  # a shift to the left is in the terms already
        bias = layer_bias(model, group.layer)
        # The bias may join before the shift, half of the last bit with it.
        moved = (bias << shift) + (1 << shift >> 1)
        total = Bounds(low + np.minimum(moved, 0), high + np.maximum(moved, 0))
        half = 1 << shift >> 1
        low = ((low + half) >> shift) + np.minimum(bias, 0)
        high = ((high + half) >> shift) + np.maximum(bias, 0)
    voted = Bounds(low.reshape(-1, group.vote).sum(axis=1), high.reshape(-1, group.vote).sum(axis=1))
    return total, voted


def _term(model: IntegerModel, name: str | None, term: Term, source: Bounds) -> Bounds:
    low, high = np.minimum(source.low, 0), np.maximum(source.high, 0)
    if name is None:
        count = term.pool.taps if term.reading is Reading.UNITS else 1
        if term.reading is Reading.POOL and model.graph.kinds[term.source] is not Kind.CURRENT:
            count = term.window.taps
        taps = term.window.taps if term.flat else 1
        return Bounds(np.repeat(low * count, taps), np.repeat(high * count, taps))
    layer, weight = model.graph[name], moved_weights(model, name)
    if isinstance(layer, Linear):
        weight = weight.reshape(weight.shape[0], len(low), -1)
    else:
        weight = weight.reshape(*weight.shape[:2], -1)
    positive, negative = np.maximum(weight, 0).sum(axis=2), np.minimum(weight, 0).sum(axis=2)
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    low_in, high_in = (_repeat(part * term.pool.taps, groups, len(weight)) for part in (low, high))
    return Bounds(
        (positive * low_in + negative * high_in).sum(axis=1), (positive * high_in + negative * low_in).sum(axis=1)
    )


def _repeat(channels: Array, groups: int, outputs: int) -> Array:
    """The input channels that each output sees: [in] -> [out, in / groups]."""
    return np.repeat(channels.reshape(groups, -1), outputs // groups, axis=0)


def moved_weights(model: IntegerModel, name: str) -> Array:
    """A Conv2d's or Linear's weights, shifted to the left where its sum is."""
    left, _ = model.shifts(name)
    return model.weights[f"{name}.weight"].astype(np.int64) << left


def layer_bias(model: IntegerModel, name: str) -> Array:
    """A Conv2d's or Linear's bias, zeros without one."""
    bias = model.weights.get(f"{name}.bias")
    return np.zeros(model.graph.shapes[name][0], np.int64) if bias is None else bias.astype(np.int64)
