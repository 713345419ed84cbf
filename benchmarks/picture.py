"""The README's picture: every network that a run judged, by its flash and RAM, and the budget they had to keep.

python benchmarks/picture.py runs/first docs/search.svg
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from math import log2
from pathlib import Path
from typing import Any

from spikenas.cost.budget import format_bytes
from spikenas.run.artifacts import read_json

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 44, 50
FLASH, RAM = (2 * 1024, 1024**2), (512, 64 * 1024)
"""Bytes at the ends of the axes, which are logarithmic; what lies beyond is not drawn."""
GREY, BLUE, ORANGE, GREEN = "#b8bec6", "#3b76c4", "#d9661f", "#2e7d4f"


def place(trial: Mapping[str, Any]) -> tuple[float, float]:
    """Where a network lies, in pixels."""
    return _across(trial["flash_bytes"]), _up(trial["ram_bytes"])


def picture(run: Path) -> str:
    """The SVG of a run's folder."""
    page, summary = read_json(run / "page.json"), read_json(run / "summary.json")
    screened = [trial for trial in page["trials"] if trial["measure"] != "train"]
    raced = {trial["genotype"]: trial for trial in page["trials"] if trial["measure"] == "train"}
    fits, misses = (
        _dots(t for t in screened if _inside(t) and (t["state"] == "done") is kept) for kept in (True, False)
    )
    budget, cost = page["budget"], summary["cost"]
    x, y = _across(budget["flash_bytes"]), _up(budget["ram_bytes"])
    floor, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    chosen = place(cost)
    found = (
        f"chosen: {format_bytes(cost['flash_bytes'])} of flash, {format_bytes(cost['ram_bytes'])} of RAM, "
        f"{100 * summary['integer_accuracy']:.1f}% of test images right as integers"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="13" fill="#333" role="img">',
            f"<title>{found}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<rect x="{LEFT}" y="{y:.0f}" width="{x - LEFT:.0f}" height="{floor - y:.0f}" fill="#e6f2ea"/>',
            *_axes(floor, end),
            f'<path d="{misses}" stroke="{GREY}" stroke-width="3" stroke-linecap="round"/>',
            f'<path d="{fits}" stroke="{BLUE}" stroke-width="3" stroke-linecap="round"/>',
            f'<path d="M{LEFT} {y:.0f}H{x:.0f}V{floor}" fill="none" stroke="{GREEN}" stroke-width="2"/>',
            f'<text x="{LEFT + 6}" y="{y - 7:.0f}" fill="{GREEN}">budget: {format_bytes(budget["flash_bytes"])} '
            f"of flash, {format_bytes(budget['ram_bytes'])} of RAM</text>",
            *(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="#fff" stroke="{ORANGE}" stroke-width="2"/>'
                for px, py in map(place, raced.values())
            ),
            f'<circle cx="{chosen[0]:.1f}" cy="{chosen[1]:.1f}" r="7" fill="{ORANGE}" stroke="#fff" stroke-width="2"/>',
            f'<text x="{LEFT}" y="18">{_key(GREY)} {sum(t["state"] != "done" for t in screened):,} too large '
            f"{_key(BLUE)} {sum(t['state'] == 'done' for t in screened):,} fit {_key(ORANGE)} {len(raced)} trained "
            "briefly</text>",
            f'<text x="{LEFT}" y="36">{_key(ORANGE)} {found}</text>',
            "</svg>\n",
        ]
    )


def _axes(floor: int, end: int) -> list[str]:
    lines = [f'<path d="M{LEFT} {TOP}V{floor}H{end}" fill="none" stroke="#888"/>']
    for bytes_ in _doublings(FLASH, 2):
        lines.append(f'<text x="{_across(bytes_):.0f}" y="{floor + 18}" text-anchor="middle">{_short(bytes_)}</text>')
    for bytes_ in _doublings(RAM, 1):
        lines.append(f'<text x="{LEFT - 8}" y="{_up(bytes_) + 4:.0f}" text-anchor="end">{_short(bytes_)}</text>')
    lines.append(f'<text x="{end}" y="{HEIGHT - 10}" text-anchor="end">flash</text>')
    lines.append(f'<text x="{LEFT + 6}" y="{TOP + 14}">RAM</text>')
    return lines


def _key(color: str) -> str:
    return f'<tspan fill="{color}">●</tspan>'


def _dots(trials: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in sorted({(round(x), round(y)) for x, y in map(place, trials)}))


def _doublings(axis: tuple[int, int], step: int) -> list[int]:
    return [axis[0] * 2**power for power in range(0, round(log2(axis[1] / axis[0])) + 1, step)]


def _short(bytes_: int) -> str:
    return format_bytes(bytes_).replace(".0 ", " ").replace(".00 ", " ")


def _inside(trial: Mapping[str, Any]) -> bool:
    return FLASH[0] <= (trial["flash_bytes"] or 0) <= FLASH[1] and RAM[0] <= trial["ram_bytes"] <= RAM[1]


def _across(flash_bytes: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * log2(flash_bytes / FLASH[0]) / log2(FLASH[1] / FLASH[0])


def _up(ram_bytes: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * log2(ram_bytes / RAM[0]) / log2(RAM[1] / RAM[0])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(picture(Path(sys.argv[1])), encoding="utf-8")
