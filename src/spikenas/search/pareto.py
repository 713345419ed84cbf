"""Trials that no other trial beats in every respect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError
from spikenas.search.trial import Trial

OBJECTIVES: dict[str, float] = {
    "score": -1.0,
    "accuracy": -1.0,
    "flash_bytes": 1.0,
    "ram_bytes": 1.0,
    "macs": 1.0,
    "synops": 1.0,
    "energy_nj": 1.0,
    "latency_ms": 1.0,
}
"""What may be traded, with the sign that makes smaller better."""


def pareto_front(trials: Sequence[Trial], objectives: Sequence[str]) -> tuple[Trial, ...]:
    """The done trials that measured all ``objectives`` and that none of the others dominates, in their order.

    Raises InputError for an unknown objective or none at all.

    >>> trials = [Trial(0, "a", "structure", score=1.0, flash_bytes=10),
    ...           Trial(1, "b", "structure", score=2.0, flash_bytes=20),
    ...           Trial(2, "c", "structure", score=1.0, flash_bytes=20)]
    >>> [trial.genotype for trial in pareto_front(trials, ("score", "flash_bytes"))]
    ['a', 'b']
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise InputError(f"unknown objective {name!r}: choose from {', '.join(OBJECTIVES)}")
    if not objectives:
        raise InputError(f"no objectives: a Pareto front needs at least one of {', '.join(OBJECTIVES)}")
    measured = [t for t in trials if t.done and all(getattr(t, name) is not None for name in objectives)]
    if not measured:
        return ()
    values = np.array([[OBJECTIVES[name] * getattr(t, name) for name in objectives] for t in measured], float)
    return tuple(measured[index] for index in non_dominated(values))


def non_dominated(values: npt.NDArray[np.float64]) -> list[int]:
    """Rows of ``values`` [N, M], all to be minimized, that no other row dominates; equal rows all stay.

    A row dominates another when it is nowhere larger and somewhere smaller. In lexicographic order a row can only
    be dominated by an earlier one, and then by one already on the front: N comparisons with the front so far.
    """
    order = np.lexsort(values.T[::-1])
    front: list[int] = []
    kept = np.empty_like(values)
    for index in order:
        row, others = values[index], kept[: len(front)]
        if not ((others <= row).all(axis=1) & (others < row).any(axis=1)).any():
            kept[len(front)] = row
            front.append(int(index))
    return sorted(front)
