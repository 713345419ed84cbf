"""All scores against a table of trained networks: who ranks best, at what price.

Scores of structure judge every row. Scores that read activations or gradients judge a fixed random subset, on networks
with fewer channels than the table's: ranks need fewer images and channels than publication used. Beside those, scores
of structure judge the same subset, so that their figures can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError, one_line
from spikenas.graph import Graph, Shape
from spikenas.score.predictor import describe, fit
from spikenas.score.ranking import Ranking, kendall, rank
from spikenas.score.score import Needs, Probe, ProbeScore, Score
from spikenas.score.structure_scores import find_score
from spikenas.score.table import Ints, Table
from spikenas.space.macro import Variant, lower_snasnet
from spikenas.space.spikenas_bench import SECOND_POOLING, BenchGenotype, BenchSpace, from_arch_id

Floats = npt.NDArray[np.float64]
Item = TypeVar("Item")
Step = Callable[[int, int, str], None]
"""Hears what is done, of how many, and what it is."""
NARROW = Variant((16, 32), hidden=128, group=10)
"""An eighth of the published widths."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """``networks`` of the table, drawn with ``seed``, for scores that need images; of which ``variant`` they are.

    Raises InputError when there are fewer than two networks.
    """

    networks: int = 500
    seed: int = 0
    variant: Variant = NARROW

    def __post_init__(self) -> None:
        if self.networks < 2 or self.seed < 0:
            raise InputError(f"{self.networks} networks, seed {self.seed}: ranks need 2 networks, seeds start at 0")

    def rows(self, table: Table) -> npt.NDArray[np.int64]:
        """The rows of the subset, ascending; all of them when the table is smaller."""
        rng = np.random.default_rng(self.seed)
        count = min(self.networks, len(table))
        return np.sort(rng.choice(len(table), count, replace=False)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class BenchRow:
    """What one score is worth: ``seconds`` for all the networks of its ranking, building their graphs left out."""

    name: str
    needs: Needs
    ranking: Ranking
    seconds: float


def bench_scores(
    table: Table,
    scores: Sequence[Score],
    probe: Probe | None = None,
    settings: BenchSettings | None = None,
    *,
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    on_row: Callable[[BenchRow], None] | None = None,
    on_step: Step | None = None,
) -> list[BenchRow]:
    """Judge ``scores`` by ``table``, all by the same networks: every one, or with a ``probe`` those of the subset.

    Scores that need images are left out without a ``probe``, whose images have ``input_shape``. This and ``classes``
    are those of the table's dataset. A network without a path has no score. ``on_step`` hears how many of how many
    networks are built or scored. Raises InputError when a score raises anything.
    """
    settings = settings or BenchSettings()
    every, budgets = np.arange(len(table)), table.budgets.tolist()
    judged = table if probe is None else table.take(settings.rows(table))
    graphs: dict[Variant | None, list[Graph | None]] = {}
    rows: list[BenchRow] = []
    for score in scores:
        if score.needs is not Needs.STRUCTURE and probe is None:
            continue
        variant = None if score.needs is Needs.STRUCTURE else settings.variant
        if variant not in graphs:
            graphs[variant] = graphs_of(judged, every[: len(judged)], input_shape, classes, variant, on_step)
        begun = time.perf_counter()
        values = scores_of(score, graphs[variant], judged.ids, probe, on_step)
        seconds = time.perf_counter() - begun
        row = BenchRow(score.name, score.needs, rank(judged, values, budgets), seconds)
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def graphs_of(
    table: Table,
    rows: npt.NDArray[np.int64],
    input_shape: Shape,
    classes: int,
    variant: Variant | None = None,
    on_step: Step | None = None,
) -> list[Graph | None]:
    """The networks of some rows, as published or of another ``variant``; None without a path. Equal ones are one."""
    space = BenchSpace()
    built: dict[BenchGenotype, Graph | None] = {}
    graphs: list[Graph | None] = []
    for arch_id in _told(table.ids[rows].tolist(), "building networks", on_step):
        genotype = space.canonical(from_arch_id(arch_id))
        if genotype not in built:
            built[genotype] = _lowered(space, genotype, input_shape, classes, variant)
        graphs.append(built[genotype])
    return graphs


def scores_of(
    score: Score, graphs: Sequence[Graph | None], ids: Ints, probe: Probe | None = None, on_step: Step | None = None
) -> Floats:
    """The score of each graph, NaN where there is none; equal graphs are scored once.

    Raises InputError, with the name of the network by its id in ``ids``, when the score raises anything.
    """
    rows = {id(graph): row for row, graph in enumerate(graphs) if graph is not None}
    found = score.each([graph for row in rows.values() if (graph := graphs[row]) is not None], probe)
    values: dict[int, float] = {}
    for place, row in _told(list(rows.items()), score.name, on_step):
        try:
            values[place] = next(found)
        except Exception as error:  # a user's own function may raise anything
            where = f"network {from_arch_id(int(ids[row]))}"
            if isinstance(score, ProbeScore) and score.together is not None:
                where = f"{len(rows):,} networks at once"
            raise InputError(f"score '{score.name}' failed on {where}: {one_line(error)}") from error
    return np.array([values.get(id(graph), np.nan) for graph in graphs])


def structure_column(
    table: Table, name: str, *, input_shape: Shape = (3, 32, 32), classes: int = 10, on_step: Step | None = None
) -> Floats:
    """The score of structure called ``name`` of every row of ``table``, NaN for a network without a path.

    Raises InputError for a score that is unknown, needs images, raises anything or gives no number at all.
    """
    score = find_score(name)
    if score.needs is not Needs.STRUCTURE:
        raise InputError(f"score '{name}' reads {score.needs}: tables hold no images, choose a score of structure")
    graphs = graphs_of(table, np.arange(len(table)), input_shape, classes, on_step=on_step)
    values = scores_of(score, graphs, table.ids, on_step=on_step)
    if not np.isfinite(values).any():
        raise InputError(f"score '{name}' is no finite number for any of {len(table):,} networks: choose another one")
    return values


def _told(items: Sequence[Item], what: str, on_step: Step | None) -> Iterator[Item]:
    for number, item in enumerate(items):
        if on_step is not None:
            on_step(number, len(items), what)
        yield item


def _lowered(
    space: BenchSpace, genotype: BenchGenotype, input_shape: Shape, classes: int, variant: Variant | None
) -> Graph | None:
    if not genotype.cell.is_live:
        return None
    if variant is None:
        return space.lower(genotype, input_shape, classes)
    return lower_snasnet(genotype.cells, SECOND_POOLING, variant, input_shape, classes)


@dataclass(frozen=True, slots=True)
class PredictorRow:
    """The predictor after ``samples`` trained networks: tau-b on all others, mean and deviation over ``seeds`` draws.

    ``tau`` is that of its rank, in which differences below its error are ties; ``raw_tau`` that of its predictions.
    """

    samples: int
    seeds: int
    tau: float
    deviation: float
    raw_tau: float


def bench_predictor(
    table: Table,
    samples: Sequence[int] = (20, 50, 100, 200),
    *,
    seeds: int = 20,
    last_epochs: int = 10,
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    on_step: Step | None = None,
) -> list[PredictorRow]:
    """Train the predictor on random networks of ``table``, judge it on the rest.

    What it learns from is the mean validation accuracy of a network's last epochs; test accuracy only judges. Networks
    without a path are not trained and rank last. Raises InputError when the table has too few.
    """
    space = BenchSpace()
    genotypes = [space.canonical(from_arch_id(arch_id)) for arch_id in table.ids.tolist()]
    alive = np.array([genotype.cell.is_live for genotype in genotypes])
    if max(samples) > alive.sum():
        raise InputError(f"{max(samples)} samples: the table has {alive.sum()} networks with a path")
    distinct = list(dict.fromkeys(genotype for genotype, live in zip(genotypes, alive, strict=True) if live))
    place = {genotype: number for number, genotype in enumerate(distinct)}
    networks = describe(space, distinct, input_shape, classes)
    member = np.array([place.get(genotype, -1) for genotype in genotypes])
    ends = table.epochs
    learned = np.array(
        [row[max(0, end - last_epochs) : end].mean() for row, end in zip(table.val_acc, ends, strict=True)]
    )
    rows = []
    draws = _told([(count, seed) for count in samples for seed in range(seeds)], "predictor", on_step)
    for count in samples:
        taus = []
        for _, seed in islice(draws, seeds):
            chosen = np.random.default_rng(seed).choice(np.flatnonzero(alive), count, replace=False)
            predictor = fit(networks.take(member[chosen]), learned[chosen].astype(np.float64), networks)
            rest = np.setdiff1d(np.arange(len(table)), chosen)
            values = [
                _spread(scores, member[rest]) for scores in (predictor.rank(networks), predictor.predict(networks))
            ]
            taus.append([kendall(score, table.test_acc[rest]) for score in values])
        means, deviations = np.mean(taus, axis=0), np.std(taus, axis=0)
        rows.append(PredictorRow(count, seeds, float(means[0]), float(deviations[0]), float(means[1])))
    return rows


def _spread(scores: Floats, member: npt.NDArray[np.int64]) -> Floats:
    """The score of each network's equal among the distinct ones; minus infinity for those without a path."""
    return np.where(member < 0, -np.inf, scores[member])
