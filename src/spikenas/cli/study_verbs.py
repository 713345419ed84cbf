"""spikenas studies, show, compare: what searches have found. None of them loads torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cost.budget import format_bytes
from spikenas.run.store_recovery import recover_study
from spikenas.run.studies import StudySummary, compare_studies, export_study, list_studies, show_study
from spikenas.search.trial import Trial

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, as given to --out.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="postgresql://... of studies; default as the run.")]

studies_app = typer.Typer(invoke_without_command=True)


@studies_app.callback()
def studies(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--in", help="Folder with runs in it or below.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """The studies of all runs below a folder; `export` and `recover` one.

    Example: `spikenas studies --in runs`
    """
    if context.invoked_subcommand is not None:
        return
    found = list_studies(folder)
    if as_json:
        return print_json(found)
    print_table(
        f"Studies in {folder}",
        ["study", *TOLD, "state", "trials", "trained", "best"],
        [_summary_row(summary) for summary in found],
    )
    for summary in found:
        if summary.problem:
            print(summary.problem)


@studies_app.command()
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="File to write; it ends in .parquet or .csv.")],
    epochs: Annotated[bool, typer.Option("--epochs", help="The training curves instead of the trials.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study's trials to a table.

    Example: `spikenas studies export runs/demo --to trials.parquet`
    """
    rows = export_study(run, to, store, epochs=epochs)
    if as_json:
        return print_json({"rows": rows, "file": to})
    print(f"{rows:,} rows  {to}")


@studies_app.command()
def recover(run: RunArgument, as_json: JsonOption = False) -> None:
    """Save what can be read of a damaged study; `spikenas run` then goes on with it.

    Example: `spikenas studies recover runs/demo`
    """
    recovery = recover_study(run)
    if as_json:
        return print_json(recovery)
    if recovery.damaged is None:
        print(f"in order, {recovery.trials:,} trials; nothing was changed")
    else:
        print(
            f"saved {recovery.trials:,} trials and {recovery.epochs:,} epochs; the damaged file is {recovery.damaged}"
        )
        print("next    the command that began this run: it measures again what is missing")


def show(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What a study did and found, so far: also while it runs.

    Example: `spikenas show runs/demo`
    """
    details = show_study(run, store)
    if as_json:
        return print_json(details)
    summary = details.summary
    rows = [
        *([name, text] for name, text in zip(TOLD, _told(summary.settings), strict=True)),
        ["state", _state(summary)],
        [
            "trials",
            f"{summary.trials:,}: {summary.done:,} done, {summary.rejected:,} over budget, {summary.failed:,} failed",
        ],
        ["trained", f"{summary.trained:,}"],
        ["seconds in trials", f"{summary.seconds:,.1f}"],
        *([f"seconds in {stage}", f"{seconds:,.1f}"] for stage, seconds in details.stages.items()),
        *([f"failed, {count:,} times", reason] for reason, count in details.failures.items()),
    ]
    print_table(f"Study {summary.name}", ["", ""], rows)
    if details.top:
        print_table("Best trials", TRIAL_COLUMNS, [_trial_row(trial) for trial in details.top])


def compare(
    first: RunArgument,
    second: Annotated[Path, typer.Argument(help="Folder of another run.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two studies were told and found, side by side, and whether they measured the same.

    Example: `spikenas compare runs/demo runs/study`
    """
    found = compare_studies(first, second, store)
    if as_json:
        return print_json(found)
    one, two = found.first, found.second
    rows = [[name, _text(a), _text(b)] for name, (a, b) in found.settings.items()]
    rows += [[word, *(f"{getattr(summary, name):,}" for summary in (one, two))] for word, name in COUNTS.items()]
    rows += [["seconds", f"{one.seconds:,.1f}", f"{two.seconds:,.1f}"]]
    rows += [["best", _best(one.best), _best(two.best)]]
    rows += [["its genotype", *("" if s.best is None else s.best.genotype for s in (one, two))]]
    rows += [["measured by it alone", f"{found.only_first:,}", f"{found.only_second:,}"]]
    print_table("Comparison", ["", one.name, two.name], rows)
    print(f"both measured {found.same + len(found.differing):,} networks the same way: {found.same:,} with one result")
    for a, b in found.differing[:SHOWN]:
        print(f"  {a.genotype} {a.measure}: {_best(a)} and {_best(b)}")


COUNTS = {"trials": "trials", "done": "done", "over budget": "rejected", "failed": "failed", "trained": "trained"}
TOLD = ("data", "space", "score", "budget", "seed")
"""of a study's settings, what heads it"""
SHOWN = 10
TRIAL_COLUMNS: Sequence[str] = ("trial", "genotype", "measure", "epochs", "accuracy", "score", "flash B", "RAM B", "nJ")


def _summary_row(summary: StudySummary) -> list[str]:
    if summary.problem:
        return [summary.name, *("" for _ in TOLD), "cannot be read", "", "", ""]
    head = [summary.name, *_told(summary.settings), _state(summary)]
    if summary.settings.get("genotype"):
        return [*head, "", "", summary.settings["genotype"]]
    failed = f", {summary.failed:,} failed" if summary.failed else ""
    return [*head, f"{summary.trials:,}{failed}", f"{summary.trained:,}", _best(summary.best)]


def _told(settings: Mapping[str, Any]) -> list[str]:
    """The settings of :data:`TOLD` in words."""
    limits = [settings.get(name) for name in ("flash_bytes", "ram_bytes")]
    sizes = ["the target's" if limit is None else format_bytes(limit) for limit in limits]
    return [
        _text(settings.get("data")),
        _text(settings.get("space")),
        "" if settings.get("genotype") else str(settings.get("search", {}).get("measure", "")),
        f"{sizes[0]} flash, {sizes[1]} RAM" if any(limits) else sizes[0],
        str(settings.get("seed", "")),
    ]


def _state(summary: StudySummary) -> str:
    """A run that was given its network searches nothing."""
    ended = "trained" if summary.settings.get("genotype") else "finished"
    return ended if summary.finished else f"not {ended}"


def _trial_row(trial: Trial) -> list[str]:
    return [
        str(trial.number),
        trial.genotype,
        trial.measure,
        str(trial.epochs or ""),
        "" if trial.accuracy is None else f"{100 * trial.accuracy:.2f}%",
        "" if trial.score is None else f"{trial.score:.4g}",
        "" if trial.flash_bytes is None else f"{trial.flash_bytes:,}",
        "" if trial.ram_bytes is None else f"{trial.ram_bytes:,}",
        "" if trial.energy_nj is None else f"{trial.energy_nj:,.0f}",
    ]


def _best(trial: Trial | None) -> str:
    if trial is None or not trial.done:
        return "none" if trial is None else trial.state.value
    if trial.accuracy is not None:
        return f"{100 * trial.accuracy:.2f}% after {trial.epochs} epochs"
    return f"score {trial.score:.4g}" if trial.score is not None else "done"


def _text(value: Any) -> str:
    return "default" if value is None else str(value)
