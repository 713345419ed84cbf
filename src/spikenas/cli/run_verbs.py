"""spikenas run: the whole road."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.inspect_verbs import SpaceOption, TargetOption
from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import (
    AddressOption,
    DataOption,
    EncodeOption,
    EnergyOption,
    ExecutorOption,
    FinalistsOption,
    FlashOption,
    FramesOption,
    LatencyOption,
    LimitOption,
    MeasureOption,
    MinutesOption,
    OperationsOption,
    RamOption,
    SamplesOption,
    SeedOption,
    ShortlistMeasureOption,
    StoreOption,
    StrategyOption,
    TrialCpusOption,
    TrialGpusOption,
    TrialMemoryOption,
    TrialSecondsOption,
    WorkersOption,
    bytes_or_none,
    executor_settings,
    search_settings,
    words_or_none,
)
from spikenas.cost.budget import format_bytes
from spikenas.cost.target import DEFAULT_TARGET
from spikenas.data.encode import DIRECT
from spikenas.search.strategies import DEFAULT_STRATEGY

if TYPE_CHECKING:
    from spikenas.pipeline import RunSummary


def run(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on there.")],
    flash: FlashOption = None,
    ram: RamOption = None,
    energy: EnergyOption = None,
    latency: LatencyOption = None,
    target: TargetOption = DEFAULT_TARGET,
    space: SpaceOption = "embedded",
    operations: OperationsOption = None,
    strategy: StrategyOption = None,
    measure: MeasureOption = None,
    shortlist_measure: ShortlistMeasureOption = None,
    samples: SamplesOption = None,
    finalists: FinalistsOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of the final training.")] = None,
    minutes: MinutesOption = None,
    limit: LimitOption = None,
    encode: EncodeOption = DIRECT,
    frames: FramesOption = None,
    seed: SeedOption = 0,
    executor: ExecutorOption = "auto",
    workers: WorkersOption = None,
    address: AddressOption = None,
    trial_seconds: TrialSecondsOption = None,
    trial_memory: TrialMemoryOption = None,
    cpus_per_trial: TrialCpusOption = 1.0,
    gpus_per_trial: TrialGpusOption = 0.0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search, train, quantize and report: from a dataset and a budget to an integer network that fits.

    Example: `spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo`
    """
    budgets = bytes_or_none(flash), bytes_or_none(ram)
    from spikenas.cli.progress import RunProgress
    from spikenas.pipeline import RunSettings
    from spikenas.pipeline import run as run_pipeline

    who = executor_settings(executor, workers, address, trial_seconds, trial_memory, cpus_per_trial, gpus_per_trial)
    settings = RunSettings(
        data=data,
        flash_bytes=budgets[0],
        ram_bytes=budgets[1],
        energy_nj=energy,
        latency_ms=latency,
        target=target,
        space=space,
        operations=words_or_none(operations),
        strategy=strategy or DEFAULT_STRATEGY,
        search=search_settings(
            space, measure=measure, shortlist_measure=shortlist_measure, samples=samples, finalists=finalists
        ),
        epochs=epochs,
        minutes=minutes,
        limit=limit,
        encode=encode,
        frames=frames,
        seed=seed,
    )
    with RunProgress() as progress:
        summary = run_pipeline(settings, out, progress, who, store)
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
        ["synops, MACs", f"{cost.synops:,.0f}, {cost.macs:,.0f} per inference (estimated from spike rates)"],
        ["energy", f"{cost.energy_nj:,.0f} nJ per inference (45 nm operations)"],
        ["latency", f"about {cost.latency_ms:,.1f} ms on {summary.target} (estimated, upper end)"],
        ["spike rate", f"{100 * summary.spike_rate:.1f}%"],
        ["seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())],
    ]
    print_table(f"spikenas: {summary.data} on {summary.target}", ["", ""], rows)
    print(f"report  {summary.report}")
    verbs = ["evaluate {}"]
    if cost.assignment is None:  # what is on neuromorphic cores has no C to verify
        verbs = ["verify {}", *verbs, "export {} --to c --out firmware"]
    for number, verb in enumerate(verbs):
        print(f"{'next' if not number else '':7} spikenas {verb.format(shlex.quote(str(out)))}")


def _against(used: int, limit: int | None) -> str:
    if limit is None:
        return f"{used:,} bytes"
    return f"{used:,} of {limit:,} bytes ({format_bytes(used)} of {format_bytes(limit)}, {100 * used / limit:.0f}%)"
