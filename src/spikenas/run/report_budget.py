"""The budget bars of a report: flash and RAM, stacked by what takes them, with the limit as a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spikenas.cost.budget import format_bytes
from spikenas.cost.cost import Cost
from spikenas.cost.memory import SCRATCH, MemoryPlan
from spikenas.run.report_data import ReportData
from spikenas.run.report_text import bytes_of

# So many parts get a colour and a line of their own; the rest is one more.
NAMED_PARTS = 5


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar. ``share`` is its width in percent of the whole track, ``tone`` its colour (0: neutral)."""

    name: str
    size_bytes: int
    share: float
    tone: int

    @property
    def text(self) -> str:
        return format_bytes(self.size_bytes)


@dataclass(frozen=True, slots=True)
class Bar:
    """One budget. ``limit_share``: where the limit's line stands, in percent of the track; None without a limit."""

    name: str
    text: str
    note: str
    over: bool
    parts: tuple[Part, ...]
    limit_share: float | None


def budget_bars(data: ReportData) -> tuple[Bar, Bar]:
    """Flash by layer; RAM by what lives at the step that needs most."""
    cost, budget = data.cost, data.budget
    flash = [(layer.name, layer.flash_bytes) for layer in cost.layers if layer.flash_bytes]
    note = f"when it needs most: while computing {cost.plan.peak_step.node}"
    return (
        _bar("Flash", flash, cost.flash_bytes, budget.flash_bytes, "weights, thresholds and code, by layer"),
        _bar("RAM", ram_parts(cost), cost.ram_bytes, budget.ram_bytes, note),
    )


def ram_parts(cost: Cost) -> list[tuple[str, int]]:
    """What each layer's buffers take at the peak step, the stack, and what the placement leaves unused.

    Together they are ``ram_bytes``.
    """
    plan = cost.plan
    layers: dict[str, int] = {}
    for buffer, size in live_at(plan, plan.steps.index(plan.peak_step)):
        layer, _, suffix = buffer.partition(".")
        part = SCRATCH if suffix == SCRATCH else layer
        layers[part] = layers.get(part, 0) + size
    unused = plan.arena_bytes - sum(layers.values())
    return [*layers.items(), ("stack", plan.stack_bytes), *([("unused at this step", unused)] if unused else [])]


def live_at(plan: MemoryPlan, step: int) -> list[tuple[str, int]]:
    """(name, bytes) of the buffers in use at a step."""
    return [(b.name, b.size_bytes) for b in plan.buffers if b.first <= step <= b.last]


def _bar(name: str, sizes: Iterable[tuple[str, int]], used: int, limit: int | None, note: str) -> Bar:
    ordered = sorted(sizes, key=lambda part: -part[1])
    named, rest = ordered[:NAMED_PARTS], ordered[NAMED_PARTS:]
    if len(rest) == 1:
        named, rest = ordered, []
    track = max(used, limit or 0)
    parts = [Part(part, size, 100 * size / track, tone) for tone, (part, size) in enumerate(named, start=1)]
    if rest:
        size = sum(size for _, size in rest)
        parts.append(Part(f"{len(rest)} more", size, 100 * size / track, 0))
    over = limit is not None and used > limit
    return Bar(name, bytes_of(used, limit), note, over, tuple(parts), 100 * limit / track if limit else None)
