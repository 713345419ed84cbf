"""The small tables by which notebooks show our values.

>>> html_table([("flash", "2 < 3 KB")])
'<table><tr><td>flash</td><td>2 &lt; 3 KB</td></tr></table>'
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any


def html_table(rows: Sequence[Sequence[Any]], columns: Sequence[str] = (), title: str = "") -> str:
    """An HTML table; None is an empty cell, whole numbers have commas."""
    head = f"<caption>{escape(title)}</caption>" if title else ""
    head += _row("th", columns) if columns else ""
    return f"<table>{head}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(_text(cell))}</{tag}>' for cell in cells)}</tr>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
