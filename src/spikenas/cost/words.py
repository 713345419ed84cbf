"""Estimated time and energy of a cost in words, from the least to the most that they may be."""

from __future__ import annotations

from typing import Protocol

from spikenas.cost.cost import Cost


class Estimated(Protocol):
    """The ends of time and energy, as a Cost has them."""

    @property
    def latency_ms_low(self) -> float: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def energy_core_uj_low(self) -> float | None: ...
    @property
    def energy_core_uj_high(self) -> float | None: ...


def time_and_energy(cost: Cost) -> list[tuple[str, str]]:
    """What one inference takes, as (name, words): of the chip as far as that is known, then of operations alone."""
    per, found = "per inference", []
    if energy := chip_uj(cost):
        found.append(("energy", f"{energy} uJ {per} on {cost.target}, estimated: cycles at its data-sheet current"))
    found.append(("energy, 45 nm", f"{cost.energy_nj:,.0f} nJ {per}: its operations alone, which --energy limits"))
    if cost.latency_ms:
        found.append(("latency", f"{latency_ms(cost)} ms {per} on {cost.target}, estimated"))
    return found


def latency_ms(cost: Estimated) -> str:
    """Milliseconds of an inference."""
    return spanned(cost.latency_ms_low, cost.latency_ms)


def chip_uj(cost: Estimated) -> str:
    """Microjoules of the whole chip in an inference; empty where nobody knows."""
    low, high = cost.energy_core_uj_low, cost.energy_core_uj_high
    return "" if low is None or high is None else spanned(low, high)


def spanned(low: float, high: float) -> str:
    """Both ends with three digits.

    >>> spanned(298.23, 423.61), spanned(0.1234, 1840.2)
    ('298 to 424', '0.123 to 1,840')
    """
    return f"{_rounded(low)} to {_rounded(high)}"


def _rounded(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"
