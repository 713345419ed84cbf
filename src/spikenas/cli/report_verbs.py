"""spikenas report: a run's page written again, or two runs side by side on one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json
from spikenas.errors import InputError


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a finished run; two with --compare.")],
    compare: Annotated[bool, typer.Option("--compare", help="Two runs side by side on one page.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for --compare; default compare-SECOND.html in the first run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's report again from what the run left in its folder, or a page that compares two runs.

    Example: `spikenas report runs/demo`
    """
    from spikenas.run.report_again import compare_reports, rewrite_report

    page = compare_reports(runs, out) if compare else rewrite_report(_one(runs, out))
    if as_json:
        return print_json({"report": page})
    print(f"report  {page}")


def _one(runs: list[Path], out: Path | None) -> Path:
    if len(runs) > 1:
        raise InputError(f"{len(runs)} runs: give one, or two with --compare")
    if out is not None:
        raise InputError(f"--out {out}: a run's report lies in its folder; --out is for --compare")
    return runs[0]
