"""The report's section on verification: a row for each certificate in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenas.cost.words import spanned
from spikenas.run.artifacts import read_json
from spikenas.run.report_data import ReportData, Row
from spikenas.run.report_text import bytes_of

CERTIFICATES = "certificate-*.json"


@dataclass(frozen=True, slots=True)
class Proof:
    """One certificate; ``figures`` in the order of the table's columns."""

    target: str
    verdict: str
    figures: tuple[str, ...]


def read_certificates(run: Path) -> list[dict[str, Any]]:
    """What ``spikenas verify`` left of the run's own bits, as JSON has it."""
    return [read_json(file) for file in sorted(run.glob(CERTIFICATES))]


def proofs(data: ReportData) -> list[Proof]:
    """A row for each certificate."""
    return [_proof(row) for row in data.certificates]


def _proof(row: Row) -> Proof:
    difference, low, high = row["difference"], row["energy_core_uj_low"], row["energy_core_uj_high"]
    return Proof(
        row["target"],
        "fits, all bits equal" if difference is None else f"differs: {difference}",
        (
            *(_identical(row, rung) for rung in ("host", "chip", "qemu")),
            bytes_of(row["flash_bytes"], row["flash_budget_bytes"]),
            bytes_of(row["ram_bytes"], row["ram_budget_bytes"]),
            spanned(row["latency_ms_low"], row["latency_ms_high"]),
            "" if low is None or high is None else spanned(low, high),
        ),
    )


def _identical(row: Row, rung: str) -> str:
    images = row[f"{rung}_images"]
    return f"{row[f'{rung}_identical']:,} of {images:,}" if images else "not run"
