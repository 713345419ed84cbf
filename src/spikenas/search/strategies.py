"""All strategies by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from spikenas.errors import InputError
from spikenas.search.evolution import evolution
from spikenas.search.exhaustive import exhaustive
from spikenas.search.learning import Learner, learn_and_race
from spikenas.search.pruning import pruning
from spikenas.search.racing import candidates, choose_finalists, race
from spikenas.search.random_search import random_search
from spikenas.search.screening import screen
from spikenas.search.settings import SearchSettings
from spikenas.search.spikenas_search import spikenas_search
from spikenas.search.strategy import Plan, PlannedStrategy
from spikenas.search.trial import Trial
from spikenas.space.space import Space


def screen_and_race(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Screen very many genotypes without training, then race the best few; returns the last round, best first."""
    ranked = yield from screen(space, settings, seed, first)
    finalists = choose_finalists(space, (yield from candidates(ranked, settings)), settings.finalists)
    return (yield from race(finalists, settings, ranked))


def racing(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Race random genotypes that fit: no score chooses them, one only asks whether they can be built and paid for."""
    search = random_search(space, settings, seed, first)
    fitting: list[Trial] = []
    try:
        batch = next(search)
        while len(fitting) < settings.finalists:
            trials = yield batch
            fitting += [trial for trial in trials if trial.done]
            batch = search.send(trials)
    except StopIteration:
        pass
    return (yield from race([trial.genotype for trial in fitting[: settings.finalists]], settings, fitting))


PlanMaker = Callable[[Space[Any], SearchSettings, int, Sequence[str]], Plan[list[Trial]]]
STRATEGIES: dict[str, PlanMaker] = {
    "screen-and-race": screen_and_race,
    "random": random_search,
    "spikenas": spikenas_search,
    "pruning": pruning,
    "evolution": evolution,
    "exhaustive": exhaustive,
    "racing": racing,
}
LEARNING = "learn-and-race"
"""The one strategy that needs a learner besides."""
STRATEGY_NAMES = (*STRATEGIES, LEARNING)
TRAINING = ("racing", LEARNING)
"""Strategies that are nothing without short trainings."""
DEFAULT_STRATEGY = "screen-and-race"


def make_strategy(
    name: str,
    space: Space[Any],
    settings: SearchSettings,
    *,
    seed: int,
    first: Sequence[str] = (),
    learner: Learner | None = None,
) -> PlannedStrategy:
    """The strategy called ``name``; genotypes in ``first`` are tried before any other. Raises InputError.

    Every random draw comes from ``seed``, so the same arguments and answers give the same questions.
    """
    check_strategy(name)
    if seed < 0:
        raise InputError(f"seed {seed}: must be 0 or more")
    if name != LEARNING:
        return PlannedStrategy(STRATEGIES[name](space, settings, seed, first))
    if learner is None:
        raise InputError(f"strategy '{name}' learns from trainings: give it a learner")
    return PlannedStrategy(learn_and_race(space, settings, seed, first, learner))


def check_strategy(name: str) -> None:
    """Raises InputError when no strategy is called ``name``."""
    if name not in STRATEGY_NAMES:
        raise InputError(f"unknown strategy {name!r}: choose from {', '.join(STRATEGY_NAMES)}")
