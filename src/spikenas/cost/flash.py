"""Flash: the constants of a network to the byte, and an estimate of the code that computes it.

Constants are counted as :mod:`spikenas.deploy` writes them: rows of weights in words of 32 bits, thresholds and
biases in blocks of 16 channels, and the tables that drive the kernels. Code is a sum of the parts that a network
needs, fitted to linked images (``python benchmarks/firmware.py --fit``).
"""

from __future__ import annotations

from collections.abc import Sequence

from spikenas.cost.memory import PATCH_MAX, MemoryPlan, Schedule, blocked, is_alone, packed_bytes
from spikenas.cost.steps import POINT, Group, Reading, Step, Term
from spikenas.graph import Conv2d, Graph, Lif, Linear

# Bytes of the structs in runtime/spikenas_runtime.h on a 32-bit core.
STEP_BYTES, GROUP_BYTES, TERM_BYTES, NEURON_BYTES = 64, 16, 88, 44
WEIGHT_BITS = (2, 4, 8)


def stored_bits(weight_bits: int) -> int:
    """Bits that a weight takes in a row: the next of 2, 4 and 8; 0 if that is too few.

    >>> stored_bits(3), stored_bits(8)
    (4, 8)
    """
    return next((bits for bits in WEIGHT_BITS if bits >= weight_bits), 0)


def weight_bytes(graph: Graph, group: Group) -> int:
    """Bytes of a layer's weights as the terms of its group read them."""
    if group.layer is None:
        return 0
    layer, outputs = graph[group.layer], graph.shapes[group.layer][0]
    assert isinstance(layer, Conv2d | Linear)
    groups = layer.groups if isinstance(layer, Conv2d) else 1
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


def step_bytes(graph: Graph, step: Step, work: tuple[Group, ...]) -> int:
    """Bytes of a step's tables and biases, without weights and neurons."""
    channels = graph.shapes[step.node][0]
    reads_real = any(term.reading is Reading.DENSE for group in work for term in group.terms)
    logits = step.node == graph.output
    direct = [group for group in work if group.layer and _is_direct(group, work, logits)]
    if logits or (is_alone(work) and reads_real):
        bias = 4 * channels if is_alone(work) or any(_has_bias(graph, group) for group in direct) else 0
    else:
        bias = 2 * blocked(channels)
    for group in work:
        if group.layer and group not in direct and _has_bias(graph, group):
            bias += 4 * channels * group.vote
    terms = sum(len(group.terms) for group in work)
    return STEP_BYTES + GROUP_BYTES * len(work) + TERM_BYTES * terms + bias


def _is_direct(group: Group, work: tuple[Group, ...], wide: bool) -> bool:
    real = any(term.reading is Reading.DENSE for term in group.terms)
    return is_alone(work) or (group.vote == 1 and (wide or not real))


def _has_bias(graph: Graph, group: Group) -> bool:
    layer = graph[group.layer] if group.layer else None
    return isinstance(layer, Conv2d | Linear) and layer.bias


def neuron_bytes(graph: Graph, name: str) -> int:
    """Bytes of a neuron's thresholds, folded norm and table entry."""
    layer, channels = graph[name], graph.shapes[name][0]
    norm = 2 * channels + -(-channels // 8) if isinstance(layer, Lif) and layer.folded_norm else 0
    return NEURON_BYTES + 2 * blocked(channels) + norm


# Bytes of each part, by kind of core; a part that is missing costs nothing that the others do not explain.
CODE: dict[str, dict[str, int]] = {
    "dsp": {
        "always": 2353,
        "dense": 1459,
        "fixed": 101,
        "partial": 82,
        "plain": 686,
        "pool": 423,
        "pooled": 233,
        "rows": 851,
        "rows_2": 11,
        "rows_4": 190,
        "several_bits": 346,
        "several_units": 171,
        "skip": 101,
        "slow_neurons": 131,
        "tap_by_tap": 195,
        "unit_1": 6,
        "unit_4": 312,
        "units": 535,
    },
    "thumb1": {
        "always": 1963,
        "dense": 1459,
        "fixed": 105,
        "partial": 74,
        "plain": 712,
        "pool": 542,
        "pooled": 238,
        "rows": 775,
        "rows_2": 195,
        "rows_4": 481,
        "several_bits": 239,
        "several_units": 137,
        "skip": 81,
        "slow_neurons": 78,
        "tap_by_tap": 239,
        "unit_1": 19,
        "unit_4": 245,
        "units": 625,
    },
    "riscv": {
        "always": 2156,
        "dense": 1739,
        "fixed": 91,
        "partial": 96,
        "plain": 921,
        "pool": 568,
        "pooled": 240,
        "rows": 455,
        "rows_2": 580,
        "rows_4": 897,
        "rows_8": 617,
        "skip": 163,
        "slow_neurons": 121,
        "tap_by_tap": 241,
        "unit_1": 169,
        "unit_2": 166,
        "unit_4": 574,
        "units": 660,
    },
}


def code_bytes(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]], kind: str) -> int:
    """Bytes of code, startup included, on a kind of core (see :func:`spikenas.cost.latency.core_kind`)."""
    parts = CODE[kind]
    return sum(parts.get(name, 0) for name in code_parts(graph, plan, work))


def code_parts(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]]) -> list[str]:
    """Which parts of the kernels a network needs; ``always`` is the rest."""
    every = [group for step_groups in work for group in step_groups]
    terms = [term for group in every for term in group.terms]
    rows = [(graph[group.layer], term) for group in every if group.layer for term in group.terms]
    listed = [(layer, term) for layer, term in rows if term.reading is Reading.ROWS]
    bits = {stored_bits(layer.weight_bits) for layer, _ in listed if isinstance(layer, Conv2d | Linear)}
    widths = {min(packed_bytes(graph.shapes[term.source][0]), 4) for _, term in listed}
    lifs = [node.layer for node in graph.nodes if isinstance(node.layer, Lif)]
    mixed = any(step_groups[0].static and not step_groups[-1].static for step_groups in work)
    layer_major = plan.schedule is Schedule.LAYER_MAJOR
    present = {
        "always": True,
        "rows": bool(listed),
        **{f"rows_{width}": width in bits for width in WEIGHT_BITS},
        **{f"unit_{width}": width in widths for width in (1, 2, 4)},
        "plain": any(_is_plain(step_groups) for step_groups in work),
        "pooled": any(term.pool != POINT for _, term in listed),
        "several_bits": len(bits) > 1,
        "several_units": len(widths) > 1,
        "tap_by_tap": any(is_tap_by_tap(term, graph.shapes[term.source]) for _, term in listed),
        "units": any(term.reading is Reading.UNITS for term in terms),
        "weighted_units": any(term.reading is Reading.UNITS for _, term in rows),
        "dense": any(term.reading is Reading.DENSE for term in terms),
        "skip": any(term.reading is Reading.SKIP for term in terms),
        "pool": any(term.reading is Reading.POOL for term in terms),
        "partial": any(not is_alone(g) and any(x.vote > 1 or _reads_real(x) for x in g) for g in work),
        "fixed": layer_major and mixed,
        "membranes": not layer_major and bool(lifs),
        "slow_neurons": any(lif.membrane_bits != 16 for lif in lifs),
        "small_membranes": not layer_major and any(lif.membrane_bits <= 8 for lif in lifs),
        "norms": any(lif.folded_norm for lif in lifs),
    }
    return [name for name, needed in present.items() if needed]


def _is_plain(work: tuple[Group, ...]) -> bool:
    return len(work) == 1 and len(work[0].terms) == 1 and work[0].terms[0].reading is Reading.ROWS


def _reads_real(group: Group) -> bool:
    return any(term.reading is Reading.DENSE for term in group.terms)


def is_tap_by_tap(term: Term, shape: tuple[int, ...]) -> bool:
    """Whether the kernels must look at the taps of a window one by one: pools that overlap, or odd packed words."""
    pool = term.pool
    tiled = pool.stride == pool.kernel and pool.padding == (0, 0)
    return (shape[0] > 32 and (shape[0] % 32 != 0 or pool != POINT)) or not tiled


def constant_bytes(graph: Graph, plan: MemoryPlan, work: Sequence[tuple[Group, ...]]) -> dict[str, int]:
    """Bytes of constants, by the node that they belong to."""
    sizes = dict.fromkeys((node.name for node in graph.nodes), 0)
    for step, step_groups in zip(plan.steps, work, strict=True):
        sizes[step.node] += step_bytes(graph, step, step_groups)
        for group in step_groups:
            if group.layer:
                sizes[group.layer] += weight_bytes(graph, group)
        for name in step.writes:
            if isinstance(graph[name], Lif):
                sizes[name] += neuron_bytes(graph, name)
    return sizes
