"""Pruning a supernet operation by operation (LightSNN, Abdennadher et al., arXiv 2503.21846).

LightSNN starts from a network that carries every operation on every connection of its cell. In each round it takes
out one operation at a time, computes SAHD of what is left, and strikes from each connection the operation whose
absence leaves the highest value, until one operation per connection remains. There is no budget.

Here the scores judge genotypes, which have one operation per connection, and no network carries several. So the
supernet is the set of genotypes that the options still allowed can spell: it begins as the whole space, widths and
timesteps included, and in each step loses the option that it can best do without. What a set is worth is estimated:
the mean rank (by feasibility first, then score) of its best tenth among the completions judged so far, new ones
being drawn from the set as it shrinks. Hence one option per step is struck rather than one per connection, and the
budget counts from the first step: an option on which only networks over the budget depend goes early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.search.judged import Judged
from spikenas.search.random_search import distinct
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan, make_rng
from spikenas.search.trial import Trial
from spikenas.space.space import Space

Options = list[list[int]]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Pool = list[tuple[Ints, str]]

ELITE = 0.1
"""Share of the completions that stands for what a set of genotypes has to offer."""
FIRST = 0.5
"""Share of the samples drawn before anything is struck."""
DUPLICATES = 100
"""Draws in a row that bring nothing new before a set counts as exhausted."""


def pruning(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Strike options until one genotype is left, judging at most ``settings.samples`` on the way; best trial first."""
    judged = Judged(settings)
    options: Options = [list(range(bound)) for bound in space.bounds()]
    pool: Pool = [(space.encode(space.parse(genotype)), genotype) for genotype in dict.fromkeys(first)]
    steps = sum(len(left) - 1 for left in options)
    rng = make_rng(seed)
    for step in range(steps + 1):
        wanted = round(settings.samples * (FIRST + (1 - FIRST) * step / max(1, steps)))
        due = wanted - (settings.samples - judged.room)
        if step in (0, steps) or due >= settings.batch:
            pool += _complete(space, options, due - (len(pool) if not step else 0), {name for _, name in pool}, rng)
            yield from judged.judge(genotype for _, genotype in pool)
        if step < steps:
            _strike(options, pool, judged)
    return judged.ranked()


def _complete(space: Space[Any], options: Options, count: int, known: set[str], rng: np.random.Generator) -> Pool:
    """``count`` genotypes not in ``known`` that the options can spell, with the genes that spell them."""
    found: Pool = []
    vain = 0
    while len(found) < count and vain < DUPLICATES:
        genes = np.array([left[rng.integers(len(left))] for left in options], dtype=np.int64)
        fresh = distinct([space.format(space.decode(genes))], known)
        found += [(genes, genotype) for genotype in fresh]
        vain = 0 if fresh else vain + 1
    return found


def _strike(options: Options, pool: Pool, judged: Judged) -> None:
    """Remove the option without which the best completions lose least, and the genes of those that had it."""
    ranks = {trial.genotype: -float(place) for place, trial in enumerate(judged.ranked())}
    pool[:] = sorted((entry for entry in pool if entry[1] in ranks), key=lambda entry: ranks[entry[1]], reverse=True)
    genes = np.array([entry[0] for entry in pool], dtype=np.int64).reshape(len(pool), len(options))
    values = np.array([ranks[entry[1]] for entry in pool], dtype=np.float64)
    costs = [
        (*_cost(genes[:, place] == option, values), place, option)
        for place, left in enumerate(options)
        if len(left) > 1
        for option in left
    ]
    *_, place, option = min(costs)
    options[place].remove(option)
    pool[:] = [entry for entry, using in zip(pool, genes[:, place] == option, strict=True) if not using]


def _cost(using: npt.NDArray[np.bool_], values: Floats) -> tuple[float, float]:
    """What the best lose without those ``using`` an option, and, where that is equal, the worth of those.

    ``values`` [N], best first.
    """
    rest = values[~using]
    if not len(rest):
        return (float("inf"), 0.0)
    elite = max(1, round(ELITE * len(values)))
    loss = float(values[:elite].mean() - rest[:elite].mean())
    return (loss, float(values[using].mean()) if using.any() else float(values.mean()))
