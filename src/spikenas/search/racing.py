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
from spikenas.search.trial import TRAIN, Proposal, Trial, TrialState, quality
from spikenas.space.space import Space

POOL = 0.1
"""Share of the done trials from which finalists are chosen."""


def race(finalists: Sequence[str], settings: SearchSettings, ranked: Sequence[Trial] = ()) -> Plan[list[Trial]]:
    """Train ``finalists`` in ``settings.rounds`` rounds; returns the trials of the last round, best first.

    ``ranked``: whom they were chosen from, best first, and who take the places of those refused.
    """
    if not finalists or not settings.rounds:
        return []
    trials = yield [Proposal(genotype, TRAIN, settings.first_epochs) for genotype in finalists]
    trials = yield from replace_refused(trials, ranked, settings)
    return (yield from halve(trials, len(finalists), settings))


def replace_refused(trials: Sequence[Trial], ranked: Sequence[Trial], settings: SearchSettings) -> Plan[list[Trial]]:
    """``trials`` of a first round, and those of as many more networks as were refused for the spikes they fired.

    They are the next of ``ranked`` that promise less energy and latency than each one refused, by as much as that was
    over its budget.
    """
    promised = {trial.genotype: trial for trial in distinct_networks(ranked)}
    everyone, last = list(trials), list(trials)
    spare = [trial for genotype, trial in promised.items() if genotype not in {t.genotype for t in everyone}]
    while over := [trial for trial in last if trial.state is TrialState.REJECTED and trial.genotype in promised]:
        excess = [(promised[trial.genotype], trial.budget_use or 1.0) for trial in over]
        spare = [trial for trial in spare if all(_leaner(trial, *refused) for refused in excess)]
        chosen, spare = spare[: len(over)], spare[len(over) :]
        if not chosen:
            break
        last = list((yield [Proposal(trial.genotype, TRAIN, settings.first_epochs) for trial in chosen]))
        everyone += last
    return everyone


def _leaner(trial: Trial, refused: Trial, excess: float) -> bool:
    energy_nj, latency_ms = refused.energy_nj or 0.0, refused.latency_ms or 0.0
    return excess * (trial.energy_nj or 0.0) <= energy_nj and excess * (trial.latency_ms or 0.0) <= latency_ms


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
    """The best tenth of the done trials of ``ranked``, at least ``count``, where a score hardly tells them apart."""
    unique = distinct_networks(ranked)
    return unique[: max(count, round(POOL * len(unique)))]


def distinct_networks(ranked: Sequence[Trial]) -> list[Trial]:
    """The done trials, the first of those equal in score and all costs: that is one network written twice."""
    unique: dict[tuple[object, ...], Trial] = {}
    for trial in ranked:
        if trial.done:
            unique.setdefault((trial.score, trial.flash_bytes, trial.ram_bytes, trial.macs, trial.synops), trial)
    return list(unique.values())


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
