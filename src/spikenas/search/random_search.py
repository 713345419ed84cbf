"""Random search, SNASNet's (arXiv 2201.10355, section 4.3): score many random networks, keep the best.

Also the tutorial: a strategy is a generator of batches. This is all there is to write for a new one, besides a line
in :data:`spikenas.search.strategies.STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan
from spikenas.search.trial import Proposal, Trial
from spikenas.space.space import Space

DUPLICATES = 1_000
"""Draws in a row that bring nothing new before a space counts as exhausted."""


def random_search(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Score the genotypes of ``first``, then random ones, ``settings.samples`` distinct ones in all."""
    rng = np.random.default_rng(seed)
    trials: list[Trial] = []
    seen: set[str] = set()
    batch = distinct(first, seen)
    while True:
        wanted = min(settings.batch - len(batch), settings.samples - len(seen))
        batch += draw(space, wanted, seen, rng)
        if not batch:
            return trials
        trials += yield [Proposal(genotype, settings.measure) for genotype in batch]
        batch = []


def draw(space: Space[Any], count: int, seen: set[str], rng: np.random.Generator) -> list[str]:
    """``count`` random canonical genotypes that are not in ``seen``, fewer when the space has no more; adds them."""
    fresh: list[str] = []
    vain = 0
    while len(fresh) < count and vain < DUPLICATES:
        found = distinct([space.format(space.sample(rng))], seen)
        vain = 0 if found else vain + 1
        fresh += found
    return fresh


def distinct(genotypes: Sequence[str], seen: set[str]) -> list[str]:
    """Those not in ``seen``, each once; adds them."""
    fresh = [genotype for genotype in dict.fromkeys(genotypes) if genotype not in seen]
    seen.update(fresh)
    return fresh
