"""spikenas run: the whole road."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import DataOption, MinutesOption, SearchOptions, TeacherOption, with_search_options
from spikenas.cost.budget import format_bytes
from spikenas.cost.words import time_and_energy
from spikenas.errors import NothingFits

if TYPE_CHECKING:
    from spikenas.pipeline import RunSummary


@with_search_options
def run(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on there.")],
    told: SearchOptions,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of the final training.")] = None,
    minutes: MinutesOption = None,
    teacher: TeacherOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Search, train, quantize and report: from a dataset and a budget to an integer network that fits.

    A first try of a few minutes: `--samples 200 --finalists 2 --minutes 1`.

    Example: `spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo`
    """
    more = told.settings()
    from spikenas.run.folder import check_run
    from spikenas.run.run_settings import RunSettings

    settings = RunSettings(data=data, epochs=epochs, minutes=minutes, teacher=teacher or 0, **more)
    check_run(out, asdict(settings))  # torch takes its time
    from spikenas.cli.progress import RunProgress
    from spikenas.pipeline import run as run_pipeline

    with RunProgress() as progress:
        summary = run_pipeline(settings, out, progress, told.executor_settings(), told.store)
    tell(summary, out, as_json=as_json)


def tell(summary: RunSummary, out: Path, *, as_json: bool) -> None:
    """Print how a run ended.

    Raises NothingFits, or ends with its exit code, when the trained network does not fit.
    """
    if as_json:
        print_json(summary)
        if not summary.fits:  # which the object says
            raise typer.Exit(NothingFits.exit_code)
        return
    _print_summary(summary, out)
    if not summary.fits:
        raise NothingFits(
            f"the trained network does not fit, its spikes counted on test images: {'; '.join(summary.violations)}; "
            f"it stays in {out}; give another --out, and raise that limit or search with a lower one"
        )


def _print_summary(summary: RunSummary, out: Path) -> None:
    cost, budget = summary.cost, summary.budget
    verdict = "fits" if summary.fits else "DOES NOT FIT: " + "; ".join(summary.violations)
    rows = [
        ["genotype", summary.genotype],
        ["verdict", verdict],
        ["test accuracy, float", f"{100 * summary.float_accuracy:.2f}%"],
        ["test accuracy, integer", f"{100 * summary.integer_accuracy:.2f}%"],
        ["flash", _against(cost.flash_bytes, budget.flash_bytes)],
        ["RAM", _against(cost.ram_bytes, budget.ram_bytes)],
        ["synops, MACs", f"{cost.synops:,.0f}, {cost.macs:,.0f} per inference ({SYNOPS_ARE})"],
        *map(list, time_and_energy(cost)),
        ["spike rate", f"{100 * summary.spike_rate:.1f}%"],
        ["seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())],
    ]
    print_table(f"spikenas: {summary.data} on {summary.target}", ["", ""], rows)
    print(f"report  {summary.report}")
    if not summary.fits:
        return
    if budget.latency_ms is None and cost.latency_ms > SLOW_MS:
        print(f"hint    {cost.latency_ms:,.0f} ms an inference; --latency {SLOW_MS} would search for a faster network")
    verbs = ["verify {}", "evaluate {}", "export {} --to c --out firmware"]
    if cost.assignment is not None:  # what is on neuromorphic cores has no C to verify
        verbs = ["evaluate {}", "export {} --to nir --out network.nir", "show {}"]
    elif summary.float_accuracy - summary.integer_accuracy > ROUNDING_HURTS:
        verbs.insert(0, "quantize {} --qat 5")
    for number, verb in enumerate(verbs):
        print(f"{'next' if not number else '':7} spikenas {verb.format(shlex.quote(str(out)))}")


SLOW_MS = 200
"""for an inference, which a search does not mind where nobody limits it"""
SYNOPS_ARE = "estimated from spike rates as if no window crossed a border, so some percent high; evaluate counts them"
ROUNDING_HURTS = 0.02
"""of accuracy lost to integers; training with rounded weights brings most of it back"""


def _against(used: int, limit: int | None) -> str:
    if limit is None:
        return f"{used:,} bytes"
    return f"{used:,} of {limit:,} bytes ({format_bytes(used)} of {format_bytes(limit)}, {100 * used / limit:.0f}%)"
