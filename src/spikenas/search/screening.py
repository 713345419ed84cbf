"""Screening: judge very many networks without training, half of them random, half bred from the best that fit.

Random networks mostly miss the budget, by far or on either side; breeding climbs to its edge, where the largest
networks that still fit are. It is a (mu + lambda) evolution (Beyer and Schwefel, Natural Computing 1, 2002) with
feasibility first (Deb, CMAME 186, 2000, section 3): a network that fits beats one that does not, among those that
fit the better score counts, among the others the smaller excess.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from spikenas.search.random_search import DUPLICATES, distinct, draw
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan, make_rng
from spikenas.search.trial import Proposal, Trial
from spikenas.space.space import Space

CROSSOVER = 0.5
"""Share of children with two parents."""


def screen(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Score ``settings.samples`` distinct genotypes, ``first`` among them; returns all trials, best first.

    A space that has no more than that is scored whole.
    """
    if space.count() <= settings.samples:
        return (yield from _everything(space, settings, first))
    seen: set[str] = set()
    trials: list[Trial] = []
    batch = distinct(first, seen)
    number = 0
    while len(seen) < settings.samples or batch:
        wanted = min(settings.batch - len(batch), settings.samples - len(seen))
        rng = make_rng(seed, number)
        if len(seen) < settings.samples / 2:
            batch += draw(space, wanted, seen, rng)
        else:
            batch += breed(space, trials[: settings.parents], wanted, seen, rng)
        if not batch:
            break
        trials += yield [Proposal(genotype, settings.measure) for genotype in batch]
        trials.sort(key=merit, reverse=True)
        batch = []
        number += 1
    return trials


def _everything(space: Space[Any], settings: SearchSettings, first: Sequence[str]) -> Plan[list[Trial]]:
    genotypes = list(dict.fromkeys(chain(first, map(space.format, space.enumerate()))))
    trials: list[Trial] = []
    for start in range(0, len(genotypes), settings.batch):
        batch = genotypes[start : start + settings.batch]
        trials += yield [Proposal(genotype, settings.measure) for genotype in batch]
    return sorted(trials, key=merit, reverse=True)


def merit(trial: Trial) -> tuple[float, ...]:
    """Sort key, better is higher: fits, then score; else nearest to fitting. Ties go to the fuller budget."""
    use = trial.budget_use or 0.0
    if trial.done and trial.score is not None:
        return (2.0, trial.score, use, -float(trial.number))
    if trial.budget_use is not None:
        return (1.0, -use, 0.0, -float(trial.number))
    return (0.0, 0.0, 0.0, -float(trial.number))


def breed(
    space: Space[Any], parents: Sequence[Trial], count: int, seen: set[str], rng: np.random.Generator
) -> list[str]:
    """``count`` new canonical children of ``parents``, fewer when they have no more; adds them to ``seen``."""
    pool = [space.parse(trial.genotype) for trial in parents if merit(trial)[0] > 0]
    if not pool:
        return draw(space, count, seen, rng)
    children: list[str] = []
    vain = 0
    while len(children) < count and vain < DUPLICATES:
        child = pool[rng.integers(len(pool))]
        if rng.random() < CROSSOVER:
            child = space.crossover(child, pool[rng.integers(len(pool))], rng)
        found = distinct([space.format(space.canonical(space.mutate(child, rng)))], seen)
        vain = 0 if found else vain + 1
        children += found
    return children
