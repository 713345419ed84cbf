"""Every score on the table of 15,625 trained networks, the predictor, and the speed of screening.

    python benchmarks/proxy_table.py --table ../shared/data/spikenas-bench/cifar10.parquet --data ../shared/data/cifar10

Scores of structure judge all rows; scores that read images judge a random subset on narrow networks. The rows named
``val@n`` are no scores but what a training of n epochs would say: the validation accuracy in the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikenas.cli.main import run_script
from spikenas.data.datasets import load_dataset
from spikenas.score.bench import BenchRow, BenchSettings, bench_predictor, bench_scores, graphs_of, scores_of
from spikenas.score.bulk import screen
from spikenas.score.probe import draw_probe
from spikenas.score.ranking import Ranking, kendall, rank
from spikenas.score.score import Probe
from spikenas.score.scores import PROBE_SCORES
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.table import Table, load_table
from spikenas.space.macro import Variant

HEAD = "score              networks    tau  spearman  top tenth  mean regret  regret by budget" + " " * 28 + "seconds"
EPOCHS = (2, 8, 32, 100)


def line(name: str, ranking: Ranking, seconds: float | None) -> str:
    figures = (ranking.tau, 6, 3), (ranking.spearman, 9, 3), (ranking.top_tau, 10, 3), (ranking.mean_regret, 12, 2)
    shown = " ".join(figure(*told) for told in figures)
    regrets = " ".join(figure(value, 5, 2) for value in ranking.regrets.values())
    return f"{name:18s} {ranking.count:8d} {shown}  {regrets} {figure(seconds, 9, 2)}".rstrip()


def figure(value: float | None, width: int, digits: int) -> str:
    return " " * width if value is None else f"{value:{width}.{digits}f}"


def show(row: BenchRow) -> None:
    print(line(row.name, row.ranking, row.seconds), flush=True)


def probe_of(source: str, images: int, seed: int) -> Probe:
    return draw_probe(load_dataset(source).train, images, seed=seed)


def references(table: Table) -> None:
    """What short trainings would say."""
    print(line("params of table", rank(table, table.params), None))
    for epochs in EPOCHS:
        reached = table.val_acc[np.arange(len(table)), np.minimum(epochs, table.epochs) - 1]
        print(line(f"val@{epochs}", rank(table, reached), None))


def screening(table: Table) -> None:
    """Genotypes per second, the whole space and many more."""
    ops = np.random.default_rng(0).integers(0, 5, (500_000, 6)).astype(np.uint8)
    screen(ops[:1])  # the prices of a layer are asked for once
    begun, used = time.perf_counter(), time.process_time()
    screen(table.ops)
    whole, whole_used = time.perf_counter() - begun, time.process_time() - used
    begun, used = time.perf_counter(), time.process_time()
    screen(ops)
    rate, rate_used = len(ops) / (time.perf_counter() - begun), len(ops) / (time.process_time() - used)
    print(
        f"screening: cost and structure of {len(table)} cells in {whole:.3f} s ({whole_used:.3f} of a processor); "
        f"{rate:,.0f} per second of {len(ops):,}, {rate_used:,.0f} per second of a processor"
    )


def ablation(table: Table, source: str, settings: BenchSettings) -> None:
    """How few images and channels SAHD needs: tau on one and the same subset."""
    rows = settings.rows(table)
    truth = table.test_acc[rows]
    print("SAHD, tau by images (across) and channels of the first cell (down)")
    sizes = (16, 32, 64, 128)
    print("channels " + " ".join(f"{size:7d}" for size in sizes) + "   seconds with the most images")
    for width in (4, 8, 16, 32):
        variant = Variant((width, 2 * width), hidden=8 * width, group=10)
        graphs = graphs_of(table, rows, (3, 32, 32), 10, variant)
        taus, seconds = [], 0.0
        for size in sizes:
            begun = time.perf_counter()
            values = scores_of(PROBE_SCORES["sahd"], graphs, table.ids[rows], probe_of(source, size, settings.seed))
            seconds = time.perf_counter() - begun
            taus.append(kendall(np.where(np.isnan(values), -np.inf, values), truth))
        print(f"{width:8d} " + " ".join(f"{tau:7.3f}" for tau in taus) + f"   {seconds:8.1f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--data", help="a CIFAR-10 folder, for scores that read images")
    parser.add_argument("--networks", type=int, default=500, help="in the random subset")
    parser.add_argument("--seed", type=int, default=0, help="of the subset, the images and the weights")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--scores", nargs="*", help="only these")
    parser.add_argument("--ablation", action="store_true", help="SAHD with fewer and more images and channels")
    args = parser.parse_args(arguments)

    table = load_table(args.table)
    settings = BenchSettings(args.networks, args.seed)
    chosen = [score for name, score in STRUCTURE_SCORES.items() if not args.scores or name in args.scores]
    print(HEAD)
    bench_scores(table, chosen, on_row=show)
    references(table)
    screening(table)
    for row in bench_predictor(table):
        print(
            f"predictor after {row.samples:3d} trained networks: tau {row.tau:.3f} +- {row.deviation:.3f}, "
            f"{row.raw_tau:.3f} without ties, {row.seeds} seeds",
            flush=True,
        )
    if args.data is None:
        return
    widths = settings.variant.widths
    print(f"subset: {settings.networks} networks, seed {settings.seed}, {args.images} images, channels {widths}")
    print(HEAD)
    probe = probe_of(args.data, args.images, args.seed)
    structure = [score for score in chosen if score.name in ("spiking_depth", "trainable_depth")]
    asked = [score for name, score in PROBE_SCORES.items() if not args.scores or name in args.scores]
    bench_scores(table, [*structure, *asked], probe, settings, on_row=show)
    if args.ablation:
        ablation(table, args.data, settings)


if __name__ == "__main__":
    run_script(main)
