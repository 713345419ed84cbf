"""A run's report written again, when what it tells has grown: from what the run left in its folder."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.graph import from_json, to_json
from spikenas.run.artifacts import plain, read_json, write_json
from spikenas.run.folder import read_run
from spikenas.run.quantization import read_quantized
from spikenas.run.report import ReportData, write_report

PAGE_FILE = "page.json"


def keep_page(run: Path, data: ReportData, spike_rates: dict[str, float], integer_graph: Any) -> None:
    """Keep what the report was made of; ``integer_graph`` and ``spike_rates`` are what its cost came from."""
    values: dict[str, Any] = {
        item.name: plain(getattr(data, item.name)) for item in fields(data) if item.name not in MADE
    }
    values |= {"graph": to_json(data.graph), "integer_graph": to_json(integer_graph), "spike_rates": spike_rates}
    write_json(run / PAGE_FILE, values)


def refresh_report(run: Path) -> bool:
    """Write the report anew, with what ``spikenas quantize`` has found since; False where the run has none yet."""
    if not (run / PAGE_FILE).is_file():
        return False
    values = dict(read_json(run / PAGE_FILE))
    rates, integer = values.pop("spike_rates"), from_json(values.pop("integer_graph"))
    budget, target = Budget(**values["budget"]), load_target(values["target"])
    cost = estimate(integer, target, rates, flash_bytes=budget.flash_bytes, ram_bytes=budget.ram_bytes)
    values |= {"graph": from_json(values["graph"]), "budget": budget, "cost": cost}
    data = replace(ReportData(**values), quantized=read_quantized(run))
    write_report(data, read_run(run).report)
    return True


MADE = ("cost", "graph", "quantized")
