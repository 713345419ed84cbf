"""What verbs print: tables for people on a terminal, one JSON object for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from spikenas.run.artifacts import plain

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def print_json(value: Any) -> None:
    """One JSON object on stdout; dataclasses become objects, enums their values, what is no finite number null."""
    print(json.dumps(_finite(plain(value)), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; columns of numbers are right-aligned and never broken, words may wrap."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numbers = all(not row[index] or row[index].lstrip("-")[:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers or index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A file or pipe has no width of its own; a fixed one keeps its lines whole.
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


PIPE_WIDTH = 160
