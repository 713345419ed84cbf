"""Exhaustive search, where a space is small enough: every canonical genotype is scored, the best few race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from spikenas.errors import InputError
from spikenas.search.judged import Judged
from spikenas.search.racing import candidates, choose_finalists, race
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan
from spikenas.search.trial import Trial
from spikenas.space.space import Space

LIMIT = 100_000
"""Genotypes that are still a matter of minutes."""


def exhaustive(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Score all genotypes of ``space``, those of ``first`` first, then race ``settings.finalists``, if any.

    ``settings.samples`` does not limit it and ``seed`` plays no part. Raises InputError when the space has more than
    LIMIT genotypes.
    """
    count = space.count()
    if count > LIMIT:
        shown = str(count) if count < 10**9 else f"{float(count):.1e}"
        raise InputError(
            f"space '{space.name}' has {shown} genotypes, exhaustive search takes at most {LIMIT}: "
            "allow fewer operations, or choose another strategy"
        )
    return _all(space, replace(settings, samples=count + len(first)), first)


def _all(space: Space[Any], settings: SearchSettings, first: Sequence[str]) -> Plan[list[Trial]]:
    judged = Judged(settings)
    yield from judged.judge(chain(first, map(space.format, space.enumerate())))
    ranked = judged.ranked()
    if not settings.finalists or not settings.rounds:
        return ranked
    listed = yield from candidates(ranked, settings)
    return (yield from race(choose_finalists(space, listed, settings.finalists), settings, ranked))
