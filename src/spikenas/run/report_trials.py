"""The scatter of a report: every trial of the study, any two of its figures, the best trades and the budget."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import BoxAnnotation, ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d, TapTool

from spikenas.run.report_charts import BLUE, GREY, RED, TEAL, Chart, chart, figure_of_any_axes
from spikenas.run.report_data import ReportData, Row
from spikenas.search.pareto import OBJECTIVES, non_dominated

MEASURES = {
    "accuracy": ("validation accuracy", "%"),
    "score": ("score", ""),
    "flash_bytes": ("flash", "KB"),
    "ram_bytes": ("RAM", "KB"),
    "energy_nj": ("energy at 45 nm", "nJ"),
    "latency_ms": ("latency", "ms"),
}
"""What an axis may show, with words and unit."""
SCALES = {"accuracy": 100.0, "flash_bytes": 1 / 1024, "ram_bytes": 1 / 1024}
"""Factor from a trial's figure to the unit above."""
GROUPS = {
    "screened": ("scored only", GREY, 5),
    "trained": ("trained", BLUE, 8),
    "refused": ("over budget or failed", RED, 5),
}
"""Kinds of trials with words, colour and size in pixels; later ones lie on top."""
# Reasons are cut off here, so that a study of 10,000 refusals stays a small page.
REASON_LENGTH = 120
HEIGHT = 440
FLOOR = "floor"

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scatter:
    """The chart, and what the page's script needs to change its axes and to tell about a trial.

    ``fronts`` holds the points of the Pareto front of every two measures, by "x|y", and ``front_rows`` the same as
    positions in the report's trials.
    """

    chart: Chart
    measures: dict[str, tuple[str, str]]
    x: str
    y: str
    budget: dict[str, float]
    fronts: dict[str, list[list[float]]]
    counts: dict[str, int]
    front_rows: dict[str, list[int]]

    @property
    def best(self) -> set[int]:
        """The positions of the trials on any front."""
        return {row for rows in self.front_rows.values() for row in rows}


def trial_scatter(data: ReportData) -> Scatter | None:
    """The scatter; None when no trial has two figures to plot."""
    rows = data.trials
    values = measured(rows)
    present = {name: words for name, words in MEASURES.items() if np.isfinite(values[name]).any()}
    if len(present) < 2:
        return None
    y = _most_measured(values, [name for name in ("score", "accuracy") if name in present] or list(present))
    x = next(name for name in ("flash_bytes", *present) if name in present and name != y)
    kinds = np.array([_kind(row) for row in rows])
    limits = {name: getattr(data.budget, name, None) for name in present}
    fronts = _fronts({name: values[name] for name in present}, kinds != "refused")
    return Scatter(
        chart=_draw(rows, values, kinds),
        measures=present,
        x=x,
        y=y,
        budget={name: limit * SCALES.get(name, 1.0) for name, limit in limits.items() if limit is not None},
        fronts={f"{x}|{y}": [short(values[x][rows]), short(values[y][rows])] for (x, y), rows in fronts.items()},
        counts={kind: int((kinds == kind).sum()) for kind in GROUPS},
        front_rows={f"{x}|{y}": rows.tolist() for (x, y), rows in fronts.items()},
    )


def measured(rows: Sequence[Row]) -> dict[str, Values]:
    """Every measure of every trial in its unit, NaN where it was not measured."""
    values = {name: _measure(rows, name) for name in MEASURES}
    _share_scores(rows, values["score"])
    return values


def _measure(rows: Sequence[Row], name: str) -> Values:
    found = [row.get(name) for row in rows]
    return np.array([np.nan if value is None else value for value in found], float) * SCALES.get(name, 1.0)


def _share_scores(rows: Sequence[Row], scores: Values) -> None:
    """A network's training has its score too, so that one can be plotted against the other."""
    known = {row.get("genotype"): score for row, score in zip(rows, scores, strict=True) if np.isfinite(score)}
    for index, row in enumerate(rows):
        if not np.isfinite(scores[index]) and row.get("accuracy") is not None:
            scores[index] = known.get(row.get("genotype"), np.nan)


def _most_measured(values: dict[str, Values], names: list[str]) -> str:
    return max(names, key=lambda name: int(np.isfinite(values[name]).sum()))


def _kind(row: Row) -> str:
    if row.get("state", "done") != "done":
        return "refused"
    return "trained" if row.get("accuracy") is not None else "screened"


def _fronts(values: dict[str, Values], done: npt.NDArray[np.bool_]) -> dict[tuple[str, str], npt.NDArray[np.intp]]:
    """The positions of the non-dominated done trials of every ordered pair of measures, by rising x."""
    fronts = {}
    for x, y in itertools.permutations(values, 2):
        rows = np.flatnonzero(done & np.isfinite(values[x]) & np.isfinite(values[y]))
        if len(rows):
            points = np.stack([values[x], values[y]], axis=1)[rows]
            best = rows[non_dominated(points * [OBJECTIVES[x], OBJECTIVES[y]])]
            fronts[x, y] = best[np.lexsort((values[y][best], values[x][best]))]
    return fronts


def short(values: Values) -> list[float]:
    """Six digits of each."""
    return [float(f"{value:.6g}") for value in values]


def _draw(rows: Sequence[Row], values: dict[str, Values], kinds: npt.NDArray[np.str_]) -> Chart:
    """Positions, ranges, front, chosen trial and budget are empty: the page's script sets them for any two axes."""
    plot = figure_of_any_axes("trials", HEIGHT)
    plot.extra_y_ranges = {FLOOR: Range1d(0, 1)}
    plot.add_layout(BoxAnnotation(name="over_x", fill_color=RED, fill_alpha=0.09, line_color=None, visible=False))
    plot.add_layout(BoxAnnotation(name="over_y", fill_color=RED, fill_alpha=0.09, line_color=None, visible=False))
    points = []
    for kind, (_, color, size) in GROUPS.items():
        source = ColumnDataSource(_columns(rows, values, np.flatnonzero(kinds == kind)), name=kind)
        style: dict[str, Any] = {"source": source, "line_color": None, "fill_color": color, "size": size}
        alpha = 0.9 if kind == "trained" else 0.5
        style |= {"fill_alpha": alpha, "nonselection_fill_alpha": alpha, "nonselection_line_color": None}
        style |= {"selection_fill_color": "#e08a3c", "selection_line_color": None}
        points.append(plot.scatter("x", "y", name=f"points_{kind}", **style))
        points.append(_floor(plot, style))
    plot.step([], [], name="front", line_color=TEAL, line_width=2, line_alpha=0.9, level="underlay")
    plot.scatter([], [], name="chosen", marker="star", size=20, fill_color="#f0b429", line_color="#5c4400")
    tip = "<b>Trial @number</b> @measure, @state<br>@genotype"
    hover = HoverTool(tooltips=tip, renderers=points, point_policy="snap_to_data", limit=1, show_arrow=False)
    plot.add_tools(hover, TapTool(renderers=points))
    plot.axis.formatter = NumeralTickFormatter(format="0,0.[00]")
    legend = [(words, color) for kind, (words, color, _) in GROUPS.items() if (kinds == kind).any()]
    return chart("trials", "Trials", plot, [*legend, ("best trades", TEAL), ("chosen", "#f0b429")])


def _floor(plot: Any, style: dict[str, Any]) -> Any:
    """Trials without the figure of the vertical axis stand on the floor of the plot."""
    color = style["fill_color"]
    style = {**style, "line_color": color, "line_alpha": 0.6, "size": 9}
    style |= {"nonselection_line_color": color, "nonselection_line_alpha": 0.6}
    return plot.scatter("x", "floor", marker="dash", angle=np.pi / 2, y_range_name=FLOOR, **style)


def _columns(rows: Sequence[Row], values: dict[str, Values], chosen: npt.NDArray[np.intp]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: values[name][chosen].astype(np.float32) for name in MEASURES}
    columns["number"] = np.array([rows[i].get("number", i) for i in chosen], np.int32)
    columns["epochs"] = np.array([rows[i].get("epochs") or 0 for i in chosen], np.int32)
    for name in ("x", "y", "floor"):
        columns[name] = np.full(len(chosen), np.nan, np.float32)
    for name in ("genotype", "measure", "state", "reason"):
        length = REASON_LENGTH if name == "reason" else None
        columns[name] = [str(rows[i].get(name) or "")[:length] for i in chosen]
    return columns
