"""What a strategy asks for (:class:`Proposal`) and what it is told (:class:`Trial`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from math import isnan
from typing import Any

from spikenas.errors import RunError
from spikenas.html_table import html_table

TRAIN = "train"
"""The measure that is a training; every other measure is the name of a score."""


class TrialState(StrEnum):
    """How a trial ended."""

    DONE = "done"
    REJECTED = "rejected"  # over budget: it was neither scored nor trained, or its measured spikes cost too much
    FAILED = "failed"  # an error, or a score that is not a number


@dataclass(frozen=True, slots=True)
class Proposal:
    """Measure ``genotype``: by the score named ``measure``, or by training until it has seen ``epochs`` epochs.

    ``start`` is the number of epochs already trained in an earlier trial of this study, whose weights this one
    continues from; 0 starts from fresh weights.
    """

    genotype: str
    measure: str
    epochs: int = 0
    start: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One proposal answered. Trials of a study are numbered 0, 1, 2, ... in the order of their proposals.

    ``score`` and ``accuracy`` (on the validation images, 0 to 1) are better when higher; None was not measured.
    ``budget_use`` is the largest share of any limit that the network takes: above 1 it does not fit, None without
    limits. ``seconds`` is what it took, and the one field that may differ between two runs of the same study.
    Raises RunError when a number is not one.
    """

    number: int
    genotype: str
    measure: str
    epochs: int = 0
    state: TrialState = TrialState.DONE
    score: float | None = None
    accuracy: float | None = None
    budget_use: float | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    macs: int | None = None
    synops: float | None = None
    energy_nj: float | None = None
    latency_ms: float | None = None
    seconds: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        for name in MEASURED:
            value = getattr(self, name)
            if value is not None and isnan(value):
                raise RunError(f"trial {self.number}: {name} is not a number: record it as failed instead")

    @property
    def done(self) -> bool:
        return self.state is TrialState.DONE

    @property
    def refused_when_trained(self) -> bool:
        """Whether it fitted until a training had counted its spikes."""
        return self.state is TrialState.REJECTED and self.accuracy is not None

    def _repr_html_(self) -> str:
        return html_table([(name, value) for name, value in trial_to_dict(self).items() if value not in (None, "")])


TRIAL_FIELDS: tuple[str, ...] = tuple(item.name for item in fields(Trial))
MEASURED = ("score", "accuracy", "budget_use", "synops", "energy_nj", "latency_ms", "seconds")


def trial_to_dict(trial: Trial) -> dict[str, Any]:
    """Plain values by field name, ready for JSON.

    >>> trial_to_dict(Trial(0, "a", "structure", score=2.0))["state"]
    'done'
    """
    return {name: getattr(trial, name) for name in TRIAL_FIELDS} | {"state": trial.state.value}


def trial_from_dict(values: Mapping[str, Any]) -> Trial:
    """The inverse of :func:`trial_to_dict`. Raises RunError for a field that is unknown, missing or malformed."""
    if unknown := sorted(values.keys() - set(TRIAL_FIELDS)):
        raise RunError(f"a trial has no field {unknown[0]!r}: it was written by another version of spikenas")
    try:
        return Trial(**{**values, "state": TrialState(values.get("state", TrialState.DONE))})
    except (TypeError, ValueError) as error:
        raise RunError(f"not a trial ({error}): it was written by another version of spikenas") from error


def quality(trial: Trial) -> tuple[float, ...]:
    """Sort key, better is higher: trained longest, most accurate, best score, smallest share of the budget, first.

    Longest first, because an accuracy after 2 epochs says little against one after 16.
    """
    trained = trial.accuracy is not None
    return (
        float(trained),
        float(trial.epochs if trained else 0),
        _or_least(trial.accuracy),
        _or_least(trial.score),
        -(trial.budget_use or 0.0),
        -float(trial.number),
    )


def fitting(trials: Sequence[Trial]) -> list[Trial]:
    """The done trials of all ``trials`` that may be chosen: those of a network that was refused elsewhere may not.

    A training counts spikes, and so may refuse what a score let pass. Where it refused some and let none pass, nobody
    is left: the untrained are no better known than those were.
    """
    refused = {trial.genotype for trial in trials if trial.state is TrialState.REJECTED}
    left = [trial for trial in trials if trial.done and trial.genotype not in refused]
    if any(trial.refused_when_trained for trial in trials) and all(trial.accuracy is None for trial in left):
        return []
    return left


TIE = 0.01
"""a difference of accuracy that a few thousand validation images and a short training do not tell from luck"""


def best_of(trials: Sequence[Trial]) -> Trial:
    """The best of done ``trials``: that of highest :func:`quality`, or one as good that takes less energy.

    As good is what was trained as long and is at most TIE less accurate.
    """
    best = max(trials, key=quality)
    if best.accuracy is None or best.energy_nj is None:
        return best
    near = [t for t in trials if t.epochs == best.epochs and t.accuracy is not None and t.energy_nj is not None]
    return min((t for t in near if best.accuracy - (t.accuracy or 0.0) <= TIE), key=lambda t: t.energy_nj or 0.0)


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value
