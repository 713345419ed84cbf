"""A run's report written again, when what it tells has grown, or beside another's: from what runs left in folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.errors import InputError, RunError
from spikenas.graph import from_json, to_json
from spikenas.model import IntegerModel
from spikenas.run.artifacts import plain, read_json, write_json
from spikenas.run.folder import read_run
from spikenas.run.quantization import read_quantized
from spikenas.run.report import ReportData, write_report
from spikenas.run.report_certificates import read_certificates
from spikenas.run.report_compare import Compared, write_comparison
from spikenas.run.sameness import flat

PAGE_FILE = "page.json"
SHIFTED = "shifted_left"
MADE = ("cost", "graph", "quantized", "certificates")
"""Fields that are not kept as they are: made again from others, or read where they grow."""


def keep_page(run: Path, data: ReportData, integer: IntegerModel) -> None:
    """Keep what the report was made of; its cost came from the ``integer`` network and its ``spike_rates``."""
    values: dict[str, Any] = {
        item.name: plain(getattr(data, item.name)) for item in fields(data) if item.name not in MADE
    }
    values |= {"graph": to_json(data.graph), "integer_graph": to_json(integer.graph)}
    write_json(run / PAGE_FILE, values | {SHIFTED: sorted(integer.shifted_left)})


def read_page(run: Path) -> ReportData:
    """What the report of ``run`` shows, with what ``spikenas quantize`` and ``verify`` have found since.

    Raises RunError when ``run`` is no run, or one that has not come to its end.
    """
    folder = read_run(run)
    if not (run / PAGE_FILE).is_file():
        raise RunError(f"{run}: has no report to write again; `spikenas run` and `spikenas train` end with one")
    values = dict(read_json(run / PAGE_FILE))
    if unknown := sorted(values.keys() - {"integer_graph", SHIFTED, *(item.name for item in fields(ReportData))}):
        raise RunError(f"{run / PAGE_FILE}: {unknown[0]!r} is unknown: another version of spikenas wrote it")
    integer = from_json(values.pop("integer_graph"))
    budget, target = Budget(**values["budget"]), load_target(values["target"])
    cost = estimate(
        integer,
        target,
        values.get("spike_rates"),
        flash_bytes=budget.flash_bytes,
        ram_bytes=budget.ram_bytes,
        shifted=values.pop(SHIFTED, ()),
    )
    values |= {"graph": from_json(values["graph"]), "budget": budget, "cost": cost}
    return replace(ReportData(**values), quantized=read_quantized(folder.path), certificates=read_certificates(run))


def rewrite_report(run: Path) -> Path:
    """Write the report of ``run`` again and return its path. Raises RunError as :func:`read_page` does."""
    data, report = read_page(run), read_run(run).report
    write_report(data, report)
    return report


def refresh_report(run: Path) -> bool:
    """Write the report of ``run`` again; False where it has none yet."""
    if not (run / PAGE_FILE).is_file():
        return False
    rewrite_report(run)
    return True


def compare_reports(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write a page on two runs to ``out``, by default into the first one's folder, and return its path.

    Raises InputError unless there are two different ones, and RunError as :func:`read_page` does.
    """
    if len(runs) != 2 or runs[0].resolve() == runs[1].resolve():
        raise InputError(f"--compare {' '.join(map(str, runs))}: give two different runs")
    names = [run.resolve().name for run in runs]
    shown = names if names[0] != names[1] else list(map(str, runs))
    first, second = (
        Compared(name, flat(read_run(run).settings), read_page(run)) for name, run in zip(shown, runs, strict=True)
    )
    page = out or runs[0] / f"compare-{names[1]}.html"
    write_comparison(first, second, page)
    return page
