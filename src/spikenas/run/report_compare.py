"""Two runs on one page: verdicts, figures, curves, Pareto fronts and networks side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

from spikenas.run.artifacts import write_bytes
from spikenas.run.report_cells import Block, blocks
from spikenas.run.report_charts import BLUE, ORANGE, Chart, curve_chart
from spikenas.run.report_data import ReportData, Row
from spikenas.run.report_drawing import drawings
from spikenas.run.report_frame import render_page
from spikenas.run.report_fronts import Fronts, fronts_together
from spikenas.run.report_text import duration, figures, percent, verdict

COLORS = (BLUE, ORANGE)
CURVES = (
    ("val_accuracy", "Validation accuracy", "0%"),
    ("val_loss", "Validation loss", "0.00"),
    ("spike_rate", "Spike rate", "0.0%"),
)
BETTER = {
    "Test accuracy": 1,
    "Flash": -1,
    "RAM": -1,
    "Energy": -1,
    "Energy at 45 nm": -1,
    "Latency": -1,
    "Synaptic operations": -1,
    "MACs": -1,
}
"""Figures that are better when higher (1) or lower (-1)."""
SHARES = ("Test accuracy", "Spike rate")
COUNTS: dict[str, Callable[[ReportData], str]] = {
    "Test accuracy, float": lambda data: percent(data.float_accuracy),
    "Parameters": lambda data: f"{data.graph.parameter_count:,}",
    "Timesteps": lambda data: str(data.graph.timesteps),
    "Trials": lambda data: f"{len(data.trials):,}" if data.trials else "",
    "Time": lambda data: duration(sum(data.seconds.values())),
}


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run as the page shows it; ``name`` is its folder."""

    name: str
    color: str
    word: str
    sentence: str
    data: ReportData
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of both, and what the second has more; ``tone``: "good" or "bad" for the second, or neither."""

    label: str
    first: str
    second: str
    difference: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """A run's folder, settings by name, and what its report shows."""

    name: str
    settings: Mapping[str, Any]
    data: ReportData


def write_comparison(first: Compared, second: Compared, path: Path) -> None:
    """Write the page to ``path``, all of it or nothing. Raises RunError when the disk refuses."""
    write_bytes(path, render_comparison(first, second).encode())


def render_comparison(first: Compared, second: Compared) -> str:
    """The page as one string of HTML."""
    pair = (first, second)
    runs = [_run(one, color) for one, color in zip(pair, COLORS, strict=True)]
    curves, fronts = _curves(*pair), fronts_together([one.data for one in pair], [one.name for one in pair], COLORS)
    charts = [*curves, *([fronts.chart] if fronts else [])]
    return render_page(
        "compare.html",
        {
            "charts": [chart.item for chart in charts],
            "network": [item for run in runs for item in drawings(run.blocks)],
            **({"compared": _script(fronts)} if fronts else {}),
        },
        runs=runs,
        lines=figure_lines(first.data, second.data),
        settings=_settings(first.settings, second.settings),
        curves=curves,
        fronts=fronts,
    )


def _run(one: Compared, color: str) -> ComparedRun:
    word, sentence = verdict(one.data)
    return ComparedRun(one.name, color, word, sentence, one.data, blocks(one.data.graph))


def figure_lines(first: ReportData, second: ReportData) -> list[Line]:
    """The figures under the verdicts, with their differences, and how much was searched."""
    figured = zip(figures(first), figures(second), _numbers(first), _numbers(second), strict=True)
    lines = [
        Line(one.label, f"{one.value} {one.unit}", f"{two.value} {two.unit}", *_difference(one.label, *numbers))
        for one, two, *numbers in figured
    ]
    counted = (Line(name, count(first), count(second)) for name, count in COUNTS.items())
    return [*lines, *(line for line in counted if line.first or line.second)]


def _numbers(data: ReportData) -> list[float]:
    """What :func:`figures` puts in words, in its order."""
    cost = data.cost
    energies = (cost.energy_core_uj_high or nan, cost.energy_nj)
    plain = (cost.flash_bytes, cost.ram_bytes, *energies, cost.latency_ms, cost.synops, cost.macs)
    return [data.integer_accuracy, *plain, data.spike_rate]


def _difference(label: str, first: float, second: float) -> tuple[str, str]:
    """In words, with its tone; "" where there is none or no share of nothing."""
    if first == second or not first or isnan(second - first):
        return "", ""
    more = second - first
    better = BETTER.get(label, 0) * more
    words = f"{100 * more:+.1f} points" if label in SHARES else f"{100 * more / first:+.1f}%"
    return words, "good" if better > 0 else "bad" if better < 0 else ""


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Those that differ."""
    names = dict.fromkeys((*first, *second))
    differing = [name for name in names if first.get(name) != second.get(name)]
    return [(name, _told(first.get(name)), _told(second.get(name))) for name in differing]


def _told(value: Any) -> str:
    return "default" if value is None else str(value)


def _curves(first: Compared, second: Compared) -> list[Chart]:
    """One line a run; none of what neither has."""
    charts = []
    on_rates = any(row.get("on_rates") for run in (first, second) for row in run.data.curve)
    for key, words, form in CURVES:
        rows = _together(first.data.curve, second.data.curve, key)
        if any(row["first"] is not None or row["second"] is not None for row in rows):
            title = f"{words}, on rates first" if on_rates and key == "val_accuracy" else words
            lines = [("first", first.name, BLUE), ("second", second.name, ORANGE)]
            charts.append(curve_chart(f"curve-{key}", title, rows, lines, form))
    return charts


def _together(first: Sequence[Row], second: Sequence[Row], key: str) -> list[Row]:
    one, two = ({row["epoch"]: row.get(key) for row in rows} for rows in (first, second))
    return [{"epoch": epoch, "first": one.get(epoch), "second": two.get(epoch)} for epoch in sorted({*one, *two})]


def _script(fronts: Fronts) -> dict[str, Any]:
    return {"measures": fronts.measures, "runs": fronts.runs}
