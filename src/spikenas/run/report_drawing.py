"""Where the dots and wires of a block lie: dots on a vertical axis in order of computation, wires in lanes beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikenas.run.report_cells import Block
from spikenas.run.report_wires import Wire

DOT, LINE, CORNER, MARGIN = 13, 14, 16, 8
PILL_PADDING, PILL_GAP, CLEARANCE = 7, 10, 52
CHARACTER = 6.4
"""of the pill's text at 11 px, on average; generous, fonts differ"""


@dataclass(frozen=True, slots=True)
class Dot:
    """A value, with its label inside."""

    x: float
    y: float
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A wire: its SVG path, and a pill with its operation, one word a line."""

    path: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    words: tuple[str, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG picture of ``width`` by ``height`` pixels."""

    width: float
    height: float
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    title: str

    def item(self) -> dict[str, Any]:
        """What the page's script makes the picture from."""
        return {
            "size": [round(self.width), round(self.height)],
            "title": self.title,
            "dots": [[round(dot.x), round(dot.y), dot.label, dot.title] for dot in self.dots],
            "lines": [
                [
                    line.path,
                    line.kind,
                    *(round(x) for x in (line.x, line.y, line.width, line.height)),
                    line.words,
                    line.title,
                ]
                for line in self.lines
            ],
        }


def draw(block: Block) -> Drawing:
    """Lay the block out; wires between neighbours run straight, the others in the nearest lane that is free."""
    position = {name: index for index, name in enumerate(block.values)}
    lanes = assign_lanes([(*wire.span(position), wire.delay == 0) for wire in block.wires])
    row = max((_pill_height(wire) for wire in block.wires), default=0) + CLEARANCE
    left, right = -min(lanes, default=0), max(lanes, default=0)
    pill = max(_pill_width(wire) for wire in block.wires)
    reach, pitch = pill / 2 + MARGIN, round(pill + PILL_GAP)
    axis, top = round(reach + left * pitch), DOT + MARGIN
    dots = tuple(
        Dot(axis, top + index * row, label, f"{name}, {shape}" if shape else "")
        for index, (name, label, shape) in enumerate(zip(block.values, block.labels, block.shapes, strict=True))
    )
    lines = tuple(
        _line(wire, axis, axis + lane * pitch, dots[position[wire.source]].y, dots[position[wire.target]].y)
        for wire, lane in zip(block.wires, lanes, strict=True)
    )
    height = 2 * top + (len(dots) - 1) * row
    return Drawing(axis + right * pitch + reach, height, dots, lines, _title(block))


def drawings(blocks: Sequence[Block]) -> list[dict[str, Any] | None]:
    """Of each block what the page's script makes its picture from; None of a chain, which has none."""
    return [draw(block).item() if block.branched else None for block in blocks]


def assign_lanes(spans: list[tuple[int, int, bool]]) -> list[int]:
    """A lane for each (lower, upper, forward) span: 0 the axis, 1, 2, ... right of it, -1, -2, ... left of it.

    Wires in one lane do not overlap. Short wires come first, so that they lie inside the long ones.

    >>> assign_lanes([(0, 1, True), (1, 2, True), (0, 2, True), (1, 3, True), (2, 3, True), (0, 3, True)])
    [0, 0, 1, -1, 0, 2]
    """
    lanes = [0] * len(spans)
    taken: dict[int, list[tuple[int, int]]] = {}
    for index in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], i)):
        low, high, forward = spans[index]
        lane = 0 if high - low == 1 and forward else 1
        while any(low < max(b, a + 1) and a < max(high, low + 1) for a, b in taken.get(lane, [])):
            lane = 1 if lane == 0 else -lane if lane > 0 else 1 - lane
        lanes[index] = lane
        taken.setdefault(lane, []).append((low, high))
    return lanes


def _line(wire: Wire, axis: float, x: float, source: float, target: float) -> Line:
    kind = "delayed" if wire.delay else "spiking" if wire.spiking else "plain" if wire.words else "skip"
    path = f"M{axis:g} {source + DOT:g}V{target - DOT - 4:g}" if x == axis else _bracket(axis, x, source, target)
    words = wire.words or ("skip",)
    title = f"{wire.source} to {wire.target}: {', '.join(words)}{', one step later' if wire.delay else ''}"
    middle = (source + target) / 2
    return Line(path, kind, x, middle, _pill_width(wire), _pill_height(wire), words, title)


def _bracket(axis: float, x: float, source: float, target: float) -> str:
    """Out of the source's side, along the lane, and into the target's side; a loop when they are the same."""
    side = 1 if x > axis else -1
    out, down = axis + side * DOT, 1 if target > source else -1
    into, corner = axis + side * (DOT + 4), side * CORNER
    if source == target:
        source, target, down = source + 7, target - 7, -1
        return f"M{out - 3 * side:g} {source:g}H{x:g}V{target:g}H{into:g}"
    return (
        f"M{out:g} {source:g}H{x - corner:g}Q{x:g} {source:g} {x:g} {source + down * CORNER:g}"
        f"V{target - down * CORNER:g}Q{x:g} {target:g} {x - corner:g} {target:g}H{into:g}"
    )


def _pill_width(wire: Wire) -> float:
    return max(len(word) for word in wire.words or ("skip",)) * CHARACTER + 2 * PILL_PADDING


def _pill_height(wire: Wire) -> float:
    return len(wire.words or ("skip",)) * LINE + 2 * PILL_PADDING


def _title(block: Block) -> str:
    return f"{block.title}: {len(block.values)} values, {len(block.wires)} connections"
