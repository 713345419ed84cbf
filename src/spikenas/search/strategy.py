"""The seam of all search: ask a strategy what to try, tell it what came of it.

A strategy is a *plan*: a generator that yields batches of proposals and is sent their trials. Plans compose with
``yield from``, so a screening and a race are two small functions and the default strategy is their sequence.
:class:`Strategy` drives a plan by ``ask`` and ``tell``.

The rule that makes a search resumable and equal on any number of workers: a plan depends on nothing but its
arguments and the trials it is sent, never on time or on other workers. To go on after an interruption, a study
asks again from the start and answers from its store.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from spikenas.errors import RunError
from spikenas.search.trial import Proposal, Trial

Result = TypeVar("Result")
Plan = Generator[Sequence[Proposal], Sequence[Trial], Result]
"""Yields batches of proposals, is sent their trials in the same order, returns what the next plan needs."""


class Strategy(Protocol):
    """What a study drives."""

    def ask(self) -> Sequence[Proposal]:
        """The next batch, its size independent of the number of workers; empty when the search is over."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """The trials of the last batch, in its order."""
        ...


class PlannedStrategy:
    """Ask and tell for a plan.

    >>> def two_steps():
    ...     first = yield [Proposal("a", "structure"), Proposal("b", "structure")]
    ...     best = max(first, key=lambda trial: trial.score)
    ...     yield [Proposal(best.genotype, "train", epochs=1)]
    >>> strategy = PlannedStrategy(two_steps())
    >>> [proposal.genotype for proposal in strategy.ask()]
    ['a', 'b']
    >>> strategy.tell([Trial(0, "a", "structure", score=1.0), Trial(1, "b", "structure", score=2.0)])
    >>> strategy.ask()
    (Proposal(genotype='b', measure='train', epochs=1, start=0),)
    """

    def __init__(self, plan: Plan[object]) -> None:
        self._plan = plan
        self._batch: tuple[Proposal, ...] | None = None
        self._answer: Sequence[Trial] | None = None

    def ask(self) -> tuple[Proposal, ...]:
        if self._batch is None or self._answer is not None:
            self._batch, self._answer = self._next(), None
        return self._batch

    def tell(self, trials: Sequence[Trial]) -> None:
        asked = [] if self._batch is None else [(p.genotype, p.measure, p.epochs) for p in self._batch]
        if [(trial.genotype, trial.measure, trial.epochs) for trial in trials] != asked:
            raise RunError("these trials answer other proposals: tell the trials of the last batch, in its order")
        self._answer = tuple(trials)

    def _next(self) -> tuple[Proposal, ...]:
        try:
            while True:
                batch = next(self._plan) if self._answer is None else self._plan.send(self._answer)
                if batch:
                    return tuple(batch)
                self._answer = ()  # an empty batch in mid-plan would end the study early
        except StopIteration:
            return ()


def make_rng(seed: int, *stream: int) -> np.random.Generator:
    """An independent generator for each ``stream`` of one seed, so that phases do not shift each other's draws."""
    return np.random.default_rng([seed, *stream])
