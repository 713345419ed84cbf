"""What the integers of a network really take: weights, membranes and how often these saturate; and widths for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikenas.graph import Lif
from spikenas.model import CURRENT_MAX, DECAY_ONE, IntegerModel, decay_q
from spikenas.snn.bounds import Reach, reaches
from spikenas.snn.integer_network import IntegerNetwork
from spikenas.snn.precision import MEMBRANE_BITS, neuron_layers, weighted_layers

BATCH_SIZE = 64
BINS = 32
SPAN = (-2.0, 2.0)  # of a histogram of membranes, in thresholds
SATURATED_MOST = 1e-4
"""share of updates that may saturate in calibration before a width counts as too narrow"""


@dataclass(frozen=True, slots=True)
class MembraneRange:
    """The membranes ``u`` of one Lif before the threshold and the clamp, over calibration images.

    ``bits`` they have; ``needs``: the fewest of 8, 12, 16 and 32 at this scale; ``proven``: no image can make them
    saturate; ``saturated``: share of updates that did; ``histogram``: shares from ``SPAN`` thresholds, the outermost
    bins with all beyond.
    """

    name: str
    bits: int
    needs: int
    proven: bool
    low: int
    high: int
    threshold: int
    saturated: float
    histogram: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WeightRange:
    """One layer's weights: shares of its integers in equal bins from -limit to limit; ``clipped``: at the limit."""

    name: str
    bits: int
    shift: int
    clipped: float
    histogram: tuple[float, ...]


def weight_ranges(model: IntegerModel) -> list[WeightRange]:
    """Histograms of all layers' weights."""
    found = []
    for name, layer in weighted_layers(model.graph).items():
        weight, limit = model.weights[f"{name}.weight"], 2 ** (layer.weight_bits - 1) - 1
        counts, _ = np.histogram(weight, min(2 * limit + 1, BINS - 1), (-limit - 0.5, limit + 0.5))
        clipped = float(np.mean(np.abs(weight) == limit))
        shift = int(model.weights[f"{name}.shift"])
        found.append(WeightRange(name, layer.weight_bits, shift, clipped, _shares(counts)))
    return found


def membrane_ranges(model: IntegerModel, images: npt.NDArray[np.uint8]) -> list[MembraneRange]:
    """The ranges of all neurons' membranes over ``images``."""
    network = _Watching(model)
    for start in range(0, len(images), BATCH_SIZE):
        network.run(torch.from_numpy(images[start : start + BATCH_SIZE]))
    limits = reaches(model)
    return [_range(model, name, lif, network, limits) for name, lif in neuron_layers(model.graph).items()]


def choose_widths(ranges: list[MembraneRange], *, stored: bool) -> dict[str, int]:
    """Membrane bits that cost nothing: the needed ones where a schedule stores membranes, 16 where it has none.

    ``stored``: whether the memory plan holds arrays of membranes. Without them a narrower one saves no memory and
    only takes the slower of the kernels.
    """
    return {one.name: one.needs if stored or one.needs > 16 else 16 for one in ranges}


class _Watching(IntegerNetwork):
    """Counts membranes before they are clamped."""

    def __init__(self, model: IntegerModel) -> None:
        super().__init__(model)
        self.counts = {name: np.zeros(BINS) for name in neuron_layers(self.graph)}
        self.beyond = {name: dict.fromkeys(MEMBRANE_BITS, 0) for name in neuron_layers(self.graph)}
        self.own_beyond = dict.fromkeys(self.counts, 0)
        self.seen = dict.fromkeys(self.counts, 0)
        self.limits = {name: [0, 0] for name in self.counts}

    def _fire(self, name: str, x: Tensor, v: Tensor | None, fired: Tensor) -> Tensor:
        layer = self.graph[name]
        assert isinstance(layer, Lif)
        u = x if v is None else (v * (decay_q(layer) / DECAY_ONE)).floor_().add_(x)
        threshold = self.weights[f"{name}.threshold"].reshape(1, -1, *[1] * (x.dim() - 2))
        low, high = SPAN
        where = ((u / threshold - low) * (BINS / (high - low))).floor_().clamp_(0, BINS - 1)
        self.counts[name] += torch.bincount(where.flatten().long(), minlength=BINS).numpy()
        for bits in MEMBRANE_BITS:
            self.beyond[name][bits] += _beyond(u, bits)
        self.own_beyond[name] += _beyond(u, layer.membrane_bits)
        self.seen[name] += u.numel()
        least, most = self.limits[name]
        self.limits[name] = [min(least, int(u.min())), max(most, int(u.max()))]
        return super()._fire(name, x, v, fired)


def _beyond(u: Tensor, bits: int) -> int:
    limit = 2 ** (bits - 1)
    return int(((u < -limit) | (u > limit - 1)).sum())


def _range(model: IntegerModel, name: str, lif: Lif, seen: _Watching, limits: Mapping[str, Reach]) -> MembraneRange:
    threshold = model.weights[f"{name}.threshold"]
    total = max(1, seen.seen[name])
    low, high = seen.limits[name]
    return MembraneRange(
        name=name,
        bits=lif.membrane_bits,
        needs=next(
            (
                bits
                for bits in MEMBRANE_BITS
                if int(threshold.max()) < 2 ** (bits - 1) and seen.beyond[name][bits] <= SATURATED_MOST * total
            ),
            MEMBRANE_BITS[-1],
        ),
        proven=never_saturates(model, name, lif, limits),
        low=low,
        high=high,
        threshold=int(np.median(threshold)),
        saturated=seen.own_beyond[name] / total,
        histogram=_shares(seen.counts[name]),
    )


def never_saturates(model: IntegerModel, name: str, lif: Lif, limits: Mapping[str, Reach]) -> bool:
    """Whether no image can take a membrane to the limit of its bits: resets only move it towards zero or lower.

    A reset to zero leaves 0, by subtraction ``u - threshold`` of a ``u`` that is no less.
    """
    source = limits[model.graph.sources[name][0].source]
    reach = max(int(-source.low.min()), int(source.high.max()))
    current = min(reach, CURRENT_MAX + 1)
    if lif.folded_norm:
        current += int(np.abs(model.weights[f"{name}.bias"]).max())
    u = 0
    for _ in range(model.graph.timesteps):
        u = -((-decay_q(lif) * u) >> 8) + current  # rounded away from zero
    return bool(u < 2 ** (lif.membrane_bits - 1))


def _shares(counts: npt.NDArray[Any]) -> tuple[float, ...]:
    total = max(1.0, float(counts.sum()))
    return tuple(round(float(count) / total, 5) for count in counts)
