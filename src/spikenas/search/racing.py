"""A race: train all finalists briefly, the better half longer, and so on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016, arXiv 1502.07943, algorithm 1) with factor 2: every round
costs about the same, since half as many networks train twice as long. A network goes on from its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    standing = list(finalists)
    before = 0
    results: list[Trial] = []
    for number in range(settings.rounds):
        if not standing or (number and len(results) == 1):
            break
        epochs = settings.first_epochs * 2**number
        trials = yield [Proposal(genotype, TRAIN, epochs, before) for genotype in standing]
        results = sorted((trial for trial in trials if trial.done), key=quality, reverse=True)
        standing = [trial.genotype for trial in results[: max(1, len(finalists) >> (number + 1))]]
        before = epochs
    return results


def choose_finalists(space: Space[Any], ranked: Sequence[Trial], count: int) -> list[str]:
    """``count`` genotypes of ``ranked`` (best first): the best, then each time the one most unlike those chosen.

    They come from the best tenth of the done trials, where a score hardly tells one from another; near twins would
    race against themselves. Unlike is in how many genes the nearest of the chosen differs, among equals the better
    one; trials equal in score and all costs are the same network written twice, and only the first of them counts.
    """
    unique: dict[tuple[object, ...], Trial] = {}
    for trial in ranked:
        if trial.done:
            unique.setdefault((trial.score, trial.flash_bytes, trial.ram_bytes, trial.macs, trial.synops), trial)
    pool = [trial.genotype for trial in unique.values()][: max(count, round(POOL * len(unique)))]
    if not pool or not count:
        return []
    genes = np.array([space.encode(space.parse(genotype)) for genotype in pool])
    chosen = [0]
    nearest = (genes != genes[0]).sum(axis=1)
    while len(chosen) < min(count, len(pool)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, (genes != genes[chosen[-1]]).sum(axis=1))
    return [pool[index] for index in chosen]
