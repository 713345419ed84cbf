"""A run's report written again, when what it tells has grown: from what the run left in its folder."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.errors import RunError
from spikenas.graph import Graph, from_json, to_json
from spikenas.run.artifacts import plain, read_json, write_json
from spikenas.run.folder import read_run
from spikenas.run.quantization import read_quantized
from spikenas.run.report import ReportData, write_report

PAGE_FILE = "page.json"
MADE = ("cost", "graph", "quantized")
"""Fields that are not kept as they are: made again from others, or read where they grow."""


def keep_page(run: Path, data: ReportData, integer_graph: Graph) -> None:
    """Keep what the report was made of; its cost came from ``integer_graph`` and its ``spike_rates``."""
    values: dict[str, Any] = {
        item.name: plain(getattr(data, item.name)) for item in fields(data) if item.name not in MADE
    }
    write_json(run / PAGE_FILE, values | {"graph": to_json(data.graph), "integer_graph": to_json(integer_graph)})


def read_page(run: Path) -> ReportData:
    """What the report of ``run`` shows, with what ``spikenas quantize`` has found since.

    Raises RunError when ``run`` is no run, or one that has not come to its end.
    """
    folder = read_run(run)
    if not (run / PAGE_FILE).is_file():
        raise RunError(f"{run}: has no report yet; the command that began this run goes on with it")
    values = dict(read_json(run / PAGE_FILE))
    if unknown := sorted(values.keys() - {"integer_graph", *(item.name for item in fields(ReportData))}):
        raise RunError(f"{run / PAGE_FILE}: {unknown[0]!r} is unknown: another version of spikenas wrote it")
    integer = from_json(values.pop("integer_graph"))
    budget, target = Budget(**values["budget"]), load_target(values["target"])
    rates = values.get("spike_rates")
    cost = estimate(integer, target, rates, flash_bytes=budget.flash_bytes, ram_bytes=budget.ram_bytes)
    values |= {"graph": from_json(values["graph"]), "budget": budget, "cost": cost}
    return replace(ReportData(**values), quantized=read_quantized(folder.path))


def rewrite_report(run: Path) -> Path:
    """Write the report of ``run`` again and return its path. Raises RunError as :func:`read_page` does."""
    data, report = read_page(run), read_run(run).report
    write_report(data, report)
    return report
