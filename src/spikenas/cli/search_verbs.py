"""spikenas search: a study by itself, without the final training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.inspect_verbs import parse_shape
from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import DATA_HELP, SOURCE, SearchOptions, with_search_options, words
from spikenas.cost.budget import format_figure
from spikenas.errors import InputError
from spikenas.search.trial import Trial

if TYPE_CHECKING:
    from spikenas.run.search_study import SearchSummary

OBJECTIVE_WORDS = {
    "score": "score",
    "flash": "flash_bytes",
    "ram": "ram_bytes",
    "energy": "energy_nj",
    "latency": "latency_ms",
    "macs": "macs",
    "synops": "synops",
}
"""What may be traded, as one types it."""
FRONT_SHOWN = 20
CHOSEN = "chosen"


@with_search_options
def search(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; the same command again goes on there.")],
    told: SearchOptions,
    data: Annotated[str | None, typer.Option("--data", help=DATA_HELP, **SOURCE)] = None,
    input: Annotated[
        str | None, typer.Option("--input", help="Without --data: image shape, 3x32x32, or 8x2x34x34.")
    ] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="Without --data: number of classes.")] = None,
    first_epochs: Annotated[
        int | None, typer.Option("--first-epochs", min=1, help="Epochs of a race's first round.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=0, help="Rounds of a race; each trains twice as long.")
    ] = None,
    population: Annotated[
        int | None, typer.Option("--population", min=2, help="Networks that evolution keeps.")
    ] = None,
    objectives: Annotated[
        str | None, typer.Option("--objectives", help=f"What to trade, of {', '.join(OBJECTIVE_WORDS)}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search only: a study with its Pareto front and the chosen network, to be trained later.

    Example: `spikenas search --input 3x32x32 --classes 10 --flash 256KB --ram 128KB --out runs/study`
    """
    from spikenas.cli.progress import RunProgress
    from spikenas.run.search_study import StudySettings, search_study

    settings = StudySettings(
        data=data,
        input_shape=None if input is None else parse_shape(input),
        classes=classes,
        **told.settings(
            first_epochs=first_epochs,
            rounds=rounds,
            population=population,
            objectives=None if objectives is None else parse_objectives(objectives),
        ),
    )
    with RunProgress() as progress:
        summary = search_study(settings, out, progress, told.executor_settings(), told.store)
    if as_json:
        return print_json(summary)
    _print_summary(summary)


def parse_objectives(text: str) -> tuple[str, ...]:
    """Names of figures from "score,flash,ram". Raises InputError."""
    chosen = words(text)
    for word in chosen:
        if word not in OBJECTIVE_WORDS:
            raise InputError(f"objective '{word}': choose from {', '.join(OBJECTIVE_WORDS)}, separated by commas")
    return tuple(OBJECTIVE_WORDS[word] for word in chosen)


def _print_summary(summary: SearchSummary) -> None:
    named = {name: word for word, name in OBJECTIVE_WORDS.items()}
    columns = ["genotype", "score", *COSTS, ""]
    print_table(
        f"Pareto front of {', '.join(named[name] for name in summary.objectives)}: {len(summary.front)} networks",
        columns,
        [[*_front_row(trial), CHOSEN * (trial.genotype == summary.genotype)] for trial in summary.front[:FRONT_SHOWN]],
    )
    if len(summary.front) > FRONT_SHOWN:
        print(f"and {len(summary.front) - FRONT_SHOWN} more in {summary.folder / 'summary.json'}")
    best, budget = summary.best, summary.budget
    if best.accuracy is not None:
        print(f"ranked by score {summary.measure}, not by training; energy and latency are of assumed spike rates, and")
        print("below, for the chosen network, of those measured in its training")
    rows = [["genotype", summary.genotype]]
    if best.accuracy is not None:
        rows.append(["validation accuracy", f"{100 * best.accuracy:.2f}% after {best.epochs} epochs"])
    if best.score is not None:
        rows.append([f"score {summary.measure}", f"{best.score:.4g}"])
    for name, figure in COSTS.items():
        limit = getattr(budget, figure)
        of = "" if limit is None else f" of {format_figure(figure, limit)}"
        rows.append([name, f"{format_figure(figure, getattr(best, figure))}{of}"])
    outcome = f"{summary.rejected:,} over budget, {summary.failed:,} failed, {summary.trained:,} trained"
    rows.append(["trials", f"{summary.trials:,}: {outcome}"])
    rows.append(["seconds", f"{summary.seconds.get('search', 0.0):,.1f}"])
    print_table(f"spikenas search: {summary.strategy} over {summary.space}, for {summary.target}", ["", ""], rows)
    print(f"next    {summary.next}")


COSTS = {"flash": "flash_bytes", "RAM": "ram_bytes", "energy": "energy_nj", "latency": "latency_ms"}


def _front_row(trial: Trial) -> Sequence[str]:
    costs = [format_figure(figure, getattr(trial, figure)) for figure in COSTS.values()]
    return [trial.genotype, "" if trial.score is None else f"{trial.score:.4g}", *costs]
