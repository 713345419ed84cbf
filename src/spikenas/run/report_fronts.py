"""Pareto fronts of several studies in one chart, over any two of their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import HoverTool, NumeralTickFormatter, Span

from spikenas.run.report_charts import Chart, chart, figure_of_any_axes
from spikenas.run.report_data import ReportData
from spikenas.run.report_trials import MEASURES, Scatter, measured, short, trial_scatter

HEIGHT = 420


@dataclass(frozen=True, slots=True)
class Fronts:
    """The chart, and what the page's script works on: of each run ``front`` (positions by "x|y") in the columns of
    its ``trials``, ``chosen`` (the chosen network's figures) and ``budget``."""

    chart: Chart
    measures: dict[str, tuple[str, str]]
    x: str
    y: str
    runs: list[dict[str, Any]]


def fronts_together(runs: Sequence[ReportData], names: Sequence[str], colors: Sequence[str]) -> Fronts | None:
    """The fronts of all runs that searched, with the measures that any of them has; None where none searched."""
    found = [trial_scatter(data) for data in runs]
    scatters = [scatter for scatter in found if scatter]
    if not scatters:
        return None
    measures = {name: words for name, words in MEASURES.items() if any(name in one.measures for one in scatters)}
    return Fronts(
        chart=_draw(names, colors),
        measures=measures,
        x=scatters[0].x,
        y=scatters[0].y,
        runs=[_run(data, scatter) for data, scatter in zip(runs, found, strict=True)],
    )


def _run(data: ReportData, scatter: Scatter | None) -> dict[str, Any]:
    if scatter is None:
        return {"front": {}, "trials": {}, "chosen": {}, "budget": {}}
    rows = sorted(scatter.best)
    position = {row: index for index, row in enumerate(rows)}
    values = measured(data.trials)
    columns: dict[str, list[Any]] = {name: _known(short(values[name][rows])) for name in scatter.measures}
    columns["number"] = [data.trials[row].get("number", row) for row in rows]
    columns["genotype"] = [data.trials[row].get("genotype", "") for row in rows]
    return {
        "front": {pair: [position[row] for row in front] for pair, front in scatter.front_rows.items()},
        "trials": columns,
        "chosen": _chosen(data, {name: short(values[name]) for name in scatter.measures}),
        "budget": scatter.budget,
    }


def _chosen(data: ReportData, values: dict[str, list[float]]) -> dict[str, float | None]:
    """The figures of the chosen network's longest training in the search, or of its score."""
    own = [row for row, trial in enumerate(data.trials) if trial.get("genotype") == data.genotype]
    if not own:
        return {}
    longest = max(own, key=lambda row: data.trials[row].get("epochs") or 0)
    return {name: _known([column[longest]])[0] for name, column in values.items()}


def _known(values: list[float]) -> list[float | None]:
    return [value if value == value else None for value in values]  # NaN is no JSON


def _draw(names: Sequence[str], colors: Sequence[str]) -> Chart:
    """Everything is empty: the page's script fills it for any two axes."""
    plot = figure_of_any_axes("fronts", HEIGHT)
    points = []
    for index, color in enumerate(colors):
        for axis, dimension in (("x", "height"), ("y", "width")):
            style = {"line_color": color, "line_dash": "dashed", "line_width": 1.5, "visible": False}
            plot.add_layout(Span(name=f"limit_{axis}_{index}", dimension=dimension, location=0, **style))
        plot.step([], [], name=f"front_{index}", line_color=color, line_width=2)
        empty: dict[str, list[Any]] = {"x": [], "y": [], "number": [], "genotype": []}
        points.append(plot.scatter("x", "y", name=f"points_{index}", source=empty, color=color, size=7))
        plot.scatter([], [], name=f"chosen_{index}", marker="star", size=20, fill_color=color, line_color="#5c4400")
    tip = "<b>Trial @number</b><br>@genotype<br>@x{0,0.[00]}, @y{0,0.[00]}"
    plot.add_tools(HoverTool(tooltips=tip, renderers=points, show_arrow=False))
    plot.axis.formatter = NumeralTickFormatter(format="0,0.[00]")
    return chart("fronts", "Best trades", plot, list(zip(names, colors, strict=True)))
