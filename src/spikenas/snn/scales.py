"""The scale of every current of an integer network: real value = scale * integer, per channel.

Nothing is ever multiplied to change a scale, so currents that meet must share one; see
:mod:`spikenas.snn.quantize` for the rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor, log2, sqrt

import numpy as np

from spikenas.cost.cost import DEFAULT_SPIKE_RATE
from spikenas.errors import QuantizeError
from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, Input, Kind, Lif, Linear, Mean, Output, Vote
from spikenas.model import CURRENT_MAX, CURRENT_MIN, FEW_BITS, LEFT_MAX, RIGHT_MAX, in_accumulator, is_coarse_alone
from spikenas.snn.calibration import Calibration
from spikenas.snn.compensation import best_steps, compensated
from spikenas.snn.folding import Floats, Folded
from spikenas.snn.left_shifts import best_lefts

PIXEL_SCALE = 1.0 / 128.0
PIXEL_REACH = 128
BIAS_LIMIT = 2**14  # half of 16 bits, so that a current has room beside its bias
SUM_LIMIT = 2**30  # half of 32 bits, likewise
WIDEST_ALONE, WIDEST_SHARED = 2.0**8, 2.0**4
TINY = 1e-30
LEFT_SPARE = 3  # bits by which a layer may be coarser than others of as many bits that it meets
CLIPPED_BITS = 5  # up to here the largest weights may be cut off, for the sake of all others
CLIP_SHARES = np.geomspace(1.0, 0.15, 24)
HAIR = 1e-6  # relative: weights in float32 miss the quotients that were meant by less


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """By layer: the shift of its sum, and per channel the real value of one more in an integer weight."""

    shifts: Mapping[str, int]
    steps: Mapping[str, Floats]


class Scales:
    """Scales and shifts, found group by group from the input on.

    ``calibration``: currents seen there are kept within 16 bits, weights of few bits get steps that suit what they met.
    ``grid``: what the weights were trained on; None: what suits them best.
    """

    def __init__(self, folded: Folded, calibration: Calibration, grid: Grid | None = None) -> None:
        self.folded, self.graph, self.calibration = folded, folded.graph, calibration
        self.grid = grid
        self.groups = tied_groups(self.graph)
        self._scales: dict[str, Floats] = {}
        self._shifts: dict[str, int] = {}
        self._underway: set[str] = set()

    def scale(self, name: str) -> Floats:
        """Real units per integer at the node's output, per channel."""
        if name not in self._scales:
            if name in self._underway:
                raise QuantizeError(
                    f"node '{name}': its currents come back to it through weights without a Lif between, "
                    "so that no scale suits both ends: put a Lif on the way"
                )
            self._underway.add(name)
            if name in self.groups:
                self._solve(self.groups[name])
            else:
                self._scales[name] = self._fixed(name)
        return self._scales[name]

    def shift(self, name: str) -> int:
        """By how many bits a Conv2d or Linear sums finer than its scale; negative: coarser."""
        self.scale(name)
        return self._shifts[name]

    def step(self, name: str) -> Floats:
        """Real units per integer in the weights of a Conv2d or Linear, per channel."""
        step: Floats = self.scale(name) / 2.0 ** self.shift(name)
        return step

    def chosen(self) -> Grid:
        """The shifts of all layers, and the steps of their weights."""
        layers = self.folded.layers
        return Grid({name: self.shift(name) for name in layers}, {name: self.step(name) for name in layers})

    def fine_weight(self, name: str) -> Floats:
        """Weights that take the integers of the layer's input to real units."""
        weight = self.folded.layers[name].weight
        fine: Floats = weight * self.input_scale(name).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
        return fine

    def whole_weights(self, name: str) -> tuple[Floats, Floats]:
        """A layer's weights [out, in, ...] and bias [out], in units of its integer weights."""
        step = self.step(name)
        return _over(self.fine_weight(name), step), self.folded.layers[name].bias / step

    def compensated_weights(self, name: str) -> tuple[Floats, Floats]:
        """The same, changed so that the nearest integers err least together on what they met in calibration."""
        weight, bias = self.whole_weights(name)
        layer, every = _weighted(self.graph, name), self._rows(name, weight, bias)
        rounded = weight[0].size
        for rows, met in self._met(name):
            every[rows] = compensated(every[rows], met, largest_weight(layer.weight_bits), rounded)
        return every[:, :rounded].reshape(weight.shape), every[:, rounded] if layer.bias else bias

    def _rows(self, name: str, weight: Floats, bias: Floats) -> Floats:
        """[out, n]: what meets a layer's inputs, the bias, if it has one, last."""
        biases = [bias] if _weighted(self.graph, name).bias else []
        return np.column_stack([weight.reshape(len(weight), -1), *biases])

    def _met(self, name: str) -> Iterator[tuple[slice, Floats]]:
        """The outputs of each group of a layer, and the mean products of the integers that they met in calibration."""
        products = self.calibration.products.get(name, ())
        layer, weight = _weighted(self.graph, name), self.folded.layers[name].weight
        of_group, inputs = len(weight) // max(len(products), 1), self.input_scale(name)
        for group, met in enumerate(products):
            first = group * of_group
            units = np.append(np.repeat(inputs[first], weight[0, 0].size), [1.0] * layer.bias)
            yield slice(first, first + of_group), met[: len(units), : len(units)] / np.outer(units, units)

    def input_scale(self, name: str) -> Floats:
        """[out, in]: real units per integer of the input that each of a layer's weights meets."""
        layer, outputs = self.graph[name], len(self.folded.layers[name].weight)
        scale = self.scale(self.graph.sources[name][0].source)
        groups = layer.groups if isinstance(layer, Conv2d) else 1
        return np.repeat(scale.reshape(groups, -1), outputs // groups, axis=0)

    # --- nodes whose scale is no choice ------------------------------------------------------------------

    def _fixed(self, name: str) -> Floats:
        layer, graph = self.graph[name], self.graph
        channels = graph.shapes[name][0]
        sources = [self.scale(edge.source) for edge in graph.sources[name]] if not isinstance(layer, Lif) else []
        match layer:
            case Input():
                return np.full(channels, PIXEL_SCALE)
            case Lif():
                return np.ones(channels)
            case AvgPool2d():
                return sources[0] / (layer.kernel_size[0] * layer.kernel_size[1])
            case Flatten():
                return np.repeat(sources[0], channels // len(sources[0]))
            case Vote():
                return sources[0].reshape(-1, layer.group)[:, 0] / layer.group
            case Mean():
                return sources[0] / graph.inference_steps
            case Add() if all(np.allclose(scale, sources[0]) for scale in sources):
                return sources[0]
            case Add():
                names = ", ".join(f"'{edge.source}'" for edge in graph.sources[name])
                raise QuantizeError(
                    f"node '{name}' adds spikes and pooled spikes ({names}), whose counts are worth different amounts: "
                    "pool all or none of them, or put a Conv2d after each"
                )
            case _:
                return sources[0]

    def _reach(self, name: str) -> int:
        """The largest absolute integer that a node hands to the weights after it."""
        layer, graph = self.graph[name], self.graph
        if graph.kinds[name] is Kind.CURRENT:
            return -CURRENT_MIN
        match layer:
            case Input():
                return PIXEL_REACH
            case Lif():
                return 1
            case _:
                total = sum(self._reach(edge.source) for edge in graph.sources[name])
                window = layer.kernel_size[0] * layer.kernel_size[1] if isinstance(layer, AvgPool2d) else 1
                return total * window

    # --- groups ------------------------------------------------------------------------------------------

    def _solve(self, group: frozenset[str]) -> None:
        """Choose the group's scale, and its layers' shifts."""
        self._underway |= group
        layers = [name for name in self.graph.layers if name in group and name in self.folded.layers]
        natural = {name: self._natural(name) for name in layers}
        fine, floors = [natural[name] for name in layers], self._floors(group)
        if any(_needs_one_scale(self.graph, name) for name in group):
            fine, floors = ([array.max(keepdims=True) for array in arrays] for arrays in (fine, floors))
        shifts = self._shifts_of(group, natural, fine) if self.grid is None else self.grid.shifts
        fitting = [array * 2.0 ** shifts[name] for array, name in zip(fine, layers, strict=True)]
        scale = np.max(np.broadcast_arrays(*fitting, *floors), axis=0)
        scale[scale == 0] = scale.max() or 1.0  # a channel that nothing enters
        if self.grid is None:
            scale = self._widened(group, scale)
        for name in group:
            self._scales[name] = np.broadcast_to(scale, self.graph.shapes[name][:1])
        for name in layers:
            given = shifts[name]
            self._shifts[name] = self._spare_shift(name, natural[name], given) if self.grid is None else given

    def _shifts_of(self, group: frozenset[str], natural: Mapping[str, Floats], fine: list[Floats]) -> dict[str, int]:
        """Shifts at which the layers' own currents fit their bits, and together err least.

        ``natural`` by layer, and ``fine`` the same where channels need no common scale.
        """
        layers = list(natural)
        stored = not all(in_accumulator(self.graph, name) for name in group)
        least = [self._least_shift(name, natural[name]) if stored else 0 for name in layers]
        wanted = [array * 2.0**shift for array, shift in zip(fine, least, strict=True)]
        most = [0 if shift else self._most_left(name, layers) for name, shift in zip(layers, least, strict=True)]
        if is_coarse_alone(self.graph, layers[0]):
            lefts = most
        else:
            lefts = best_lefts(wanted, most, [self._noise(name) for name in layers])
        return {name: shift - left for name, shift, left in zip(layers, least, lefts, strict=True)}

    def _widened(self, group: frozenset[str], scale: Floats) -> Floats:
        """The scale made so coarse that the thresholds of normed neurons, ``threshold / |g|``, fit their membranes.

        A g near 0 asks for any coarseness: then the input hardly counts, and its bits may go, but not those that
        other readers of the same current need.
        """
        readers = [edge.target for name in group for edge in self.graph.consumers[name] if edge.target not in group]
        normed = {name: self.folded.norms[name] for name in readers if name in self.folded.norms}
        most = scale * (WIDEST_ALONE if len(normed) == len(readers) else WIDEST_SHARED)
        for name, norm in normed.items():
            lif = self.graph[name]
            assert isinstance(lif, Lif)
            least = lif.threshold / (lif.gain * largest_threshold(lif) * np.maximum(np.abs(norm.g), TINY))
            least = least if len(scale) > 1 else least.max(keepdims=True)  # one scale for all channels stays one
            scale = np.maximum(scale, np.minimum(least, most))
        return scale

    def _natural(self, name: str) -> Floats:
        """The scale at which the layer's weights suit their bits best and its sums fit 32 bits."""
        if self.grid is not None:
            return self.grid.steps[name]
        weight, reach = self.fine_weight(name), self._reach(self.graph.sources[name][0].source)
        fine = np.abs(weight).reshape(len(weight), -1)
        natural: Floats = np.maximum(self._best_steps(name, weight, fine), fine.sum(axis=1) * reach / SUM_LIMIT)
        return natural

    def _best_steps(self, name: str, weight: Floats, fine: Floats) -> Floats:
        """The steps at which a layer's integers err least: together, if they are few and it is known what they met."""
        bits = _weighted(self.graph, name).weight_bits
        if bits > CLIPPED_BITS or name not in self.calibration.products:
            return nearest_steps(fine, bits)
        every, choices = self._rows(name, weight, np.zeros(len(weight))), clipped_steps(fine, bits)[::2]
        limit, rounded = largest_weight(bits), fine.shape[1]
        groups = self._met(name)
        return np.concatenate([best_steps(every[i], met, limit, rounded, choices[:, i]) for i, met in groups])

    def _least_shift(self, name: str, natural: Floats) -> int:
        """The least shift at which pixels or currents cannot make the layer's own current leave 16 bits."""
        source = self.graph.sources[name][0].source
        if self.graph.kinds[source] not in (Kind.IMAGE, Kind.CURRENT):
            return 0
        safe = np.where(natural > 0, natural, np.inf)
        fine = np.abs(np.rint(_over(self.fine_weight(name), safe)))
        sums = fine.reshape(len(fine), -1).sum(axis=1) * self._reach(source)
        bias = np.abs(self.folded.layers[name].bias) / safe
        for shift in range(RIGHT_MAX):
            if ((sums + bias) / 2.0**shift + 2.0 <= CURRENT_MAX).all():
                return shift
        return RIGHT_MAX

    def _most_left(self, name: str, layers: list[str]) -> int:
        """How far a layer may be shifted: as makes up for fewer bits than its group's finest has, and a little more.

        Over real values weights are stored, and shifted, in bytes. A layer whose weights over spikes fill bytes is not:
        it errs little, and rows that are shifted take a quarter more instructions.
        """
        limits = {each: largest_weight(_weighted(self.graph, each).weight_bits) for each in layers}
        if limits[name] > largest_weight(FEW_BITS):
            return 0
        if self.graph.kinds[self.graph.sources[name][0].source] is not Kind.SPIKES:
            return floor(log2(largest_weight(8) / limits[name]))
        return min(LEFT_MAX, ceil(log2(max(limits.values()) / limits[name])) + LEFT_SPARE)

    def _noise(self, name: str) -> float:
        """Standard deviation of a sum of rounded weights, in weight steps over 3.5; 1 where the sum is rounded."""
        if self.graph.kinds[self.graph.sources[name][0].source] not in (Kind.SPIKES, Kind.COUNTS):
            return 1.0
        return max(1.0, sqrt(DEFAULT_SPIKE_RATE * self.graph.fan_in(name)))

    def _spare_shift(self, name: str, natural: Floats, least: int) -> int:
        """The largest shift at which the weights still fit; over spikes (rows are just added) none to the right."""
        most = 0 if self.graph.kinds[self.graph.sources[name][0].source] is Kind.SPIKES else RIGHT_MAX
        if not (natural > 0).any():
            return max(0, least)
        spare = (self._scales[name] / np.where(natural > 0, natural, np.nan))[natural > 0].min()
        return min(most, max(least, floor(log2(spare) + HAIR)))

    def _floors(self, group: frozenset[str]) -> list[Floats]:
        """Scales below which a bias, a threshold or a calibrated current would leave its integers."""
        graph = self.graph
        floors: list[Floats] = []
        for name in group:
            layer = graph[name]
            if isinstance(layer, Conv2d | Linear):
                limit = BIAS_LIMIT if isinstance(layer, Conv2d) else SUM_LIMIT
                floors.append(np.abs(self.folded.layers[name].bias) / limit)
            if name in self.calibration.largest and not in_accumulator(graph, name):
                floors.append(self.calibration.largest[name] / CURRENT_MAX)
            for edge in graph.consumers[name]:
                lif = graph[edge.target]
                if isinstance(lif, Lif) and not lif.folded_norm:
                    floors.append(np.array([lif.threshold / (lif.gain * largest_threshold(lif))]))
        return floors


def tied_groups(graph: Graph) -> dict[str, frozenset[str]]:
    """Each free current's group: Add, AvgPool2d and Flatten tie what enters them to themselves."""
    free = {name for name in graph.layers if _is_free(graph, name)}
    group = {name: {name} for name in free}
    for name in graph.layers:
        if name not in free or not isinstance(graph[name], Add | AvgPool2d | Flatten):
            continue
        for edge in graph.sources[name]:
            if edge.source not in free:
                kind = graph.kinds[edge.source].value
                raise QuantizeError(
                    f"node '{name}': {type(graph[name]).__name__} takes currents and '{edge.source}' gives {kind}, "
                    "whose scale is fixed: put a Conv2d on that edge"
                )
            merged = group[name] | group[edge.source]
            for member in merged:
                group[member] = merged
    return {name: frozenset(members) for name, members in group.items()}


def nearest_steps(magnitudes: Floats, bits: int) -> Floats:
    """Per row of absolute weights [channels, n] the step at which rounding to ``bits`` bits errs least (in squares).

    Of many bits that is the one at which the largest weight just fits; of few, one that cuts the largest off.

    >>> nearest_steps(np.array([[0.7, 0.1, 0.3], [1.0, 0.5, 0.5]]), 4).round(3)
    array([0.1  , 0.132])
    """
    steps, limit = clipped_steps(magnitudes, bits), largest_weight(bits)
    if len(steps) == 1:
        return steps.reshape(-1)
    safe = np.where(steps > 0, steps, 1.0)[:, :, None]
    errors = ((np.minimum(np.rint(magnitudes / safe), limit) * safe - magnitudes) ** 2).sum(axis=2)
    least = (errors < errors.min(axis=0) * (1.0 + HAIR)).argmax(axis=0)
    best: Floats = steps[least, np.arange(len(magnitudes))]
    return best


def clipped_steps(magnitudes: Floats, bits: int) -> Floats:
    """[choices, channels]: the step at which a row's largest weight just fits; of few bits, smaller ones too."""
    shares = CLIP_SHARES if bits <= CLIPPED_BITS else CLIP_SHARES[:1]
    steps: Floats = np.outer(shares, magnitudes.max(axis=1) / largest_weight(bits))
    return steps


def largest_weight(bits: int) -> int:
    return (1 << bits - 1) - 1


def largest_threshold(layer: Lif) -> int:
    """A quarter of the membrane's range: room for two thresholds below zero, and for inputs above one."""
    return 1 << layer.membrane_bits - 2


def _weighted(graph: Graph, name: str) -> Conv2d | Linear:
    layer = graph[name]
    assert isinstance(layer, Conv2d | Linear)
    return layer


def _is_free(graph: Graph, name: str) -> bool:
    layer = graph[name]
    if isinstance(layer, Conv2d | Linear):
        return True
    return isinstance(layer, Add | AvgPool2d | Flatten) and graph.kinds[name] is Kind.CURRENT


def _needs_one_scale(graph: Graph, name: str) -> bool:
    """Whether the node's channels are compared or mixed: by Vote, Mean, Output, or by flattening maps."""
    layer = graph[name]
    if isinstance(layer, Flatten) and graph.shapes[name] != graph.in_shape(name)[:1]:
        return True
    return any(isinstance(graph[edge.target], Vote | Mean | Output) for edge in graph.consumers[name])


def _over(weight: Floats, scale: Floats) -> Floats:
    over: Floats = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return over
