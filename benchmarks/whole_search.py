"""A whole search against SNASNet's: random networks, the best of 5,000 by SAHD, 176 s each on two cores.

    python benchmarks/whole_search.py --table cifar10.parquet --data ../shared/data/cifar10

Quality is regret on the table: the best test accuracy in it minus that of the network a method selects, without a
budget. 5,000 networks are more than fit into a benchmark, so SAHD judges a random subset, narrow (an eighth of the
channels) and on few images, and the table prints what the best of 10, 30, 100, ... of them would be on average, up to
the whole subset: what 5,000 would add is to be read off that series. The price stays the published one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cli.main import run_script
from spikenas.data.datasets import load_dataset
from spikenas.score.bench import NARROW, graphs_of, scores_of
from spikenas.score.bulk import screen
from spikenas.score.probe import draw_probe
from spikenas.score.scores import PROBE_SCORES
from spikenas.score.table import Table, load_table
from spikenas.space.spikenas_bench import BenchSpace

PUBLISHED_SECONDS, PUBLISHED_SAMPLES = 176.0, 5_000
DRAWS = 2_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def canonical_rows(table: Table) -> Ints:
    """Rows of the distinct networks with a path: what a search draws from."""
    return table.rows([genotype.arch_id for genotype in BenchSpace().enumerate()])


def best_of(scores: Floats, truth: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Truth of the best of ``count`` networks by score, for many draws."""
    picks = np.array([rng.choice(len(scores), count, replace=False) for _ in range(DRAWS)])
    found: Floats = truth[picks[np.arange(DRAWS), scores[picks].argmax(axis=1)]]
    return found


def line(method: str, networks: int, regrets: Floats, seconds: float) -> None:
    published = PUBLISHED_SECONDS * PUBLISHED_SAMPLES
    print(
        f"| {method} | {networks:,} | {regrets.mean():.2f} | {np.percentile(regrets, 90):.2f} | {seconds:,.2f} | "
        f"{published / seconds:,.0f} |",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--data", required=True, help="a CIFAR-10 folder")
    parser.add_argument("--networks", type=int, default=1000, help="in SAHD's subset")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    table = load_table(args.table)
    rng = np.random.default_rng(args.seed)
    rows = canonical_rows(table)
    oracle = float(table.test_acc.max())
    print(f"{len(rows):,} distinct networks; SAHD on {args.networks} of them, {args.images} images, seed {args.seed}")
    print("| method | networks | mean regret | 90% below | seconds | times faster than 245 h |")
    print("| --- | --- | --- | --- | --- | --- |")

    screen(table.ops[:1])  # the prices of a layer are asked for once
    begun = time.perf_counter()
    depth = screen(table.ops[rows]).trainable_depth
    seconds = time.perf_counter() - begun
    best = depth == depth.max()
    line("trainable depth of all", len(rows), oracle - table.test_acc[rows][best].astype(np.float64), seconds)

    subset = np.sort(rng.choice(rows, min(args.networks, len(rows)), replace=False))
    probe = draw_probe(load_dataset(args.data).train, args.images, seed=args.seed)
    graphs = graphs_of(table, subset, (3, 32, 32), 10, NARROW)
    scores = scores_of(PROBE_SCORES["sahd"], graphs, table.ids[subset], probe)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    truth = table.test_acc[subset].astype(np.float64)
    for count in (10, 30, 100, 300, 1000, 3000):
        if count <= len(subset):
            price = PUBLISHED_SECONDS * count
            line("random, best by SAHD", count, oracle - best_of(scores, truth, count, rng), price)


if __name__ == "__main__":
    run_script(main)
