"""Instructions of one inference on a microcontroller, and the time they take.

:func:`step_work` counts what the kernels do: windows looked at, spikes listed, words of weights added, neurons
updated, values multiplied. :data:`PRICES` prices each of these for a kind of core, fitted by non-negative least squares
to the instructions that emulated cores executed, step by step, on random networks: ``python benchmarks/firmware.py
--fit`` fits them, ``--predict`` says how far off they are (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from math import prod

from spikenas.cost.flash import is_plain, is_tap_by_tap, stored_bits
from spikenas.cost.memory import Kernels, MemoryPlan, Schedule
from spikenas.cost.steps import Group, Reading, Step, Term, map_size
from spikenas.cost.target import Target
from spikenas.graph import Conv2d, Graph, Lif, Linear

# Cycles per instruction without flash wait states: loads and branches are what the range is about.
CYCLES_LOW, CYCLES_HIGH = 1.02, 1.45
UNIT_BITS = 32
WEIGHT_BITS = 8
WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of the network executes, all timesteps together.

    ``plain_runs``: sums formed by a step of one term of rows and nothing else; ``runs``: all others; ``terms``: terms
    looked at. ``units``: loads of packed spikes; ``tap_units``: those that cannot be read in runs. ``events``:
    spikes listed; ``passes``: times that a listed row is looked up, once for each block of channels; ``words_8``,
    ``words_4``, ``words_2``: words of weights added, by bits. ``sum_words``: words of sums opened and closed,
    ``wide_words`` those of 32-bit sums. ``macs``, ``patched``: multiplications of real values, and values copied
    for them. ``single``: weights added one by one. ``skipped``, ``pooled``: real values added as they are, or through
    windows. ``averaged``: channels of such windows. ``moved``: sums that rows shifted to the left are added to.
    ``wide``: 32-bit sums. ``neurons``: updates of 16-bit membranes without a norm; ``slow_neurons``: all others.
    ``pixels``: of the image, loaded.

    The compact kernels have only ``runs``, ``terms``, ``units`` (bytes of packed spikes), ``tap_units`` (pixels looked
    at), ``events`` and ``patched`` (spikes and real values found there), ``single`` (weights added or multiplied;
    ``words_4`` where some weights of the network have less than 8 bits), ``wide``, ``pooled``, ``slow_neurons`` and
    ``pixels``.
    """

    plain_runs: float = 0
    runs: float = 0
    terms: float = 0
    units: float = 0
    tap_units: float = 0
    events: float = 0
    passes: float = 0
    words_8: float = 0
    words_4: float = 0
    words_2: float = 0
    sum_words: float = 0
    wide_words: float = 0
    macs: float = 0
    patched: float = 0
    single: float = 0
    skipped: float = 0
    pooled: float = 0
    averaged: float = 0
    moved: float = 0
    wide: float = 0
    neurons: float = 0
    slow_neurons: float = 0
    pixels: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Work:
        """The same ``factor`` times."""
        return Work(*(getattr(self, f.name) * factor for f in fields(self)))


# Instructions for one of each, by kind of core; fitted, see above. The image is loaded by the same code in both tables.
PRICES: dict[Kernels, dict[str, Work]] = {
    Kernels.FAST: {
        "dsp": Work(
            plain_runs=112, runs=128, terms=236, units=13.1, tap_units=37, events=5.69, passes=7.55, words_8=1.57,
            words_4=4.09, words_2=5.89, sum_words=1.84, wide_words=8.34, macs=1.24, patched=7.49, single=44.7,
            skipped=2.75, pooled=17, averaged=40.2, moved=15.8, wide=15.3, neurons=8.23, slow_neurons=26.8,
            pixels=7.45,
        ),
        "thumb1": Work(
            plain_runs=141, runs=165, terms=275, units=25.5, tap_units=59.5, events=13.5, words_8=13.1, words_4=14.4,
            words_2=19, sum_words=18, wide_words=40.1, macs=6.39, patched=13.3, single=66.1, pooled=26.4,
            averaged=85.1, moved=24.2, wide=20.2, neurons=38.1, slow_neurons=45.4, pixels=9.82,
        ),
        "riscv": Work(
            plain_runs=145, runs=171, terms=233, units=9.03, tap_units=44, events=14.8, passes=5.41, words_8=5.52,
            words_4=8.7, words_2=9.64, sum_words=22.1, wide_words=52.2, macs=4.13, patched=9.41, single=47.6,
            skipped=3.27, pooled=14.5, averaged=41, moved=21.9, wide=15.3, neurons=22.5, slow_neurons=22.7,
            pixels=6.47,
        ),
    },
    Kernels.COMPACT: {
        "dsp": Work(
            runs=89, terms=98, tap_units=62, events=37, words_4=19.2, patched=23, single=9.47, pooled=26, wide=20,
            slow_neurons=33, pixels=9.55,
        ),
        "thumb1": Work(
            runs=115, terms=129, tap_units=71, events=41, words_4=31, patched=26, single=9.31, pooled=45, wide=27,
            slow_neurons=55, pixels=13.3,
        ),
        "riscv": Work(
            runs=102, terms=82, tap_units=52, events=32, words_4=25, patched=13.8, single=11.6, pooled=24, wide=20,
            slow_neurons=33, pixels=9.59,
        ),
    },
}  # fmt: skip


def core_kind(target: Target) -> str:
    """Which prices hold for a target's core."""
    if target.dsp:
        return "dsp"
    return "riscv" if target.core.startswith("RV32") else "thumb1"


def instructions(work: Work, target: Target, kernels: Kernels) -> float:
    """Instructions that the work takes on the target's core."""
    price = PRICES[kernels][core_kind(target)]
    return float(sum(getattr(price, f.name) * getattr(work, f.name) for f in fields(work)))


def cycles(executed: float) -> tuple[float, float]:
    """(least, most) cycles of so many instructions."""
    return CYCLES_LOW * executed, CYCLES_HIGH * executed


def step_work(
    graph: Graph,
    step: Step,
    work: tuple[Group, ...],
    plan: MemoryPlan,
    rates: Mapping[str, float],
    shifted: Collection[str] = (),
) -> Work:
    """What a step executes in one run of the network; ``rates``: mean spikes per neuron and timestep, by Lif node.

    ``shifted``: layers whose sums are shifted to the left, see :mod:`spikenas.model`; known once weights are integers.
    """
    if plan.kernels is Kernels.COMPACT:
        return _compact_work(graph, step, work, plan, rates)
    layer_major = plan.schedule is Schedule.LAYER_MAJOR
    shape = graph.shapes[step.node]
    height, width = map_size(shape)
    pixels, channels, t = height * width, shape[0], graph.timesteps
    all_static = all(group.static for group in work)
    lifs = [layer for name in step.writes if isinstance(layer := graph[name], Lif)]
    runs = pixels * (1 if layer_major and all_static else t)
    is_wide = _is_wide(graph, step, work)
    total = Work(plain_runs=runs) if is_plain(graph, step, work) else Work(runs=runs)
    for group in work:
        times = 1 if layer_major and group.static else t
        for term in group.terms:
            total += _term_work(graph, group, term, (height, width), rates, is_wide, group.layer in shifted).times(
                times
            )
        if group.layer and (group.vote > 1 or any(term.reading is Reading.DENSE for term in group.terms)):
            total += Work(wide=pixels * channels * group.vote * times)
    if is_wide:
        total += Work(wide=runs * channels)
    for lif in lifs:
        updates = pixels * channels * t
        slow = lif.membrane_bits != 16 or lif.folded_norm
        total += Work(slow_neurons=updates) if slow else Work(neurons=updates)
    return total


def _compact_work(
    graph: Graph, step: Step, work: tuple[Group, ...], plan: MemoryPlan, rates: Mapping[str, float]
) -> Work:
    shape, t = graph.shapes[step.node], graph.timesteps
    size = map_size(shape)
    pixels, channels = size[0] * size[1], shape[0]
    once = all(group.static for group in work) and plan.schedule is Schedule.LAYER_MAJOR
    times = 1 if once else t
    layers = [layer for node in graph.nodes if isinstance(layer := node.layer, Conv2d | Linear)]
    packed = any(stored_bits(layer.weight_bits) != WEIGHT_BITS for layer in layers)
    total = Work(runs=pixels, wide=pixels * channels)
    for group in work:
        if group.vote > 1:
            total += Work(wide=pixels * channels * group.vote)
        for term in group.terms:
            total += _compact_term(graph, group, term, size, rates, packed)
    lifs = sum(isinstance(graph[name], Lif) for name in step.writes)
    return total.times(times) + Work(slow_neurons=lifs * pixels * channels * t)


def _compact_term(
    graph: Graph, group: Group, term: Term, size: tuple[int, int], rates: Mapping[str, float], packed: bool
) -> Work:
    """Of one timestep."""
    channels, layer = graph.shapes[term.source][0], graph[group.layer] if group.layer else None
    base, seen = Work(terms=size[0] * size[1]), seen_taps(term, size) * term.pool.taps
    if term.reading is Reading.POOL:
        return base + Work(pooled=seen * channels)
    if isinstance(graph[term.source], Lif):
        values = seen * channels * rates[term.source]
        base += Work(units=seen * -(-channels // 8), tap_units=seen, events=values)
    else:
        values = seen * channels
        base += Work(tap_units=seen, patched=values)
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    outputs = graph.shapes[group.layer][0] // groups if group.layer else 1
    return base + (Work(words_4=values * outputs) if packed else Work(single=values * outputs))


def _is_wide(graph: Graph, step: Step, work: tuple[Group, ...]) -> bool:
    """Whether a step's sums need 32 bits: a guess before the weights are known."""
    readings = {term.reading for group in work for term in group.terms}
    return step.node == graph.output or bool(readings & {Reading.DENSE, Reading.SKIP, Reading.POOL})


def _term_work(
    graph: Graph,
    group: Group,
    term: Term,
    size: tuple[int, int],
    rates: Mapping[str, float],
    is_wide: bool,
    is_shifted: bool,
) -> Work:
    """Of one timestep."""
    shape = graph.shapes[term.source]
    layer = graph[group.layer] if group.layer else None
    pixels, taps = size[0] * size[1], seen_taps(term, size)
    base = Work(terms=pixels)
    if term.reading in (Reading.ROWS, Reading.UNITS):
        units = taps * term.pool.taps * -(-shape[0] // UNIT_BITS)
        events = taps * term.pool.taps * shape[0] * rates[term.source]
        if term.reading is Reading.UNITS:
            outputs = layer.out_channels // layer.groups if isinstance(layer, Conv2d) else 1
            return base + Work(tap_units=units, single=events * outputs)
        assert isinstance(layer, Conv2d | Linear)
        assert group.layer is not None
        bits = stored_bits(layer.weight_bits) or 8
        words = -(-graph.shapes[group.layer][0] * bits // WORD_BITS)
        base += Work(tap_units=units) if is_tap_by_tap(term, shape) else Work(units=units)
        if is_shifted:
            base += Work(moved=pixels * graph.shapes[group.layer][0])
        else:
            base += Work(wide_words=pixels * words) if is_wide else Work(sum_words=pixels * words)
        return base + Work(
            events=events,
            passes=events * _passes(words, bits),
            words_8=events * words * (bits == 8),
            words_4=events * words * (bits == 4),
            words_2=events * words * (bits == 2),
        )
    if term.reading is Reading.DENSE:
        assert group.layer is not None
        groups = layer.groups if isinstance(layer, Conv2d) else 1
        patched = pixels * term.window.taps * shape[0]
        return base + Work(macs=patched * (graph.shapes[group.layer][0] // groups), patched=patched)
    if term.reading is Reading.POOL:
        return base + Work(pooled=taps * shape[0], averaged=pixels * shape[0])
    return base + Work(skipped=pixels * term.window.taps * shape[0])


def _passes(words: int, bits: int) -> int:
    """Times that the kernels in ``runtime/rows.c`` go through the list: once for each block of words."""
    return words if bits == 2 else words // 4 + words % 4 // 2 + words % 2


def seen_taps(term: Term, size: tuple[int, int]) -> int:
    """Taps of all output pixels' windows that lie on the map."""
    seen = 1
    for outputs, kernel, stride, padding, length in zip(
        size, term.window.kernel, term.window.stride, term.window.padding, term.map, strict=True
    ):
        starts = (i * stride - padding for i in range(outputs))
        seen *= sum(min(start + kernel, length) - max(start, 0) for start in starts)
    return seen


def image_work(graph: Graph) -> Work:
    """Loading the image, or all frames."""
    frames = 1 if graph.input in graph.static else graph.timesteps
    return Work(pixels=prod(graph.shapes[graph.input]) * frames)
