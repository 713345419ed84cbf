"""Flash: the constants of a network to the byte, and an estimate of the code that computes it.

Constants are counted as :mod:`spikenas.deploy` writes them: rows of weights in words of 32 bits, thresholds and
biases in blocks of 16 channels, and the tables that drive the kernels. Code is a sum of the parts that a network
needs, which linked images do not exceed (``python benchmarks/firmware.py --fit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from spikenas.cost.memory import (
    CHANNEL_BLOCK,
    PATCH_MAX,
    Kernels,
    MemoryPlan,
    Schedule,
    blocked,
    is_alone,
    packed_bytes,
)
from spikenas.cost.steps import POINT, Group, Reading, Step, Term
from spikenas.graph import Conv2d, Graph, Input, Lif, Linear
from spikenas.model import is_coarse_alone


@dataclass(frozen=True, slots=True)
class Structs:
    """Bytes of the structs in runtime/spikenas_runtime.h on a 32-bit core."""

    step: int
    group: int
    term: int
    neuron: int


STRUCTS = {Kernels.FAST: Structs(64, 16, 88, 44), Kernels.COMPACT: Structs(44, 16, 64, 40)}
WEIGHT_BITS = (2, 4, 8)


def stored_bits(weight_bits: int) -> int:
    """Bits that a weight takes in a row: the next of 2, 4 and 8; 0 if that is too few.

    >>> stored_bits(3), stored_bits(8)
    (4, 8)
    """
    return next((bits for bits in WEIGHT_BITS if bits >= weight_bits), 0)


def weight_bytes(graph: Graph, group: Group, kernels: Kernels) -> int:
    """Bytes of a layer's weights as the terms of its group read them."""
    if group.layer is None:
        return 0
    layer, outputs = graph[group.layer], graph.shapes[group.layer][0]
    assert isinstance(layer, Conv2d | Linear)
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    if kernels is Kernels.COMPACT:
        term = group.terms[0]
        weights = term.window.taps * graph.shapes[term.source][0] * (outputs // groups)
        return 4 * -(-weights * (stored_bits(layer.weight_bits) or layer.weight_bits) // 32)
    size, rows = 0, 0
    for term in group.terms:
        inputs = graph.shapes[term.source][0]
        if term.reading is Reading.ROWS:
            bits = stored_bits(layer.weight_bits) or layer.weight_bits
            rows = 4 * term.window.taps * inputs * -(-outputs * bits // 32)
        elif term.reading is Reading.DENSE:
            length = term.window.taps * inputs // groups
            patches = [min(PATCH_MAX, length - start) for start in range(0, length, PATCH_MAX)]
            size += outputs * sum(4 * -(-patch // 4) for patch in patches)
        else:
            size += 4 * -(-term.window.taps * inputs * (outputs // groups) // 4)
    return size + rows


def step_bytes(graph: Graph, step: Step, work: tuple[Group, ...], kernels: Kernels) -> int:
    """Bytes of a step's tables and biases, without weights and neurons."""
    channels = graph.shapes[step.node][0]
    reads_real = any(term.reading is Reading.DENSE for group in work for term in group.terms)
    compact = kernels is Kernels.COMPACT
    logits = step.node == graph.output
    direct = [group for group in work if group.layer and _is_direct(group, work, logits or compact)]
    if compact:
        shifted = is_alone(work) and reads_real
        bias = 4 * channels if shifted or any(_has_bias(graph, group) for group in direct) else 0
    elif logits or (is_alone(work) and reads_real):
        bias = 4 * channels if is_alone(work) or any(_has_bias(graph, group) for group in direct) else 0
    else:
        bias = 2 * blocked(channels)
    for group in work:
        if group.layer and group not in direct and _has_bias(graph, group):
            bias += 4 * channels * group.vote
    terms = sum(len(group.terms) for group in work)
    sizes = STRUCTS[kernels]
    return sizes.step + sizes.group * len(work) + sizes.term * terms + bias


def _is_direct(group: Group, work: tuple[Group, ...], wide: bool) -> bool:
    real = any(term.reading is Reading.DENSE for term in group.terms)
    return is_alone(work) or (group.vote == 1 and (wide or not real))


def _has_bias(graph: Graph, group: Group) -> bool:
    layer = graph[group.layer] if group.layer else None
    return isinstance(layer, Conv2d | Linear) and layer.bias


def neuron_bytes(graph: Graph, name: str, kernels: Kernels) -> int:
    """Bytes of a neuron's thresholds, folded norm and table entry."""
    layer, channels = graph[name], graph.shapes[name][0]
    norm = 2 * channels + -(-channels // 8) if isinstance(layer, Lif) and layer.folded_norm else 0
    thresholds = 2 * blocked(channels) if kernels is Kernels.FAST else 4 * -(-channels // 2)
    return STRUCTS[kernels].neuron + thresholds + norm


# Bytes of each part, by kind of core; a part that is missing costs nothing that the others do not explain. What is
# fitted has no network that mirrors: that part was linked with and without.
CODE: dict[Kernels, dict[str, dict[str, int]]] = {
    Kernels.FAST: {
        "dsp": {
            "always": 3138,
            "dense": 1124,
            "fixed": 277,
            "in_place": 207,
            "membranes": 244,
            "mirrored": 216,
            "partial": 301,
            "plain": 966,
            "pool": 293,
            "pooled": 119,
            "rows_4": 478,
            "several_bits": 353,
            "skip": 196,
            "slow_neurons": 185,
            "tap_by_tap": 444,
            "unit_1": 178,
            "unit_2": 177,
            "unit_4": 115,
            "units": 631,
        },
        "thumb1": {
            "always": 3136,
            "dense": 1095,
            "fixed": 292,
            "in_place": 231,
            "left": 15,
            "membranes": 275,
            "mirrored": 244,
            "partial": 311,
            "plain": 931,
            "pool": 408,
            "pooled": 149,
            "rows_2": 22,
            "several_bits": 418,
            "skip": 202,
            "tap_by_tap": 406,
            "unit_1": 101,
            "unit_2": 134,
            "unit_4": 10,
            "units": 750,
        },
        "riscv": {
            "always": 3977,
            "dense": 1172,
            "fixed": 352,
            "in_place": 309,
            "membranes": 403,
            "mirrored": 232,
            "partial": 412,
            "plain": 1108,
            "pool": 428,
            "pooled": 135,
            "rows_4": 272,
            "several_bits": 564,
            "skip": 301,
            "tap_by_tap": 428,
            "unit_1": 157,
            "unit_2": 193,
            "unit_4": 128,
            "units": 817,
        },
    },
    Kernels.COMPACT: {
        "dsp": {
            "always": 1446,
            "mirrored": 216,
            "partial": 231,
            "pool": 241,
            "pooled": 205,
            "rows_2": 10,
            "several_bits": 50,
            "skip": 8,
            "unit_1": 7,
            "unit_2": 8,
            "units": 6,
        },
        "thumb1": {
            "always": 1416,
            "mirrored": 244,
            "partial": 243,
            "pool": 403,
            "pooled": 215,
            "several_bits": 64,
            "slow_neurons": 21,
            "unit_1": 5,
        },
        "riscv": {
            "always": 1546,
            "mirrored": 232,
            "partial": 228,
            "pool": 384,
            "pooled": 218,
            "rows_2": 4,
            "several_bits": 60,
        },
    },
}


def code_bytes(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]], kind: str) -> int:
    """Bytes of code, startup included, on a kind of core (see :func:`spikenas.cost.latency.core_kind`), at most."""
    parts = CODE[plan.kernels][kind]
    return ceil(CODE_ROOM * sum(parts.get(name, 0) for name in code_parts(graph, plan, work)))


CODE_ROOM = 1.02
"""for what the parts do not explain, so that a budget which is kept here is kept by the linker"""


def code_parts(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]]) -> list[str]:
    """Which parts of the kernels a network needs; ``always`` is the rest."""
    every = [group for step_groups in work for group in step_groups]
    terms = [term for group in every for term in group.terms]
    rows = [(graph[group.layer], term) for group in every if group.layer for term in group.terms]
    listed = [(layer, term) for layer, term in rows if term.reading is Reading.ROWS]
    bits = {stored_bits(layer.weight_bits) for layer, _ in listed if isinstance(layer, Conv2d | Linear)}
    widths = {min(packed_bytes(graph.shapes[term.source][0]), 4) for _, term in listed}
    dense = [(group, term) for group in every for term in group.terms if term.reading is Reading.DENSE]
    lifs = [node.layer for node in graph.nodes if isinstance(node.layer, Lif)]
    mixed = any(step_groups[0].static and not step_groups[-1].static for step_groups in work)
    layer_major = plan.schedule is Schedule.LAYER_MAJOR
    fast = plan.kernels is Kernels.FAST
    present = {
        "always": True,
        "rows": bool(listed),
        **{f"rows_{width}": width in bits for width in WEIGHT_BITS},
        **{f"unit_{width}": width in widths for width in (1, 2, 4)},
        "plain": any(is_plain(graph, *pair) for pair in zip(plan.steps, work, strict=True)),
        "in_place": any(_is_in_place(graph, *pair) for pair in zip(plan.steps, work, strict=True)),
        "pooled": any(term.pool != POINT for _, term in listed),
        "several_bits": len(bits) > 1,
        "several_units": len(widths) > 1,
        "tap_by_tap": any(is_tap_by_tap(term, graph.shapes[term.source]) for _, term in listed),
        "left": any(_may_shift(graph, step_groups) for step_groups in work),
        "units": any(term.reading is Reading.UNITS for term in terms),
        "weighted_units": any(term.reading is Reading.UNITS for _, term in rows),
        "dense": any(term.reading is Reading.DENSE for term in terms),
        "lines": any(is_one_patch(graph, group, term) for group, term in dense),
        "patches": any(not is_one_patch(graph, group, term) for group, term in dense),
        "skip": any(term.reading is Reading.SKIP for term in terms),
        "pool": any(term.reading is Reading.POOL for term in terms),
        "partial": any(not is_alone(g) and any(x.vote > 1 or (fast and _reads_real(x)) for x in g) for g in work),
        "fixed": layer_major and mixed,
        "membranes": not layer_major and bool(lifs),
        "slow_neurons": any(_is_slow(graph, node.name) for node in graph.nodes),
        "small_membranes": not layer_major and any(lif.membrane_bits <= 8 for lif in lifs),
        "norms": any(lif.folded_norm for lif in lifs),
        "mirrored": graph.views > 1,
    }
    return [name for name, needed in present.items() if needed]


def _may_shift(graph: Graph, work: tuple[Group, ...]) -> bool:
    """Whether a layer of few bits is coarse alone, or joins finer values that its sums may have to be shifted for.

    There the weights decide, so this counts the code for it where it may be needed: a budget that is kept is kept.
    """
    if len(work) == 1:
        return work[0].layer is not None and is_coarse_alone(graph, work[0].layer)
    layers = [graph[group.layer] for group in work if group.layer]
    return any(isinstance(layer, Conv2d | Linear) and stored_bits(layer.weight_bits) < 8 for layer in layers)


def _is_slow(graph: Graph, name: str) -> bool:
    """Whether cores that update two neurons at once cannot do so here."""
    lif = graph[name]
    return isinstance(lif, Lif) and (lif.membrane_bits != 16 or lif.folded_norm or graph.shapes[name][0] % 2 == 1)


def is_plain(graph: Graph, step: Step, work: tuple[Group, ...]) -> bool:
    """Whether a step adds nothing but the rows of one term, in 16 bits, which has a loop of its own."""
    if step.node == graph.output or len(work) != 1 or len(work[0].terms) != 1:
        return False
    term = work[0].terms[0]
    return term.reading is Reading.ROWS and not term.delay and not is_tap_by_tap(term, graph.shapes[term.source])


def _is_in_place(graph: Graph, step: Step, work: tuple[Group, ...]) -> bool:
    """Whether a step forms its sums where it stores them."""
    real = any(term.reading is Reading.DENSE for group in work for term in group.terms)
    stores = step.node in step.writes and step.node != graph.output and not isinstance(graph[step.node], Lif)
    mixed = work[0].static and not work[-1].static
    return stores and not mixed and not (real and is_alone(work)) and graph.shapes[step.node][0] % CHANNEL_BLOCK == 0


def _reads_real(group: Group) -> bool:
    return any(term.reading is Reading.DENSE for term in group.terms)


def is_one_patch(graph: Graph, group: Group, term: Term) -> bool:
    """Whether a window of real values is read line by line: of an image, ungrouped and short."""
    layer = graph[group.layer] if group.layer else None
    whole = isinstance(layer, Linear) or (isinstance(layer, Conv2d) and layer.groups == 1)
    return (
        whole and isinstance(graph[term.source], Input) and term.window.taps * graph.shapes[term.source][0] <= PATCH_MAX
    )


def is_tap_by_tap(term: Term, shape: tuple[int, ...]) -> bool:
    """Whether the kernels must look at the taps of a window one by one: pools that overlap, or odd packed words."""
    pool = term.pool
    tiled = pool.stride == pool.kernel and pool.padding == (0, 0)
    return (shape[0] > 32 and (shape[0] % 32 != 0 or pool != POINT)) or not tiled


def constant_bytes(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]]) -> dict[str, int]:
    """Bytes of constants, by the node that they belong to."""
    sizes = dict.fromkeys((node.name for node in graph.nodes), 0)
    for step, step_groups in zip(plan.steps, work, strict=True):
        sizes[step.node] += step_bytes(graph, step, step_groups, plan.kernels)
        for group in step_groups:
            if group.layer:
                sizes[group.layer] += weight_bytes(graph, group, plan.kernels)
        for name in step.writes:
            if isinstance(graph[name], Lif):
                sizes[name] += neuron_bytes(graph, name, plan.kernels)
    return sizes
