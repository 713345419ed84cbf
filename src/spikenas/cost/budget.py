"""Byte counts as people write them, and the limits a network must keep.

>>> parse_bytes("32KB"), parse_bytes("1.5 MB"), parse_bytes("700")
(32768, 1572864, 700)
>>> format_bytes(6349)
'6.2 KB'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from spikenas.cost.cost import Cost
from spikenas.errors import BudgetError
from spikenas.html_table import html_table

UNITS = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "k": 1024, "mb": 1024**2, "mib": 1024**2, "m": 1024**2}


def parse_bytes(text: str) -> int:
    """Bytes from "32KB" (1 KB = 1024 bytes, as data sheets of microcontrollers count). Raises BudgetError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in UNITS:
        raise BudgetError(f"byte count '{text}': write a number with B, KB (K) or MB (M) behind it, such as 32KB")
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if size < 1:
        raise BudgetError(f"byte count '{text}': it must be at least 1 byte, such as 32KB")
    return size


def format_bytes(size_bytes: int) -> str:
    """Bytes for people."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    if size_bytes < 1024**2:
        return f"{size_bytes / 1024:.1f} KB"
    return f"{size_bytes / 1024**2:.2f} MB"


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Upper limits on a network's cost; None leaves a figure free. Memories also as one writes them.

    Raises BudgetError for a limit that is not positive, or said twice.

    >>> Budget(flash="32KB", ram="16KB") == Budget(flash_bytes=32768, ram_bytes=16384)
    True
    """

    flash_bytes: int | None
    ram_bytes: int | None
    energy_nj: float | None
    latency_ms: float | None

    def __init__(
        self,
        flash_bytes: int | None = None,
        ram_bytes: int | None = None,
        energy_nj: float | None = None,
        latency_ms: float | None = None,
        *,
        flash: str | None = None,
        ram: str | None = None,
    ) -> None:
        limits = {
            "flash_bytes": _memory("flash", flash_bytes, flash),
            "ram_bytes": _memory("ram", ram_bytes, ram),
            "energy_nj": energy_nj,
            "latency_ms": latency_ms,
        }
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise BudgetError(f"{name} budget {value}: it must be positive")
            object.__setattr__(self, name, value)

    def _repr_html_(self) -> str:
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return html_table([(_name(n), format_figure(n, v)) for n, v in given.items() if v is not None], title="Budget")

    def violations(self, cost: Cost) -> tuple[str, ...]:
        """Which limits the cost breaks and by how much, and what the target cannot do, in words; empty if it fits."""
        words = list(cost.assignment.refusals) if cost.assignment else []
        if cost.assignment and self.latency_ms is not None:
            words.append(f"latency cannot be predicted on {cost.target}, which has no clock; drop the limit on it")
        for item in fields(self):
            limit, value = getattr(self, item.name), getattr(cost, item.name)
            if limit is not None and value > limit:
                words.append(
                    f"{_name(item.name)} {format_figure(item.name, value)} is over {format_figure(item.name, limit)}"
                )
        return tuple(words)


def _memory(name: str, size_bytes: int | None, text: str | None) -> int | None:
    if size_bytes is not None and text is not None:
        raise BudgetError(f"{name} budget {text} and {size_bytes} bytes: give one of the two")
    return size_bytes if text is None else parse_bytes(text)


def _name(figure: str) -> str:
    return figure.rsplit("_", 1)[0]


def format_figure(figure: str, value: float) -> str:
    """A figure of a cost for people, by its name's unit.

    >>> format_figure("ram_bytes", 2048), format_figure("energy_nj", 1234.5)
    ('2.0 KB', '1.23e+03 nJ')
    """
    unit = figure.rsplit("_", 1)[1]
    return format_bytes(int(value)) if unit == "bytes" else f"{value:.3g} {UNIT_SIGNS[unit]}"


UNIT_SIGNS = {"nj": "nJ", "ms": "ms"}
