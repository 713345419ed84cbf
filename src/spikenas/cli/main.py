"""Verbs and the one place where errors become a line and an exit code (0 done, 2 bad input, 3 nothing fits)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from spikenas import __version__
from spikenas.cli import (
    analyze_verbs,
    bench_verbs,
    dense_verbs,
    doctor_verbs,
    export_verbs,
    inspect_verbs,
    quantize_verbs,
    report_verbs,
    run_verbs,
    search_verbs,
    study_verbs,
    train_verbs,
    verify_verbs,
)
from spikenas.errors import SpikenasError

# typer brings its own copy of click or uses the installed one, by version; either way this is its base of usage errors.
UsageError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

INTERRUPTED = 130

app = typer.Typer(
    name="spikenas",
    help="Find, train and quantize a spiking neural network that provably fits your device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"spikenas {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, train and quantize a spiking neural network that provably fits your device."""


app.command()(run_verbs.run)
app.command()(search_verbs.search)
app.command()(train_verbs.train)
app.command()(train_verbs.evaluate)
app.command()(analyze_verbs.analyze)
app.command()(quantize_verbs.quantize)
app.command()(report_verbs.report)
app.command()(inspect_verbs.cost)
app.command()(inspect_verbs.spaces)
app.command()(inspect_verbs.targets)
app.command()(export_verbs.export)
app.command("import")(export_verbs.import_)
app.command()(study_verbs.show)
app.command()(study_verbs.compare)
app.command()(verify_verbs.verify)
app.command("compare-dense")(dense_verbs.compare_dense)
app.command()(doctor_verbs.doctor)
app.add_typer(bench_verbs.bench_app, name="bench")
app.add_typer(study_verbs.studies_app, name="studies")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        result = app(arguments, prog_name="spikenas", standalone_mode=False)
        if result == INTERRUPTED:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except SpikenasError as error:
        return _refuse(str(error), error.exit_code, as_json)
    except UsageError as error:
        words = error.format_message() if hasattr(error, "format_message") else str(error)
        return _refuse(" ".join(words.split()), 2, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _refuse("stopped; nothing finished is lost, the same command goes on from here", INTERRUPTED, as_json)


def _refuse(message: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}))
    print(f"spikenas: {message}", file=sys.stderr)
    return code


def script() -> None:
    """Entry point of the installed command."""
    raise SystemExit(main())


def run_script(work: Callable[[], None]) -> None:
    """Do the work of a script of one's own; bad input ends it with the line and exit code of the installed command."""
    try:
        work()
    except SpikenasError as error:
        raise SystemExit(_refuse(str(error), error.exit_code, as_json=False)) from None
