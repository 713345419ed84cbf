"""Charts of a report by Bokeh: what all of them share, and the learning curve.

Axes, grids and texts take their colours from the page's ``--bk-`` custom properties, which follow light and dark;
the colours of data are in the middle and read on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, CrosshairTool, HoverTool, NumeralTickFormatter, Range1d, Span
from bokeh.plotting import figure

from spikenas.run.report_data import Row

BLUE, ORANGE, TEAL, GREY, RED = "#4a86e8", "#e08a3c", "#23a596", "#8d97a5", "#d9584a"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart for the element called ``name``; ``item`` is what Bokeh's script makes it from."""

    name: str
    title: str
    legend: tuple[tuple[str, str], ...]
    item: Any


def chart(name: str, title: str, plot: figure, legend: Sequence[tuple[str, str]] = ()) -> Chart:
    """The finished plot as a part of the page."""
    return Chart(name, title, tuple(legend), json_item(plot, name))


def figure_of_any_axes(name: str, height: int) -> figure:
    """A figure whose script shows any two measures: empty ranges, and tools to move about in it."""
    plot = plain_figure(
        name,
        height,
        "pan,box_zoom,wheel_zoom,reset",
        x_range=Range1d(0, 1),
        y_range=Range1d(0, 1),
        toolbar_location="above",
        active_drag=None,
        active_scroll=None,
    )
    plot.xgrid.grid_line_color = "#888"
    return plot


def plain_figure(name: str, height: int, tools: str = "", **options: Any) -> figure:
    """A figure as wide as its place, without title and frame."""
    plot = figure(
        name=name,
        height=height,
        sizing_mode="stretch_width",
        tools=tools,
        min_border_right=12,
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.group = False
    plot.toolbar.stylesheets = [".bk-divider{visibility:hidden}"]
    plot.outline_line_color = None
    plot.xgrid.grid_line_color = None
    plot.axis.axis_line_color = None
    plot.axis.minor_tick_line_color = None
    plot.axis.major_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def curve_charts(rows: Sequence[Row]) -> list[Chart]:
    """Accuracy, loss and spike rate by epoch, the epochs on rates named; none without epochs."""
    if not rows:
        return []
    rates = sum(bool(row.get("on_rates")) for row in rows)
    until = f", on rates up to epoch {rates}" if rates else ""
    accuracy = [("val_accuracy", "validation", BLUE), ("train_accuracy", "training", ORANGE)]
    loss = [("val_loss", "validation", BLUE), ("train_loss", "training", ORANGE)]
    return [
        curve_chart("accuracy", f"Accuracy{until}", rows, accuracy, "0%"),
        curve_chart("loss", f"Loss{until}", rows, loss, "0.00"),
        curve_chart("spikes", "Spike rate", rows, [("spike_rate", "per neuron and step", TEAL)], "0.0%"),
    ]


def curve_chart(name: str, title: str, rows: Sequence[Row], lines: list[tuple[str, str, str]], form: str) -> Chart:
    """Lines over epochs: of each its key in ``rows``, words and colour; numbers in Bokeh's format ``form``."""
    lines = [line for line in lines if any(row.get(line[0]) is not None for row in rows)]
    columns = {key: [_number(row.get(key)) for row in rows] for key in ("epoch", *(key for key, _, _ in lines))}
    source = ColumnDataSource(columns)
    plot = plain_figure(f"curve-{name}", 210, toolbar_location=None, x_axis_label="epoch")
    plot.yaxis.formatter = NumeralTickFormatter(format=form)
    plot.yaxis.ticker.desired_num_ticks = 4
    if form.endswith("%"):
        plot.y_range = share_range([row[key] for row in rows for key, _, _ in lines if row.get(key) is not None])
    plot.xaxis.ticker.desired_num_ticks = 5
    plot.xaxis.ticker.mantissas = [1, 2, 5]
    plot.xaxis.ticker.min_interval = 1
    drawn = [plot.line("epoch", key, source=source, line_color=color, line_width=2) for key, _, color in lines]
    if len(rows) < 3:
        for key, _, color in lines:
            plot.scatter("epoch", key, source=source, color=color, size=6)
    tip = "<br>".join(["<b>Epoch @epoch</b>", *(f"{words} @{key}{{{form}}}" for key, words, _ in lines)])
    plot.add_tools(
        HoverTool(tooltips=tip, mode="vline", renderers=drawn[:1], show_arrow=False),
        CrosshairTool(overlay=Span(dimension="height", line_color=GREY, line_width=1, line_alpha=0.6)),
    )
    return chart(f"curve-{name}", title, plot, [(words, color) for _, words, color in lines])


def share_range(shares: Sequence[float]) -> Range1d:
    """An axis for shares, of a single one too: a little more than they span, and nothing below 0 or above 100%.

    >>> share_range([0.99]).start, share_range([0.99]).end
    (0.97, 1)
    """
    low, high = min(shares, default=0.0), max(shares, default=1.0)
    room = max(0.2 * (high - low), 0.02)
    return Range1d(round(max(0.0, low - room), 6), round(min(1.0, high + room), 6))


def _number(value: Any) -> float:
    return float("nan") if value is None else value
