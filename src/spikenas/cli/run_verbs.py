"""spikenas run: the whole road."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.inspect_verbs import SpaceOption, TargetOption
from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cost.budget import format_bytes, parse_bytes
from spikenas.cost.target import DEFAULT_TARGET

if TYPE_CHECKING:
    from spikenas.pipeline import RunSummary


def run(
    data: Annotated[
        str, typer.Option("--data", help="digits, fashion-mnist, a folder of parquet files, or of class folders.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on there.")],
    flash: Annotated[
        str | None, typer.Option("--flash", help="Flash budget, such as 32KB. Default: the target's.")
    ] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="RAM budget, such as 16KB. Default: the target's.")] = None,
    energy: Annotated[float | None, typer.Option("--energy", help="Limit in nJ per inference, at 45 nm.")] = None,
    latency: Annotated[float | None, typer.Option("--latency", help="Limit in ms per inference, estimated.")] = None,
    target: TargetOption = DEFAULT_TARGET,
    space: SpaceOption = "embedded",
    operations: Annotated[str | None, typer.Option("--operations", help="Comma-separated part of the space's.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="How to search.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Networks to screen.")] = None,
    finalists: Annotated[
        int | None, typer.Option("--finalists", min=0, help="Networks to race by short trainings.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of the final training.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many training images.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")] = 0,
    executor: Annotated[
        str, typer.Option("--executor", help="Who trains candidates: serial, processes or ray.")
    ] = "serial",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default one per core.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster: auto or HOST:PORT.")] = None,
    trial_seconds: Annotated[float | None, typer.Option("--trial-seconds", help="Longest a trial may take.")] = None,
    trial_memory: Annotated[
        str | None, typer.Option("--trial-memory", help="Most a trial may use, such as 4000MB.")
    ] = None,
    cpus_per_trial: Annotated[float, typer.Option("--cpus-per-trial", help="What Ray sets aside.")] = 1.0,
    gpus_per_trial: Annotated[float, typer.Option("--gpus-per-trial", help="What Ray sets aside.")] = 0.0,
    store: Annotated[
        str | None, typer.Option("--store", help="postgresql://... for the study; default a file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search, train, quantize and report: from a dataset and a budget to an integer network that fits.

    Example: `spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo`
    """
    budgets = [None if text is None else parse_bytes(text) for text in (flash, ram)]
    from dataclasses import replace

    from spikenas.cli.progress import RunProgress
    from spikenas.pipeline import RunSettings
    from spikenas.pipeline import run as run_pipeline
    from spikenas.run.executor import ExecutorSettings

    trial_bytes = None if trial_memory is None else parse_bytes(trial_memory)
    who = ExecutorSettings(executor, workers, address, trial_seconds, trial_bytes, cpus_per_trial, gpus_per_trial)
    settings = RunSettings(
        data=data,
        flash_bytes=budgets[0],
        ram_bytes=budgets[1],
        energy_nj=energy,
        latency_ms=latency,
        target=target,
        space=space,
        operations=None if operations is None else tuple(name.strip() for name in operations.split(",")),
        epochs=epochs,
        limit=limit,
        seed=seed,
    )
    search = replace(
        settings.search,
        samples=samples or settings.search.samples,
        finalists=settings.search.finalists if finalists is None else finalists,
    )
    settings = replace(settings, search=search, strategy=strategy or settings.strategy)
    with RunProgress() as progress:
        summary = run_pipeline(settings, out, progress, who, store)
    if as_json:
        return print_json(summary)
    _print_summary(summary, out)


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
        ["synops, MACs", f"{cost.synops:,.0f}, {cost.macs:,.0f} per inference"],
        ["energy", f"{cost.energy_nj:,.0f} nJ per inference (45 nm operations)"],
        ["latency", f"at most {cost.latency_ms:,.1f} ms on {summary.target} (estimated)"],
        ["spike rate", f"{100 * summary.spike_rate:.1f}%"],
        ["seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())],
    ]
    print_table(f"spikenas: {summary.data} on {summary.target}", ["", ""], rows)
    print(f"report  {summary.report}")
    print(f"next    spikenas cost '{summary.genotype}' --space {summary.space} --target {summary.target}")


def _against(used: int, limit: int | None) -> str:
    if limit is None:
        return f"{used:,} bytes"
    return f"{used:,} of {limit:,} bytes ({format_bytes(used)} of {format_bytes(limit)}, {100 * used / limit:.0f}%)"
