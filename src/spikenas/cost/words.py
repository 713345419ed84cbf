"""Estimated time and energy of a cost in words, from the least to the most that they may be."""

from __future__ import annotations

from spikenas.cost.cost import Cost


def latency(cost: Cost) -> str:
    """Time of one inference on its target."""
    return f"{spanned(cost.latency_ms_low, cost.latency_ms)} ms per inference, estimated"


def chip_energy(cost: Cost) -> str:
    """Energy of the whole chip for one inference; empty where nothing is known of it."""
    low, high = cost.energy_core_uj_low, cost.energy_core_uj_high
    if low is None or high is None:
        return ""
    return f"{spanned(low, high)} uJ per inference on the chip, estimated from cycles"


def operations_energy(cost: Cost) -> str:
    """Energy of the same inference's operations alone."""
    return f"{cost.energy_nj:,.0f} nJ per inference for operations alone at 45 nm"


def spanned(low: float, high: float) -> str:
    """Both ends with three digits.

    >>> spanned(298.23, 423.61), spanned(0.1234, 1840.2)
    ('298 to 424', '0.123 to 1,840')
    """
    return f"{_rounded(low)} to {_rounded(high)}"


def _rounded(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"
