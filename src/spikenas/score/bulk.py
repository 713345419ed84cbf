"""Cost and structure of hundreds of thousands of SpikeNAS-Bench cells a second, as arrays.

Everything here has a slow, obvious counterpart that works on one graph; tests hold the two equal. ``ops`` is uint8
[N, 6], the operation on edges (0,1) (0,2) (0,3) (1,2) (1,3) (2,3) as in :mod:`spikenas.space.spikenas_bench`.
What a layer costs is asked of :mod:`spikenas.cost` once, with three cells; bytes are not here, since only the memory
planner knows them.

>>> cells = screen(np.array([[0, 0, 2, 0, 0, 0], [4, 0, 0, 0, 3, 0], [2, 0, 0, 0, 0, 0]], np.uint8))
>>> cells.alive.tolist(), cells.spiking_depth.tolist(), cells.parameters.tolist()
([True, True, False], [5, 7, 0], [17917668, 18655716, 0])
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.cost import estimate
from spikenas.cost.target import TARGETS
from spikenas.errors import GenotypeError
from spikenas.score.trainable_depth import TIE_BREAK, isometry
from spikenas.space.genotype import pairs
from spikenas.space.macro import LIF, TIMESTEPS
from spikenas.space.spikenas_bench import DIGITS, BenchSpace, from_digits

Ops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EDGES = pairs(4)
SKIP = DIGITS.index("skip")
THRESHOLDS = {2: 0.5, 3: 1.0, 4: 1.5}
LIFS = {digit: type(LIF)(LIF.decay, LIF.gain, threshold, LIF.reset) for digit, threshold in THRESHOLDS.items()}
CHUNK = 8192
"""Cells at a time: their arrays stay in the cache, which doubles the speed."""
OUTER_DEPTH = 3
"""Spiking layers outside the cells: the reduction, the hidden layer, the readout."""
CELLS = ((1.0, 0.0), (0.25, 1.0))
"""Variance and depth at the input of either cell; the second stands behind a spiking layer and a 2x2 pooling."""


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """Columns [N]; a cell without a path is not ``alive``, costs 0 and has a score of NaN."""

    alive: Flags
    parameters: Ints
    synops: Floats
    neuron_updates: Floats
    spiking_depth: Ints
    trainable_depth: Floats


def screen(ops: Ops) -> Screened:
    """Cost on CIFAR-10 and structure of ``ops`` [N, 6]. Raises GenotypeError for another shape."""
    if ops.ndim != 2 or ops.shape[1] != len(EDGES) or ops.dtype != np.uint8 or (ops >= len(DIGITS)).any():
        raise GenotypeError(f"ops of shape {ops.shape}, type {ops.dtype}: give uint8 [N, 6] of 0..{len(DIGITS) - 1}")
    parts = [_screen(ops[start : start + CHUNK]) for start in range(0, max(1, len(ops)), CHUNK)]
    return Screened(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Screened)))


def _screen(ops: Ops) -> Screened:
    edges = live_edges(ops)
    alive: Flags = np.asarray(edges.any(axis=1))
    spiking = edges & (ops > SKIP)
    base, convolution, neuron = _prices()
    counts = np.stack([alive, spiking.sum(axis=1), _neurons(ops, edges)], axis=1)
    parameters, synops, neuron_updates = (counts @ np.stack([base, convolution, neuron])).T
    return Screened(
        alive=alive,
        parameters=parameters.astype(np.int64),
        synops=synops,
        neuron_updates=neuron_updates,
        spiking_depth=np.where(alive, OUTER_DEPTH + 2 * _longest(edges, spiking), 0),
        trainable_depth=_trainable_depth(ops, edges, alive),
    )


def live_edges(ops: Ops) -> Flags:
    """Which edges lie on a path from input to output, [N, 6]."""
    joined = ops > 0
    fed, useful = np.zeros((2, len(ops), 4), np.bool_)
    fed[:, 0] = useful[:, 3] = True
    for edge, (source, target) in enumerate(EDGES):  # by source: every way into a node is known before it is left
        fed[:, target] |= joined[:, edge] & fed[:, source]
    for edge, (source, target) in reversed(list(enumerate(EDGES))):
        useful[:, source] |= joined[:, edge] & useful[:, target]
    sources, targets = np.array(EDGES).T
    live: Flags = joined & fed[:, sources] & useful[:, targets]
    return live


def _longest(edges: Flags, spiking: Flags) -> Ints:
    """Spiking edges on the longest path through a cell, [N]."""
    depth = np.zeros((len(edges), 4), np.int64)
    for edge, (source, target) in enumerate(EDGES):
        reached = (depth[:, source] + spiking[:, edge]) * edges[:, edge]
        depth[:, target] = np.maximum(depth[:, target], reached)
    return depth[:, 3]


def _neurons(ops: Ops, edges: Flags) -> Ints:
    """Distinct neurons in a cell, [N]: one per node and threshold; a node that only a skip enters is its source."""
    inputs = np.zeros((len(ops), 4), np.int64)
    for edge, (_, target) in enumerate(EDGES):
        inputs[:, target] += edges[:, edge]
    place = np.tile(np.arange(4), (len(ops), 1))
    used = np.zeros((len(ops), 4, len(DIGITS)), np.bool_)
    rows = np.arange(len(ops))
    for edge, (source, target) in enumerate(EDGES):
        same = edges[:, edge] & (ops[:, edge] == SKIP) & (inputs[:, target] == 1)
        place[same, target] = place[same, source]
        used[rows, place[:, source], ops[:, edge]] |= edges[:, edge]
    counts: Ints = used[:, :, SKIP + 1 :].sum(axis=(1, 2))
    return counts


def _trainable_depth(ops: Ops, edges: Flags, alive: Flags) -> Floats:
    """:func:`spikenas.score.trainable_depth.trainable_depth`, [N]."""
    depth, log_paths = np.zeros(len(ops)), np.zeros(len(ops))
    for variance, before in CELLS:
        ends, paths = _cell_depth(ops, edges, variance, before)
        depth += ends
        log_paths += np.log(np.maximum(paths, 1.0))
    return np.where(alive, depth.round(6) + TIE_BREAK * log_paths, np.nan)


def _cell_depth(ops: Ops, edges: Flags, input_variance: float, before: float) -> tuple[Floats, Floats]:
    """Depth and weighted paths at the output of one cell, [N] each."""
    variance, depth, paths = (np.zeros((len(ops), 4)) for _ in range(3))
    variance[:, 0], depth[:, 0], paths[:, 0] = input_variance, before, 1.0
    for edge, (source, target) in enumerate(EDGES):
        q = _isometries(ops[:, edge], variance[:, source])
        spiking = ops[:, edge] > SKIP
        reached = np.where(spiking, 1.0 + q * depth[:, source], depth[:, source])
        depth[:, target] = np.maximum(depth[:, target], reached * edges[:, edge])
        variance[:, target] += np.where(spiking, 1.0, variance[:, source]) * edges[:, edge]
        paths[:, target] += paths[:, source] * np.where(spiking, 1.0 + q, 1.0) * edges[:, edge]
    return depth[:, 3], paths[:, 3]


def _isometries(operation: npt.NDArray[np.uint8], variance: Floats) -> Floats:
    """q of each edge's neuron; 0 where it has none. Variances are few: they are sums of a few ones and quarters."""
    keys = (np.rint(4 * variance).astype(np.int64) * len(DIGITS) + operation).astype(np.int64)
    table = np.zeros(int(keys.max(initial=0)) + 1)
    for key in np.flatnonzero(np.bincount(keys)):
        quarters, digit = divmod(int(key), len(DIGITS))
        if digit in LIFS:
            table[key] = isometry(LIFS[digit], quarters / 4, TIMESTEPS)
    return table[keys]


@lru_cache(maxsize=1)
def _prices() -> tuple[Floats, Floats, Floats]:
    """(parameters, synops, neuron updates) of the network around the cells, of a convolution edge and of a neuron."""
    skip = _measured((0, 0, SKIP, 0, 0, 0))
    shared = _measured((0, 2, 2, 0, 0, 2))  # three convolutions; nodes 0 and 2 hold one neuron each
    apart = _measured((0, 2, 3, 0, 0, 2))  # node 0 holds two
    neuron = apart - shared
    return skip, (shared - skip - 2 * neuron) / 3, neuron


def _measured(digits: tuple[int, ...]) -> npt.NDArray[Any]:
    graph = BenchSpace(variant="cifar10").lower(from_digits(digits), (3, 32, 32), 10)
    cost = estimate(graph, next(iter(TARGETS.values())))
    updates = sum(layer.neuron_updates for layer in cost.layers)
    return np.array([graph.parameter_count, cost.synops, updates])
