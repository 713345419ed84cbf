"""spikenas report: a run's page written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's report again, from what the run left in its folder.

    Example: `spikenas report runs/demo`
    """
    from spikenas.run.report_again import rewrite_report

    page = rewrite_report(run)
    if as_json:
        return print_json({"report": page})
    print(f"report  {page}")
