"""spikenas bench: how well scores rank the networks of a table that somebody else has trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from spikenas.score.bench import BenchRow
    from spikenas.score.score import Probe, Score

bench_app = typer.Typer(help="Judge scores by a table of trained networks.", invoke_without_command=True)


@bench_app.callback()
def bench(
    context: typer.Context,
    table: Annotated[Path | None, typer.Option("--table", help="Parquet file, such as SpikeNAS-Bench's.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Images for scores that look at activations.")] = None,
    networks: Annotated[int, typer.Option("--networks", min=2, help="Random networks for those scores.")] = 100,
    images: Annotated[int, typer.Option("--images", min=2, help="Images for those scores.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Kendall's tau-b, Spearman and regret of every score; activation scores only with --data.

    Example: `spikenas bench --table cifar10.parquet`
    """
    if context.invoked_subcommand is not None:
        return
    if table is None:
        raise typer.BadParameter("give a table: spikenas bench --table FILE.parquet")
    from spikenas.score.bench import BenchSettings, bench_scores
    from spikenas.score.structure_scores import STRUCTURE_SCORES
    from spikenas.score.table import load_table

    scores: list[Score] = list(STRUCTURE_SCORES.values())
    probe = None
    if data is not None:
        from spikenas.score.scores import SCORES

        scores = list(SCORES.values())
        probe = _probe(data, images, seed)
    rows = bench_scores(load_table(table), scores, probe, BenchSettings(networks, seed))
    if as_json:
        return print_json({"networks": networks, "images": images, "seed": seed, "scores": rows})
    _print_rows(rows)
    if probe is not None:
        print(f"scores that need images: {networks} networks and {images} images, drawn with seed {seed}")


@bench_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder with <id>/train_process.txt files.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
) -> None:
    """Read SpikeNAS-Bench's original text files into one table.

    Example: `spikenas bench import data/CIFAR10 --out cifar10.parquet`
    """
    from spikenas.score.table import save_table
    from spikenas.score.table_import import import_folder

    table = import_folder(folder)
    save_table(table, out)
    print(f"wrote {out}: {len(table):,} networks")


def _probe(data: str, images: int, seed: int) -> Probe:
    from spikenas.data.datasets import load_dataset
    from spikenas.score.probe import draw_probe

    return draw_probe(load_dataset(data).train, images, seed=seed)


def _print_rows(rows: Sequence[BenchRow]) -> None:
    budgets = list(rows[0].ranking.regrets)
    columns = ["score", "networks", "tau-b", "Spearman", "tau-b top 10%", "mean regret"]
    columns += [f"{budget / 1e6:.2f}M" for budget in budgets] + ["seconds"]
    table = [
        [
            row.name,
            f"{row.ranking.count:,}",
            *(f"{value:.3f}" for value in (row.ranking.tau, row.ranking.spearman, row.ranking.top_tau)),
            *(f"{value:.2f}" for value in (row.ranking.mean_regret, *(row.ranking.regrets.get(b, 0) for b in budgets))),
            f"{row.seconds:.2f}",
        ]
        for row in rows
    ]
    print_table("Scores against the table (regret in points of test accuracy)", columns, table)
