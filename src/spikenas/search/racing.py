"""A race: train all finalists briefly, the better half longer, and so on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016, arXiv 1502.07943, algorithm 1) with factor 2: every round
costs about the same, since half as many networks train twice as long. A network goes on from its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan
from spikenas.search.trial import TRAIN, Proposal, Trial, quality
from spikenas.space.space import Space

POOL = 0.1
"""Share of the done trials from which finalists are chosen."""


def race(finalists: Sequence[str], settings: SearchSettings) -> Plan[list[Trial]]:
    """Train ``finalists`` in ``settings.rounds`` rounds; returns the trials of the last round, best first."""
    if not finalists or not settings.rounds:
        return []
    trials = yield [Proposal(genotype, TRAIN, settings.first_epochs) for genotype in finalists]
    return (yield from halve(trials, len(finalists), settings))


Order = Callable[[Sequence[Trial]], list[Trial]]
"""Puts the done trials of one round in order, best first."""


def by_quality(trials: Sequence[Trial]) -> list[Trial]:
    """By accuracy, as they are."""
    return sorted(trials, key=quality, reverse=True)


def halve(
    trials: Sequence[Trial], started: int, settings: SearchSettings, order: Order = by_quality
) -> Plan[list[Trial]]:
    """Go on from the ``trials`` of the first round, with the better half each time, of ``started`` in all."""
    results = order([trial for trial in trials if trial.done])
    for number in range(1, settings.rounds):
        if len(results) < 2:
            break
        standing = [trial.genotype for trial in results[: max(1, started >> number)]]
        before = settings.first_epochs * 2 ** (number - 1)
        trials = yield [Proposal(genotype, TRAIN, 2 * before, before) for genotype in standing]
        results = order([trial for trial in trials if trial.done])
    return results


def shortlist(ranked: Sequence[Trial], count: int) -> list[Trial]:
    """The best tenth of the done trials of ``ranked``, at least ``count``, where a score hardly tells them apart.

    Trials equal in score and all costs are the same network written twice, and only the first of them counts.
    """
    unique: dict[tuple[object, ...], Trial] = {}
    for trial in ranked:
        if trial.done:
            unique.setdefault((trial.score, trial.flash_bytes, trial.ram_bytes, trial.macs, trial.synops), trial)
    return list(unique.values())[: max(count, round(POOL * len(unique)))]


def candidates(ranked: Sequence[Trial], settings: SearchSettings) -> Plan[list[Trial]]:
    """Whom finalists are chosen from: the shortlist, or the half of it that a second, dearer score likes better.

    Both scores count alike, by place. Nothing is asked without a second score, or a race that it would matter for.
    """
    listed = shortlist(ranked, settings.finalists)
    measure = settings.shortlist_measure
    if measure is None or not settings.finalists or not settings.rounds:
        return listed
    trials = yield [Proposal(trial.genotype, measure) for trial in listed]
    judged = [place for place, trial in enumerate(trials) if trial.done and trial.score is not None]
    judged.sort(key=lambda place: -_score(trials[place]))
    order = sorted(range(len(judged)), key=lambda again: (judged[again] + again, judged[again]))
    return [listed[judged[again]] for again in order[: max(settings.finalists, len(listed) // 2)]]


def _score(trial: Trial) -> float:
    return float("-inf") if trial.score is None else trial.score


def choose_finalists(space: Space[Any], candidates: Sequence[Trial], count: int) -> list[str]:
    """``count`` genotypes of ``candidates`` (best first): the best, then each time the one most unlike those chosen.

    Near twins would race against themselves. Unlike is in how many genes the nearest of the chosen differs, among
    equals the better one.
    """
    pool = [trial.genotype for trial in candidates]
    if not pool or not count:
        return []
    genes = np.array([space.encode(space.parse(genotype)) for genotype in pool])
    chosen = [0]
    nearest = (genes != genes[0]).sum(axis=1)
    while len(chosen) < min(count, len(pool)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, (genes != genes[chosen[-1]]).sum(axis=1))
    return [pool[index] for index in chosen]
