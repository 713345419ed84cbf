"""spikenas bench: how well scores, the predictor and strategies do on a table that somebody else has trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.inspect_verbs import parse_shape
from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.progress import RunProgress
from spikenas.cli.search_options import DATASETS, among
from spikenas.errors import InputError
from spikenas.score.score import Needs
from spikenas.score.structure_scores import STRUCTURE_SCORES

if TYPE_CHECKING:
    from spikenas.run.replay import StrategyRow
    from spikenas.score.bench import BenchRow
    from spikenas.score.score import Probe, Score
    from spikenas.score.table import Table
    from spikenas.search.settings import SearchSettings

bench_app = typer.Typer(invoke_without_command=True)


TableOption = Annotated[Path | None, typer.Option("--table", help="Parquet file, such as SpikeNAS-Bench's.")]


@bench_app.callback()
def bench(
    context: typer.Context,
    table: TableOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Images for scores that look at activations.", autocompletion=DATASETS),
    ] = None,
    strategies: Annotated[bool, typer.Option("--strategies", help="Replay strategies instead of scores.")] = False,
    predictor: Annotated[bool, typer.Option("--predictor", help="Judge the predictor instead of scores.")] = False,
    only: Annotated[str | None, typer.Option("--only", help="Comma-separated names of scores or strategies.")] = None,
    networks: Annotated[int, typer.Option("--networks", min=2, help="Random networks for scores with --data.")] = 100,
    images: Annotated[int, typer.Option("--images", min=2, help="Images for scores with --data.")] = 64,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="With --strategies and --predictor.")] = 20,
    measure: Annotated[
        str,
        typer.Option(
            "--measure",
            help="With --strategies: score of structure to screen by.",
            autocompletion=among(STRUCTURE_SCORES),
        ),
    ] = "trainable_depth",
    samples: Annotated[int, typer.Option("--samples", min=1, help="With --strategies: networks to screen.")] = 1000,
    finalists: Annotated[int, typer.Option("--finalists", min=1, help="With --strategies: networks to train.")] = 24,
    first_epochs: Annotated[int, typer.Option("--first-epochs", min=1, help="With --strategies: of a race.")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="With --strategies: rounds of a race.")] = 5,
    input: Annotated[str, typer.Option("--input", help="Image shape of the table's dataset.")] = "3x32x32",
    classes: Annotated[int, typer.Option("--classes", min=2, help="Classes of the table's dataset.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge scores, strategies or the predictor by a table of trained networks.

    Of every score Kendall's tau-b, Spearman's rho and regret; of those that look at activations only with --data.
    Where to get a table, and what one of your own has to hold, says docs/howto/table.md.

    Example: `spikenas bench --table cifar10.parquet`
    """
    if context.invoked_subcommand is not None:
        return
    if table is None:
        raise typer.BadParameter("give a table: spikenas bench --table FILE.parquet")
    if strategies and predictor:
        raise typer.BadParameter("--strategies and --predictor are two benchmarks: give one of them")
    from spikenas.score.table import load_table

    loaded = load_table(table)
    shape = parse_shape(input)
    if strategies:
        from spikenas.search.settings import SearchSettings

        race = SearchSettings(
            samples=samples,
            measure=measure,
            finalists=finalists,
            first_epochs=first_epochs,
            rounds=rounds,
            objectives=("score", "flash_bytes"),
        )
        return _bench_strategies(loaded, _chosen(only), race, seeds, shape, classes, as_json)
    if predictor:
        return _bench_predictor(loaded, seeds, shape, classes, as_json)
    from spikenas.score.bench import BenchSettings, bench_scores

    scores: list[Score] = list(STRUCTURE_SCORES.values())
    probe = None
    if data is not None:
        from spikenas.score.scores import PROBE_SCORES

        scores += PROBE_SCORES.values()
        probe = _probe(data, images, seed, shape, classes)
    if only is not None:
        scores = [_score(name) for name in _chosen(only)]
        lacking = [score for score in scores if score.needs is not Needs.STRUCTURE and probe is None]
        if lacking:
            raise InputError(f"score '{lacking[0].name}' reads {lacking[0].needs}: give --data, or choose another one")
    with RunProgress() as progress:
        rows = bench_scores(
            loaded,
            scores,
            probe,
            BenchSettings(networks, seed),
            input_shape=shape,
            classes=classes,
            on_row=lambda row: progress.message(f"{row.name}: {row.seconds:.1f} s"),
            on_step=progress.count,
        )
    judged = rows[0].ranking.count
    if as_json:
        seen = None if probe is None else images
        return print_json({"networks": judged, "of": len(loaded), "images": seen, "seed": seed, "scores": rows})
    _print_rows(rows)
    if probe is not None:
        print(
            f"all scores judge the same {judged:,} of {len(loaded):,} networks, drawn with seed {seed}; those that "
            f"need images see {images}; where a budget is blank, none of these networks keeps it"
        )


@bench_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder with <id>/train_process.txt files.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Read SpikeNAS-Bench's original text files into one table.

    Example: `spikenas bench import data/CIFAR10 --out cifar10.parquet`
    """
    from spikenas.score.table import save_table
    from spikenas.score.table_import import import_folder

    table = import_folder(folder)
    save_table(table, out)
    if as_json:
        return print_json({"table": out, "networks": len(table)})
    print(f"wrote {out}: {len(table):,} networks")


def _chosen(only: str | None) -> tuple[str, ...]:
    return () if only is None else tuple(name.strip() for name in only.split(","))


def _score(name: str) -> Score:
    from spikenas.score.structure_scores import find_score
    from spikenas.search.strategies import STRATEGY_NAMES

    if name in STRATEGY_NAMES:
        raise InputError(f"'{name}' is a strategy, not a score: add --strategies")
    return find_score(name)


def _bench_strategies(
    table: Table,
    names: Sequence[str],
    settings: SearchSettings,
    seeds: int,
    shape: tuple[int, ...],
    classes: int,
    as_json: bool,
) -> None:
    from spikenas.run.replay import bench_strategies, structure_columns
    from spikenas.score.bench import structure_column
    from spikenas.search.strategies import STRATEGY_NAMES, check_strategy

    for name in names:
        check_strategy(name)
    chosen = dict.fromkeys(names or STRATEGY_NAMES, settings)

    scores, measure = structure_columns(table), settings.measure
    if measure not in scores:
        with RunProgress() as progress:
            scores[measure] = structure_column(
                table, measure, input_shape=shape, classes=classes, on_step=progress.count
            )

    def heard(row: StrategyRow) -> None:
        print(f"{row.strategy} at {row.parameter_limit:,} parameters: regret {row.mean_regret:.2f}", file=sys.stderr)

    rows = bench_strategies(table, chosen, seeds=seeds, scores=scores, on_row=heard)
    if as_json:
        return print_json({"settings": settings, "strategies": rows})
    budgets = sorted({row.parameter_limit for row in rows})
    found = {(row.strategy, row.parameter_limit): row for row in rows}
    lines = []
    for name in chosen:
        mine = [found[name, budget] for budget in budgets]
        regrets = [row.mean_regret for row in mine if row.failed < row.seeds]
        lines.append(
            [
                name,
                f"{sum(regrets) / max(1, len(regrets)):.2f}",
                f"{max((row.worst_regret for row in mine if row.failed < row.seeds), default=0.0):.2f}",
                f"{max(row.mean_judged for row in mine):,.0f}",
                f"{max(row.mean_epochs for row in mine):,.0f}",
                f"{sum(row.failed for row in mine)} of {sum(row.seeds for row in mine)}",
                *(f"{row.mean_regret:.2f}/{row.worst_regret:.2f}" for row in mine),
            ]
        )
    columns = ["strategy", "mean", "worst", "judged", "epochs", "no fit"]
    print_table(
        f"Regret in points of test accuracy, {seeds} seeds: over all budgets, then mean/worst by budget",
        columns + [f"{budget / 1e6:.2f}M" for budget in budgets],
        lines,
    )


def _bench_predictor(table: Table, seeds: int, shape: tuple[int, ...], classes: int, as_json: bool) -> None:
    from spikenas.score.bench import bench_predictor

    with RunProgress() as progress:
        rows = bench_predictor(table, seeds=seeds, input_shape=shape, classes=classes, on_step=progress.count)
    if as_json:
        return print_json({"predictor": rows})
    print_table(
        f"Predictor against all networks it was not trained on, {seeds} seeds",
        ["trained networks", "tau-b", "deviation", "tau-b without ties"],
        [[str(row.samples), f"{row.tau:.3f}", f"{row.deviation:.3f}", f"{row.raw_tau:.3f}"] for row in rows],
    )


def _probe(data: str, images: int, seed: int, shape: tuple[int, ...], classes: int) -> Probe:
    from spikenas.data.datasets import load_dataset
    from spikenas.score.probe import draw_probe

    dataset = load_dataset(data)
    if (dataset.input_shape, dataset.classes) != (shape, classes):
        has, wanted = ("x".join(map(str, sides)) for sides in (dataset.input_shape, shape))
        raise InputError(
            f"--data {data} has {dataset.classes} classes of {has}, the networks of the table {classes} of {wanted}: "
            "give the table's own dataset, or tell --input and --classes"
        )
    return draw_probe(dataset.train, images, seed=seed)


def _print_rows(rows: Sequence[BenchRow]) -> None:
    budgets = list(rows[0].ranking.regrets)
    columns = ["score", "judged", "tau-b", "Spearman", "tau-b top 10%", "mean regret"]
    columns += [f"{budget / 1e6:.2f}M" for budget in budgets] + ["seconds"]
    table = [
        [
            row.name,
            f"{row.ranking.count - row.ranking.failed:,}/{row.ranking.count:,}",
            *(_figure(value, 3) for value in (row.ranking.tau, row.ranking.spearman, row.ranking.top_tau)),
            *(_figure(value, 2) for value in (row.ranking.mean_regret, *row.ranking.regrets.values())),
            f"{row.seconds:.2f}",
        ]
        for row in rows
    ]
    print_table("Scores against the table (regret in points of test accuracy)", columns, table)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
