"""The report of a run: one HTML file that needs nothing else, neither network nor other files.

Pictures are made of HTML and SVG by the templates and scripts in ``report_page``; the learning curve and the scatter of
trials are Bokeh's, whose script lies in the page (1.3 MB; plotly's takes 4.8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikenas.cost.cost import CODE_ROW, Cost, LayerCost
from spikenas.run.artifacts import write_bytes
from spikenas.run.report_answers import answers_section
from spikenas.run.report_bits import bits_section
from spikenas.run.report_budget import budget_bars
from spikenas.run.report_cells import blocks
from spikenas.run.report_certificates import proofs
from spikenas.run.report_charts import curve_charts
from spikenas.run.report_data import ReportData
from spikenas.run.report_drawing import drawings
from spikenas.run.report_frame import render_page
from spikenas.run.report_memory import memory_map
from spikenas.run.report_text import UNKNOWN, duration, figures, verdict
from spikenas.run.report_trial_details import sample_shape, trial_details
from spikenas.run.report_trials import Scatter, trial_scatter

__all__ = ["ReportData", "render_report", "write_report"]


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to ``path``, all of it or nothing. Raises RunError when the disk refuses."""
    write_bytes(path, render_report(data).encode())


def render_report(data: ReportData) -> str:
    """The page as one string of HTML."""
    curves, scatter = curve_charts(data.curve), trial_scatter(data)
    bits, answers = bits_section(data), answers_section(data)
    pieces = blocks(data.graph)
    charts = [*curves, *([scatter.chart] if scatter else []), *([bits.chart] if bits else [])]
    page_data: dict[str, Any] = {"charts": [chart.item for chart in charts], "network": drawings(pieces)}
    if scatter:
        page_data["trials"] = _trials(data, scatter)
    if answers:
        page_data["answers"] = answers.script
    word, sentence = verdict(data)
    return render_page(
        "page.html",
        page_data,
        data=data,
        word=word,
        sentence=sentence,
        figures=[figure for figure in figures(data) if figure.value != UNKNOWN],
        bars=budget_bars(data),
        stages=[(stage, duration(seconds), seconds) for stage, seconds in data.seconds.items()],
        total_seconds=sum(data.seconds.values()),
        curves=curves,
        blocks=pieces,
        memory=memory_map(data),
        scatter=scatter,
        bits=bits,
        answers=answers,
        certificates=proofs(data),
        layers=_table(data.cost),
    )


def _table(cost: Cost) -> list[LayerCost]:
    """Layers that cost anything."""
    return [
        layer
        for layer in cost.layers
        if layer.name == CODE_ROW or layer.flash_bytes or layer.ram_bytes or layer.energy_nj
    ]


def _trials(data: ReportData, scatter: Scatter) -> dict[str, Any]:
    """What the page's script works on when axes are chosen and trials clicked."""
    shape = "x".join(map(str, sample_shape(data.graph)))
    return {
        "measures": scatter.measures,
        "budget": scatter.budget,
        "fronts": scatter.fronts,
        "chosen": data.genotype,
        "cost": f"--space {data.space} --target {data.target} --input {shape} "
        f"--classes {data.graph.shapes[data.graph.output][0]}",
        "train": data.train_command,
        "details": trial_details(data, scatter.best),
    }
