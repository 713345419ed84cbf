"""Instructions of one inference on a microcontroller, and the time they take.

:func:`step_work` counts what the kernels do: windows looked at, spikes listed, words of weights added, neurons
updated, values multiplied. :data:`PRICES` prices each of these for a kind of core. The prices of listing spikes and
adding rows are those of the inner loops; the others were fitted by non-negative least squares to the instructions that
emulated cores executed, step by step, on random networks (``python benchmarks/firmware.py --fit`` fits them all). Of 26
random networks of space 'embedded' 24 were predicted within 15% on a Cortex-M4, the other two within 20%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from spikenas.cost.flash import is_tap_by_tap, stored_bits
from spikenas.cost.memory import Schedule
from spikenas.cost.steps import Group, Reading, Step, Term, map_size
from spikenas.cost.target import Target
from spikenas.graph import Conv2d, Graph, Lif, Linear

# Cycles per instruction without flash wait states: loads and branches are what the range is about.
CYCLES_LOW, CYCLES_HIGH = 1.02, 1.45
UNIT_BITS = 32
WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class Work:
    """What one inference executes, all timesteps together.

    ``plain_runs``: sums formed by a step of one term of rows and nothing else; ``runs``: all others; ``terms``: terms
    looked at. ``units``: loads of packed spikes; ``tap_units``: those that cannot be read in runs. ``events``:
    spikes listed; ``passes``: times that a listed row is looked up, once for each block of channels; ``words_8``,
    ``words_4``, ``words_2``: words of weights added, by bits. ``sum_words``: words of sums opened and closed,
    ``wide_words`` those of 32-bit sums. ``macs``, ``patched``: multiplications of real values, and values copied
    for them. ``single``: weights added one by one. ``skipped``, ``pooled``: real values added as they are, or through
    windows.
    ``wide``: 32-bit sums. ``neurons``: updates of 16-bit membranes without a norm; ``slow_neurons``: all others.
    ``pixels``: of the image, loaded.
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
    wide: float = 0
    neurons: float = 0
    slow_neurons: float = 0
    pixels: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Work:
        """The same ``factor`` times."""
        return Work(*(getattr(self, f.name) * factor for f in fields(self)))


# Instructions for one of each, by kind of core; fitted, see above.
PRICES = {
    "dsp": Work(
        plain_runs=131, runs=179, terms=103, units=13.6, tap_units=40, events=6.1, passes=4, words_8=2.25, words_4=7,
        words_2=10.1, sum_words=15, wide_words=50, macs=1.52, patched=14.5, single=41, skipped=10, pooled=22, wide=22,
        neurons=12, slow_neurons=44, pixels=8,
    ),
    "thumb1": Work(
        plain_runs=155, runs=203, terms=129, units=9.5, tap_units=19, events=16.6, passes=8, words_8=13, words_4=15,
        words_2=12.9, sum_words=36, wide_words=39, macs=6.5, patched=18.3, single=71, skipped=20, pooled=36, wide=25,
        neurons=47, slow_neurons=68, pixels=8,
    ),
    "riscv": Work(
        plain_runs=144, runs=206, terms=133, units=8.8, tap_units=35, events=13.5, passes=6, words_8=5.3, words_4=8,
        words_2=12, sum_words=32, wide_words=90, macs=4.75, patched=16.6, single=48, skipped=12, pooled=19, wide=23.5,
        neurons=27, slow_neurons=44, pixels=8,
    ),
}  # fmt: skip


def core_kind(target: Target) -> str:
    """Which prices hold for a target's core."""
    if target.dsp:
        return "dsp"
    return "riscv" if target.core.startswith("RV32") else "thumb1"


def instructions(work: Work, target: Target) -> float:
    """Instructions that the work takes on the target's core."""
    price = PRICES[core_kind(target)]
    return float(sum(getattr(price, f.name) * getattr(work, f.name) for f in fields(work)))


def latency_ms(work: Work, target: Target) -> float:
    """Milliseconds at the target's clock, the upper end of the range: a limit set on it is kept."""
    return 1000 * CYCLES_HIGH * instructions(work, target) / target.clock_hz


def step_work(
    graph: Graph, step: Step, work: tuple[Group, ...], schedule: Schedule, rates: Mapping[str, float]
) -> Work:
    """What a step executes in one inference; ``rates``: mean spikes per neuron and timestep, by Lif node."""
    layer_major = schedule is Schedule.LAYER_MAJOR
    shape = graph.shapes[step.node]
    height, width = map_size(shape)
    pixels, channels, t = height * width, shape[0], graph.timesteps
    all_static = all(group.static for group in work)
    lifs = [layer for name in step.writes if isinstance(layer := graph[name], Lif)]
    runs = pixels * (1 if layer_major and all_static else t)
    is_wide = _is_wide(graph, step, work)
    total = Work(plain_runs=runs) if _is_plain(work) and not is_wide else Work(runs=runs)
    for group in work:
        times = 1 if layer_major and group.static else t
        for term in group.terms:
            total += _term_work(graph, group, term, (height, width), rates, is_wide).times(times)
        if group.layer and (group.vote > 1 or any(term.reading is Reading.DENSE for term in group.terms)):
            total += Work(wide=pixels * channels * group.vote * times)
    if is_wide:
        total += Work(wide=runs * channels)
    for lif in lifs:
        updates = pixels * channels * t
        slow = lif.membrane_bits != 16 or lif.folded_norm
        total += Work(slow_neurons=updates) if slow else Work(neurons=updates)
    return total


def _is_plain(work: tuple[Group, ...]) -> bool:
    terms = [term for group in work for term in group.terms]
    return len(terms) == 1 and terms[0].reading is Reading.ROWS and not terms[0].delay


def _is_wide(graph: Graph, step: Step, work: tuple[Group, ...]) -> bool:
    """Whether a step's sums need 32 bits: a guess before the weights are known."""
    readings = {term.reading for group in work for term in group.terms}
    return step.node == graph.output or bool(readings & {Reading.DENSE, Reading.SKIP, Reading.POOL})


def _term_work(
    graph: Graph, group: Group, term: Term, size: tuple[int, int], rates: Mapping[str, float], is_wide: bool
) -> Work:
    """Of one timestep."""
    shape = graph.shapes[term.source]
    layer = graph[group.layer] if group.layer else None
    pixels, taps = size[0] * size[1], _seen(term, size)
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
        base += Work(wide_words=pixels * words) if is_wide else Work(sum_words=pixels * words)
        return base + Work(
            events=events,
            passes=events * _passes(words, bits, is_wide),
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
        return base + Work(pooled=taps * shape[0])
    return base + Work(skipped=pixels * term.window.taps * shape[0])


def _passes(words: int, bits: int, is_wide: bool) -> int:
    """Times that the kernels in ``runtime/rows.c`` go through the list: once for each block of words."""
    if bits == 8:
        rest = words % 4
        return words // 4 + (rest if is_wide else rest // 2 + rest % 2)
    return -(-words // 2) if bits == 4 and not is_wide else words


def _seen(term: Term, size: tuple[int, int]) -> float:
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
