"""A race whose later starters are proposed by a predictor that learns from the earlier ones.

Training-free scores say little about which of the best tenth is the very best. Half of the finalists are therefore
chosen by score, unlike each other; a predictor learns from their first epochs and proposes the next quarter among
the best tenth; then again the last quarter. All of them then race, ordered in every round by what the predictor
makes of the round's accuracies: what a network's relatives reached says something about the network, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from spikenas.search.racing import candidates, choose_finalists, halve, replace_refused
from spikenas.search.screening import screen
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan
from spikenas.search.trial import TRAIN, Proposal, Trial, quality
from spikenas.space.space import Space

LEAST = 4
"""Trained networks below which nothing is learned from them."""
WAVES = 2
"""Times that the predictor proposes new finalists."""


class Learner(Protocol):
    """Learns from trained networks what others are worth; :class:`spikenas.run.learner.PredictorLearner` is one."""

    def __call__(self, trained: Sequence[Trial], genotypes: Sequence[str], pool: Sequence[str]) -> Sequence[float]:
        """A value per genotype, higher for better; ``pool`` are all that may be asked about in this search."""
        ...


def learn_and_race(
    space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str], learner: Learner
) -> Plan[list[Trial]]:
    """Screen, train half of ``settings.finalists``, twice more those that ``learner`` proposes, race all of them."""
    ranked = yield from screen(space, settings, seed, first)
    listed = yield from candidates(ranked, settings)
    pool = [trial.genotype for trial in listed]
    starters = choose_finalists(space, listed, settings.finalists - WAVES * (settings.finalists // (2 * WAVES)))
    trials: list[Trial] = []
    while settings.rounds and starters:
        trials += yield [Proposal(genotype, TRAIN, settings.first_epochs) for genotype in starters]
        wanted = min(settings.finalists // (2 * WAVES), settings.finalists - len(trials))
        asked = {trial.genotype for trial in trials}
        rest = [genotype for genotype in pool if genotype not in asked]
        starters = _proposed(learner, trials, rest, pool)[:wanted] if wanted else []

    def order(results: Sequence[Trial]) -> list[Trial]:
        return _ordered(learner, results, pool)

    started, trials = len(trials), (yield from replace_refused(trials, ranked, settings))
    return (yield from halve(trials, started, settings, order))


def _proposed(learner: Learner, trials: Sequence[Trial], rest: Sequence[str], pool: Sequence[str]) -> list[str]:
    """``rest``, best first: as the learner sees them, or, where it has too little to learn from, as they stand."""
    done = [trial for trial in trials if trial.done]
    if len(done) < LEAST or not rest:
        return list(rest)
    values = dict(zip(rest, learner(done, rest, pool), strict=True))
    return sorted(rest, key=lambda genotype: -values[genotype])


def _ordered(learner: Learner, results: Sequence[Trial], pool: Sequence[str]) -> list[Trial]:
    """Trials of one round, best first; few of them are taken at their accuracies."""
    if len(results) < LEAST:
        return sorted(results, key=quality, reverse=True)
    values = learner(results, [trial.genotype for trial in results], pool)
    return [trial for _, trial in sorted(zip(values, results, strict=True), key=lambda pair: -pair[0])]
