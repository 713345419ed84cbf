"""The report of a run: one HTML file that needs nothing else, neither network nor other files.

Pictures are made of HTML and SVG by the template in ``report_page``; the learning curve and the scatter of trials are
Bokeh's, whose script lies in the page (1.3 MB; plotly's takes 4.8). Every text goes through the template's escaping or
JSON, and the page's own policy forbids the browser to load anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from bokeh.resources import Resources
from markupsafe import Markup

import spikenas
from spikenas.cost.cost import CODE_ROW, Cost, LayerCost
from spikenas.run.artifacts import write_bytes
from spikenas.run.report_answers import answers_section
from spikenas.run.report_bits import bits_section
from spikenas.run.report_budget import budget_bars
from spikenas.run.report_cells import blocks
from spikenas.run.report_charts import curve_charts
from spikenas.run.report_data import ReportData
from spikenas.run.report_drawing import draw
from spikenas.run.report_memory import memory_map
from spikenas.run.report_text import EXCEEDS, FITS, duration, figures, verdict
from spikenas.run.report_trial_details import trial_details
from spikenas.run.report_trials import Scatter, trial_scatter

PAGE = "report_page"
SCRIPTS = ("drawing.js", "trials.js", "answers.js", "page.js")
__all__ = ["ReportData", "render_report", "write_report"]


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to ``path``, all of it or nothing. Raises RunError when the disk refuses."""
    write_bytes(path, render_report(data).encode())


def render_report(data: ReportData) -> str:
    """The page as one string of HTML."""
    curves, scatter = curve_charts(data.curve), trial_scatter(data)
    word, sentence = verdict(data)
    bits, answers = bits_section(data), answers_section(data)
    pieces = blocks(data.graph)
    charts = [*curves, *([scatter.chart] if scatter else []), *([bits.chart] if bits else [])]
    page_data: dict[str, Any] = {
        "charts": [chart.item for chart in charts],
        "network": [draw(piece).item() if piece.branched else None for piece in pieces],
    }
    if scatter:
        page_data["trials"] = _trials(data, scatter)
    if answers:
        page_data["answers"] = answers.script
    return (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup(_file("page.css")),
            script=Markup("\n".join(map(_file, SCRIPTS))),
            data=data,
            version=spikenas.__version__,
            tone={FITS: "good", EXCEEDS: "bad"}.get(word, "neutral"),
            word=word,
            sentence=sentence,
            figures=figures(data),
            bars=budget_bars(data),
            stages=[(stage, duration(seconds), seconds) for stage, seconds in data.seconds.items()],
            total_seconds=sum(data.seconds.values()),
            curves=curves,
            blocks=pieces,
            memory=memory_map(data),
            scatter=scatter,
            bits=bits,
            answers=answers,
            layers=_table(data.cost),
            page_data=_json(page_data),
            bokeh=Markup("\n".join(Resources("inline", components=["bokeh"], log_level="warn").js_raw)),
        )
    )


def _file(name: str) -> str:
    return (Path(__file__).parent / PAGE / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["grouped"] = lambda number: f"{number:,.0f}"
    return environment


def _table(cost: Cost) -> list[LayerCost]:
    """Layers that cost anything."""
    return [
        layer
        for layer in cost.layers
        if layer.name == CODE_ROW or layer.flash_bytes or layer.ram_bytes or layer.energy_nj
    ]


def _trials(data: ReportData, scatter: Scatter) -> dict[str, Any]:
    """What the page's script works on when axes are chosen and trials clicked."""
    shape = "x".join(map(str, data.graph.shapes[data.graph.input]))
    return {
        "x": scatter.x,
        "y": scatter.y,
        "measures": scatter.measures,
        "budget": scatter.budget,
        "fronts": scatter.fronts,
        "chosen": data.genotype,
        "cost": f"--space {data.space} --target {data.target} --input {shape} "
        f"--classes {data.graph.shapes[data.graph.output][0]}",
        "train": data.train_command,
        "details": trial_details(data, scatter.best),
    }


def _json(value: Any) -> Markup:
    """JSON for a script element: no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
