"""Evolution towards a Pareto front: NSGA-II (Deb et al., IEEE TEC 6, 2002) by pymoo (Blank and Deb, 2020).

The genes are a genotype's integers; uniform crossover, polynomial mutation. Constraints are feasibility first (Deb,
CMAME 186, 2000): one that fits beats one that does not, of two that do not the one with less excess wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError
from spikenas.search.judged import Judged
from spikenas.search.pareto import OBJECTIVES
from spikenas.search.random_search import distinct, draw
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan, make_rng
from spikenas.search.trial import Trial
from spikenas.space.space import Space

Floats = npt.NDArray[np.float64]

ETA = 3.0
"""Spread of the polynomial mutation: wide, since a gene has few values and most have no order."""
VAIN = 5
"""Generations in a row that bring nothing new before the search ends."""
MATINGS = 10
"""Rounds of mating for one generation, where children turn out to be duplicates of those that live."""
WORST = 1e30
"""Stands for an objective or an excess that was not measured; it only ever belongs to what does not fit."""


def evolution(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Breed ``settings.population`` genotypes, ``first`` among the initial ones, for ``settings.objectives``.

    It ends when ``settings.samples`` distinct genotypes have been judged; one that returns is not judged again.
    Returns all trials, best first; the front is :func:`spikenas.search.pareto.pareto_front` of them. Raises
    InputError when an objective is one that the evaluator does not measure.
    """
    judged = Judged(replace(settings, samples=min(settings.samples, space.count())))
    algorithm = _algorithm(space, settings, seed, first)
    vain = 0
    while judged.room and vain < VAIN:
        population = algorithm.ask()
        if population is None or not len(population):
            break
        genotypes = [space.format(space.decode(genes)) for genes in population.get("X").astype(np.int64)]
        before = judged.room
        yield from judged.judge(genotypes)
        vain = vain + 1 if judged.room == before else 0
        answers = [judged.trials.get(genotype) for genotype in genotypes]
        population.set("F", np.array([_objectives(trial, settings.objectives) for trial in answers]))
        population.set("G", np.array([[_excess(trial)] for trial in answers]))
        algorithm.tell(infills=population)
        if len(algorithm.pop) < 2:  # nobody to mate with
            break
    return judged.ranked()


def _algorithm(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Any:
    """pymoo's NSGA-II, set up; it draws from a generator of its own, made from the seed."""
    # Imported here because pymoo takes a second to load, and every use of spikenas passes by the list of strategies.
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation

    class Canonical(Repair):  # type: ignore[misc]
        """Whole numbers, the same for every spelling of a network: only so are duplicates seen for what they are."""

        def _do(self, problem: object, values: Floats, **_: object) -> npt.NDArray[np.int64]:
            whole = np.rint(values).astype(np.int64)
            return np.array([space.encode(space.decode(genes)) for genes in whole], np.int64).reshape(whole.shape)

    bounds = space.bounds()
    problem = Problem(
        n_var=len(bounds),
        n_obj=len(settings.objectives),
        n_ieq_constr=1,
        xl=np.zeros(len(bounds), np.int64),
        xu=bounds - 1,
        vtype=int,
    )
    algorithm = NSGA2(
        pop_size=settings.population,
        sampling=_initial(space, settings, seed, first),
        crossover=UniformCrossover(),
        mutation=PolynomialMutation(eta=ETA),
        repair=Canonical(),
        eliminate_duplicates=True,
    )
    algorithm.mating.n_max_iterations = MATINGS
    algorithm.setup(problem, termination=NoTermination(), seed=seed)
    return algorithm


def _initial(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> npt.NDArray[np.int64]:
    seen: set[str] = set()
    genotypes = distinct(first, seen)
    genotypes += draw(space, settings.population - len(genotypes), seen, make_rng(seed))
    return np.array([space.encode(space.parse(genotype)) for genotype in genotypes], dtype=np.int64)


def _objectives(trial: Trial | None, names: Sequence[str]) -> list[float]:
    """To be minimized; only a trial that fits has them all."""
    if trial is None or not trial.done:
        return [WORST] * len(names)
    for name in names:
        if getattr(trial, name) is None:
            raise InputError(f"objective '{name}' was not measured for '{trial.genotype}': choose other objectives")
    return [OBJECTIVES[name] * float(getattr(trial, name)) for name in names]


def _excess(trial: Trial | None) -> float:
    """By how much of its limit a network exceeds the budget; at most 0 where it fits."""
    if trial is None or (not trial.done and trial.budget_use is None):
        return WORST
    use = trial.budget_use or 0.0
    # A trial can fail although it would fit.
    return use - 1.0 if trial.done or use > 1.0 else WORST
