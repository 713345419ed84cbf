"""spikenas run: the whole road."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import DataOption, MinutesOption, SearchOptions, with_search_options
from spikenas.cost.budget import format_bytes
from spikenas.cost.words import time_and_energy

if TYPE_CHECKING:
    from spikenas.pipeline import RunSummary


@with_search_options
def run(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on there.")],
    told: SearchOptions,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of the final training.")] = None,
    minutes: MinutesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search, train, quantize and report: from a dataset and a budget to an integer network that fits.

    Example: `spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo`
    """
    more = told.settings()
    from spikenas.cli.progress import RunProgress
    from spikenas.pipeline import run as run_pipeline
    from spikenas.run.run_settings import RunSettings

    settings = RunSettings(data=data, epochs=epochs, minutes=minutes, **more)
    with RunProgress() as progress:
        summary = run_pipeline(settings, out, progress, told.executor_settings(), told.store)
    if as_json:
        return print_json(summary)
    print_summary(summary, out)


def print_summary(summary: RunSummary, out: Path) -> None:
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
    verbs = ["verify {}", "evaluate {}", "export {} --to c --out firmware"]
    if cost.assignment is not None:  # what is on neuromorphic cores has no C to verify
        verbs = ["evaluate {}", "export {} --to nir --out network.nir", "show {}"]
    elif summary.float_accuracy - summary.integer_accuracy > ROUNDING_HURTS:
        verbs.insert(0, "quantize {} --qat 5")
    for number, verb in enumerate(verbs):
        print(f"{'next' if not number else '':7} spikenas {verb.format(shlex.quote(str(out)))}")


SYNOPS_ARE = "estimated from spike rates as if no window crossed a border, so some percent high; evaluate counts them"
ROUNDING_HURTS = 0.02
"""of accuracy lost to integers; training with rounded weights brings most of it back"""


def _against(used: int, limit: int | None) -> str:
    if limit is None:
        return f"{used:,} bytes"
    return f"{used:,} of {limit:,} bytes ({format_bytes(used)} of {format_bytes(limit)}, {100 * used / limit:.0f}%)"
