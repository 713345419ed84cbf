"""Options that the verbs which search share, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cost.budget import parse_bytes
from spikenas.search.strategies import DEFAULT_STRATEGY, STRATEGY_NAMES

if TYPE_CHECKING:
    from spikenas.run.executor import ExecutorSettings
    from spikenas.search.settings import SearchSettings

DATA_HELP = "digits, fashion-mnist, a folder (parquet, class folders, events), an .npz file, or hf:OWNER/NAME."
DataOption = Annotated[str, typer.Option("--data", help=DATA_HELP)]
FlashOption = Annotated[str | None, typer.Option("--flash", help="Flash budget, such as 32KB. Default: the target's.")]
RamOption = Annotated[str | None, typer.Option("--ram", help="RAM budget, such as 16KB. Default: the target's.")]
EnergyOption = Annotated[float | None, typer.Option("--energy", help="Limit in nJ per inference, at 45 nm.")]
LatencyOption = Annotated[float | None, typer.Option("--latency", help="Limit in ms per inference, estimated.")]
OperationsOption = Annotated[
    str | None, typer.Option("--operations", help="Comma-separated part of the space's; `spikenas analyze` finds one.")
]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", help=f"{', '.join(STRATEGY_NAMES)}. Default: {DEFAULT_STRATEGY}.")
]
MeasureOption = Annotated[
    str | None,
    typer.Option(
        "--measure", help="Score that ranks untrained networks, see `spikenas bench`. Default: the space's best."
    ),
]
ShortlistMeasureOption = Annotated[
    str | None,
    typer.Option("--shortlist-measure", help="Second score, such as sahd, for the best tenth. Default: none."),
]
SamplesOption = Annotated[int | None, typer.Option("--samples", min=1, help="Networks to screen. Default: 2000.")]
FinalistsOption = Annotated[
    int | None, typer.Option("--finalists", min=0, help="Networks to race by short trainings. Default: 8.")
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", help="Train for as many epochs as fit into so many minutes here.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many training images.")]
EncodeOption = Annotated[
    str, typer.Option("--encode", help="How images enter: direct, or as spikes over time by rate or latency.")
]
FramesOption = Annotated[
    int | None, typer.Option("--frames", min=1, help="Frames, and timesteps, of encoded images and events. Default: 8.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")]
ExecutorOption = Annotated[
    str, typer.Option("--executor", help="Who evaluates candidates: serial, processes, ray or auto.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default one per core.")]
AddressOption = Annotated[str | None, typer.Option("--address", help="Ray cluster: auto or HOST:PORT.")]
TrialSecondsOption = Annotated[float | None, typer.Option("--trial-seconds", help="Longest a trial may take.")]
TrialMemoryOption = Annotated[str | None, typer.Option("--trial-memory", help="Most a trial may use, such as 4000MB.")]
TrialCpusOption = Annotated[float, typer.Option("--cpus-per-trial", help="What Ray sets aside.")]
TrialGpusOption = Annotated[float, typer.Option("--gpus-per-trial", help="What Ray sets aside.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="postgresql://... for the study; default a file.")]


def bytes_or_none(text: str | None) -> int | None:
    """Bytes, if any are given."""
    return None if text is None else parse_bytes(text)


def words_or_none(text: str | None) -> tuple[str, ...] | None:
    """Comma-separated words, if any are given."""
    return None if text is None else tuple(word.strip() for word in text.split(","))


def search_settings(space: str, **given: int | str | Sequence[str] | None) -> SearchSettings:
    """The defaults of a space, and those of ``given`` that are not None."""
    from spikenas.score.structure_scores import default_measure
    from spikenas.search.settings import SearchSettings

    known = {item.name for item in fields(SearchSettings)}
    chosen = {name: value for name, value in given.items() if value is not None and name in known}
    return replace(SearchSettings(measure=default_measure(space)), **chosen)  # type: ignore[arg-type]


def executor_settings(
    executor: str,
    workers: int | None,
    address: str | None = None,
    trial_seconds: float | None = None,
    trial_memory: str | None = None,
    cpus_per_trial: float = 1.0,
    gpus_per_trial: float = 0.0,
) -> ExecutorSettings:
    """Who evaluates."""
    from spikenas.run.executor import ExecutorSettings

    trial_bytes = bytes_or_none(trial_memory)
    return ExecutorSettings(executor, workers, address, trial_seconds, trial_bytes, cpus_per_trial, gpus_per_trial)
