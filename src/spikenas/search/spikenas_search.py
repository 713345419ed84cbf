"""SpikeNAS's fast, memory-aware search (Putra and Shafique, arXiv 2402.11322): cell by cell, under a memory budget.

What the paper describes: the operations are first reduced to those that matter for accuracy
(:mod:`spikenas.run.analyze` does that); cells need not be alike, so the search takes one cell after the other; a
candidate whose memory exceeds the budget is dropped before its fitness (SNASNet's SAHD) is computed; the fittest
candidate is kept.

What is kept of it here: the cells in turn, given what the others are; the reduced operations (a space with fewer);
and that an evaluator refuses by cost before it scores. What differs, by choice: the connections of a cell are
searched one at a time instead of all at once; what lies around the cells (widths, timesteps, bits, poolings) is
searched in the same way before them; where no single change helps, random pairs of changes do, which trade one cell's
memory for another's; a finished climb starts again from other random genotypes until ``settings.samples`` are judged;
the budget is that of the whole deployment in bytes, energy and time, not a count of parameters; and the score is the
one in ``settings.measure``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spikenas.search.judged import Judged
from spikenas.search.random_search import draw
from spikenas.search.screening import merit
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan, make_rng
from spikenas.search.trial import Trial
from spikenas.space.encoding import Genes
from spikenas.space.genotype import Cell
from spikenas.space.space import Space

Block = tuple[int, ...]
TRADE, TRADES = 16, 8
"""Pairs of genes changed at a time, and times without gain after which a climb ends."""
PROBES = 64
"""Random genotypes looked at to tell which gene writes which cell: a gene shows only where its cell is alive."""


def spikenas_search(space: Space[Any], settings: SearchSettings, seed: int, first: Sequence[str]) -> Plan[list[Trial]]:
    """Climb cell by cell from the best of ``first`` and some random genotypes, again and again; best trial first.

    ``settings.parents`` random genotypes are judged before each climb.
    """
    judged = Judged(settings)
    blocks = gene_blocks(space)
    starts = list(first)
    for restart in range(settings.samples):
        rng = make_rng(seed, restart)
        # The first batch is full whatever it starts from: workers that have nothing to do help nobody.
        wanted = settings.batch - len(starts) if not restart else settings.parents
        starts += draw(space, min(wanted, judged.room), set(judged.trials) | set(starts), rng)
        yield from judged.judge(starts)
        begin = judged.best(starts)
        if begin is None:  # no room, or no genotype left that is new
            break
        yield from _climb(space, judged, blocks, begin, rng)
        starts = []
    return judged.ranked()


def _climb(
    space: Space[Any], judged: Judged, blocks: Sequence[Block], here: Trial, rng: np.random.Generator
) -> Plan[None]:
    """Improve one gene after the other until none improves, then two at a time until a pair does, and so on.

    Ends when TRADES random pairs of genes are no improvement, or there is no room.
    """
    while True:
        before = merit(here)
        for block in blocks:
            for place in block:
                here = yield from _best_of(space, judged, here, _others(space, here.genotype, place))
        if merit(here) > before:
            continue
        for _ in range(TRADES):
            here = yield from _best_of(space, judged, here, _traded(space, here.genotype, TRADE, rng))
            if merit(here) > before or not judged.room:
                break
        if merit(here) == before or not judged.room:
            return


def _best_of(space: Space[Any], judged: Judged, here: Trial, neighbours: Sequence[str]) -> Plan[Trial]:
    """The best of ``here`` and ``neighbours``."""
    yield from judged.judge(neighbours)
    best = judged.best(neighbours)
    return here if best is None or merit(best) <= merit(here) else best


def _others(space: Space[Any], genotype: str, place: int) -> list[str]:
    """The genotypes with another value of the gene at ``place``."""
    genes = space.encode(space.parse(genotype))
    return _spelled(space, [_changed(genes, {place: value}) for value in range(space.bounds()[place])])


def _traded(space: Space[Any], genotype: str, count: int, rng: np.random.Generator) -> list[str]:
    """``count`` genotypes, or fewer, that differ from ``genotype`` in two random genes."""
    genes, bounds = space.encode(space.parse(genotype)), space.bounds()
    places = np.flatnonzero(bounds > 1)
    found: list[Genes] = []
    for _ in range(count):
        pair = rng.choice(places, min(2, len(places)), replace=False)
        found.append(
            _changed(genes, {place: (genes[place] + rng.integers(1, bounds[place])) % bounds[place] for place in pair})
        )
    return _spelled(space, found)


def _changed(genes: Genes, values: Mapping[int, int]) -> Genes:
    changed = genes.copy()
    changed[list(values)] = list(values.values())
    return changed


def _spelled(space: Space[Any], vectors: Sequence[Genes]) -> list[str]:
    return list(dict.fromkeys(space.format(space.decode(genes)) for genes in vectors))


def gene_blocks(space: Space[Any]) -> tuple[Block, ...]:
    """The genes that write no cell, those that write the first cell, those of the second, and so on.

    Found by changing one gene at a time of random genotypes. Where one gene writes several cells, as in a space that
    repeats one, it belongs to the first of them.

    >>> from spikenas.space.space import load_space
    >>> gene_blocks(load_space("spikenas"))
    ((12,), (0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10, 11))
    """
    bounds = space.bounds()
    cells: list[set[int]] = [set() for _ in bounds]
    rng = np.random.default_rng(0)  # a property of the space, hence the same for every seed of a search
    for _ in range(PROBES):
        genes: Genes = rng.integers(0, bounds)
        before = space.decode(genes).cells
        for place in np.flatnonzero(bounds > 1):
            changed = genes.copy()
            changed[place] = (genes[place] + rng.integers(1, bounds[place])) % bounds[place]
            cells[place] |= _differing(before, space.decode(changed).cells)
    owners = [min(touched, default=-1) for touched in cells]
    places = [tuple(p for p, owner in enumerate(owners) if owner == block) for block in sorted(set(owners))]
    return tuple(tuple(p for p in block if bounds[p] > 1) for block in places)


def _differing(first: Sequence[Cell], second: Sequence[Cell]) -> set[int]:
    """Numbers of the cells in which two networks differ; none when they have different numbers of cells."""
    if len(first) != len(second):
        return set()
    return {number for number, (a, b) in enumerate(zip(first, second, strict=True)) if a != b}
