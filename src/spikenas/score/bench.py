"""All scores against a table of trained networks: who ranks best, at what price.

Scores of structure judge every row. Scores that read activations or gradients judge a fixed random subset, on networks
with fewer channels than the table's: ranks need fewer images and channels than publication used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError
from spikenas.graph import Graph, Shape
from spikenas.score.predictor import describe, fit
from spikenas.score.ranking import Ranking, kendall, rank
from spikenas.score.score import Needs, Probe, Score
from spikenas.score.table import Table
from spikenas.space.macro import Variant, lower_snasnet
from spikenas.space.spikenas_bench import SECOND_POOLING, BenchGenotype, BenchSpace, from_arch_id

Floats = npt.NDArray[np.float64]
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
) -> list[BenchRow]:
    """Judge ``scores`` by ``table``; those that need images are left out without a ``probe``.

    ``input_shape`` and ``classes`` are those of the table's dataset. A network without a path has no score.
    """
    settings = settings or BenchSettings()
    subset = settings.rows(table)
    rows: list[BenchRow] = []
    full: list[Graph | None] | None = None
    narrow: list[Graph | None] | None = None
    for score in scores:
        if score.needs is Needs.STRUCTURE:
            full = graphs_of(table, np.arange(len(table)), input_shape, classes) if full is None else full
            row = _row(table, score, full, None)
        elif probe is not None:
            if narrow is None:
                shape = tuple(probe.images.shape[1:])
                narrow = graphs_of(table, subset, shape, classes, settings.variant)
            row = _row(table.take(subset), score, narrow, probe)
        else:
            continue
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def graphs_of(
    table: Table, rows: npt.NDArray[np.int64], input_shape: Shape, classes: int, variant: Variant | None = None
) -> list[Graph | None]:
    """The networks of some rows, as published or of another ``variant``; None without a path. Equal ones are one."""
    space = BenchSpace()
    built: dict[BenchGenotype, Graph | None] = {}
    graphs: list[Graph | None] = []
    for arch_id in table.ids[rows].tolist():
        genotype = space.canonical(from_arch_id(arch_id))
        if genotype not in built:
            built[genotype] = _lowered(space, genotype, input_shape, classes, variant)
        graphs.append(built[genotype])
    return graphs


def scores_of(score: Score, graphs: Sequence[Graph | None], probe: Probe | None) -> Floats:
    """The score of each graph, NaN where there is none; equal graphs are scored once."""
    distinct = {id(graph): graph for graph in graphs if graph is not None}
    values = dict(zip(distinct, score.all(list(distinct.values()), probe), strict=True))
    return np.array([values.get(id(graph), np.nan) for graph in graphs])


def _row(table: Table, score: Score, graphs: Sequence[Graph | None], probe: Probe | None) -> BenchRow:
    begun = time.perf_counter()
    values = scores_of(score, graphs, probe)
    seconds = time.perf_counter() - begun
    return BenchRow(score.name, score.needs, rank(table, values), seconds)


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
    for count in samples:
        taus = []
        for seed in range(seeds):
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
