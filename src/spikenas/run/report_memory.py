"""The memory map of a report: the planner's arena, a row for every step, a box for every buffer."""

from __future__ import annotations

from dataclasses import dataclass

from spikenas.cost.budget import format_bytes
from spikenas.cost.memory import SCRATCH, Buffer, MemoryPlan
from spikenas.graph import Graph, Kind
from spikenas.run.report_budget import live_at
from spikenas.run.report_data import ReportData

# A budget further away than so many times the need is not drawn: the map would shrink to a sliver.
FAR = 2.0
TICKS = 5
CONTENTS = {
    "image": "input",
    "spikes": "spikes, 1 bit each",
    "currents": "currents, 16 bits",
    "membranes": "membranes",
    SCRATCH: "scratch of a step",
    "output": "output",
}
"""What a buffer may hold, with the words of the legend."""


@dataclass(frozen=True, slots=True)
class Box:
    """A buffer: rows ``top`` to ``top + height``, bytes from ``left`` over ``width`` percent of the map."""

    name: str
    content: str
    top: int
    height: int
    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class MapRow:
    """A step and the bytes in use while it runs, stack included."""

    name: str
    text: str
    peak: bool


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Positions are percent of the map's width; ``limit`` is None when there is none or it lies far outside."""

    rows: tuple[MapRow, ...]
    boxes: tuple[Box, ...]
    contents: tuple[tuple[str, str], ...]
    stack: Box
    limit: float | None
    limit_text: str
    ticks: tuple[tuple[float, str], ...]


def memory_map(data: ReportData) -> MemoryMap:
    """The plan of the chosen network, ready to draw."""
    plan, limit = data.cost.plan, data.budget.ram_bytes
    near = limit is not None and limit <= FAR * plan.ram_bytes
    # A little more than needed, so that the limit's line does not stand on the edge.
    scale = 1.02 * max(plan.ram_bytes, limit if limit and near else 0)
    boxes = tuple(_box(data.graph, buffer, plan, scale) for buffer in plan.buffers)
    used = {box.content for box in boxes}
    return MemoryMap(
        rows=_rows(plan),
        boxes=boxes,
        contents=tuple((name, words) for name, words in CONTENTS.items() if name in used),
        stack=Box(
            "stack",
            "stack",
            0,
            len(plan.steps),
            100 * plan.arena_bytes / scale,
            100 * plan.stack_bytes / scale,
            f"stack: {plan.stack_bytes:,} bytes, all the time",
        ),
        limit=100 * limit / scale if limit and near else None,
        limit_text="" if limit is None else f"budget {short_bytes(limit)}",
        ticks=tuple((100 * size / scale, short_bytes(size)) for size in tick_bytes(scale)),
    )


def tick_bytes(scale: float) -> list[int]:
    """Round byte counts from 0 to ``scale``, at most TICKS + 1 of them.

    >>> tick_bytes(9000), tick_bytes(300)
    ([0, 2048, 4096, 6144, 8192], [0, 64, 128, 192, 256])
    """
    step = 1
    while scale / step >= TICKS:
        step *= 2
    return list(range(0, int(scale) + 1, step))


def short_bytes(size_bytes: int) -> str:
    """Round byte counts without a fraction.

    >>> short_bytes(512), short_bytes(4096), short_bytes(3 * 1024**2)
    ('512 B', '4 KB', '3 MB')
    """
    return format_bytes(size_bytes).replace(".00 ", " ").replace(".0 ", " ")


def _rows(plan: MemoryPlan) -> tuple[MapRow, ...]:
    totals = [sum(size for _, size in live_at(plan, index)) + plan.stack_bytes for index in range(len(plan.steps))]
    peak = plan.steps.index(plan.peak_step)
    return tuple(
        MapRow(step.node, format_bytes(total), index == peak)
        for index, (step, total) in enumerate(zip(plan.steps, totals, strict=True))
    )


def _box(graph: Graph, buffer: Buffer, plan: MemoryPlan, scale: float) -> Box:
    first, last = plan.steps[buffer.first].node, plan.steps[buffer.last].node
    when = f"while computing {first}" if first == last else f"from {first} to {last}"
    content = _content(graph, buffer.name)
    return Box(
        buffer.name,
        content,
        buffer.first,
        buffer.last - buffer.first + 1,
        100 * buffer.offset / scale,
        100 * buffer.size_bytes / scale,
        f"{buffer.name}: {buffer.size_bytes:,} bytes at offset {buffer.offset:,} ({CONTENTS[content]}), {when}",
    )


def _content(graph: Graph, name: str) -> str:
    if name.endswith(f".{SCRATCH}"):
        return SCRATCH
    if name.endswith(".membrane"):
        return "membranes"
    if name == graph.output:
        return "output"
    return {Kind.IMAGE: "image", Kind.SPIKES: "spikes"}.get(graph.kinds[name], "currents")
