"""Options that several verbs share, and what becomes of those that every search has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from spikenas.cost.budget import parse_bytes
from spikenas.cost.target import DEFAULT_TARGET, TARGETS, target_name
from spikenas.data.datasets import SOURCES, located
from spikenas.data.encode import CODES, DIRECT
from spikenas.run.executor import AUTO, EXECUTORS, ExecutorSettings
from spikenas.search.strategies import DEFAULT_STRATEGY, STRATEGY_NAMES
from spikenas.space.space import SPACES

DATA_HELP = "digits, fashion-mnist, a folder (parquet, class folders, events), an .npz file, or hf:OWNER/NAME."


def among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """What a shell completes where one of ``names`` is asked for."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _from_anywhere(source: str | None) -> str | None:
    """What a run keeps of --data, to find it from any folder."""
    return None if source is None else located(source)


def _device(name: str | None) -> str | None:
    """What a run keeps of --target."""
    return None if name is None else target_name(name)


DATASETS, SPACE_NAMES = among(SOURCES), among(SPACES)
SOURCE: dict[str, Any] = {"autocompletion": DATASETS, "callback": _from_anywhere}
DEVICE: dict[str, Any] = {"autocompletion": among(TARGETS), "callback": _device}
DataOption = Annotated[str, typer.Option("--data", help=DATA_HELP, **SOURCE)]
SpaceOption = Annotated[
    str, typer.Option("--space", help="Search space; see `spikenas spaces`.", autocompletion=SPACE_NAMES)
]
TargetOption = Annotated[
    str,
    typer.Option("--target", help="Device, see `spikenas targets`, or a board's .toml file.", **DEVICE),
]
SettingOption = Annotated[
    str | None,
    typer.Option("--quantized", help="A setting of `spikenas quantize`, such as b4-qat5. Default: the run's own bits."),
]
RunTargetOption = Annotated[str | None, typer.Option("--target", help="Device; default the run's.", **DEVICE)]
FlashOption = Annotated[str | None, typer.Option("--flash", help="Flash budget, such as 32KB. Default: the target's.")]
RamOption = Annotated[str | None, typer.Option("--ram", help="RAM budget, such as 16KB. Default: the target's.")]
EnergyOption = Annotated[
    float | None, typer.Option("--energy", help="Limit in nJ per inference, of operations alone at 45 nm.")
]
LatencyOption = Annotated[
    float | None, typer.Option("--latency", help="Limit in ms per inference, on the upper end of the estimate.")
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", help="Train for as many epochs as fit into so many minutes here.")
]
TeacherOption = Annotated[
    int | None,
    typer.Option(
        "--teacher",
        min=0,
        help="Epochs of a large network, trained before, from which this one learns; 0: none.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many training images.")]
EncodeOption = Annotated[
    str,
    typer.Option(
        "--encode",
        help="How images enter: direct, or as spikes over time by rate or latency.",
        autocompletion=among((DIRECT, *CODES)),
    ),
]
FramesOption = Annotated[
    int | None, typer.Option("--frames", min=1, help="Frames, and timesteps, of encoded images and events. Default: 8.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")]
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor",
        help="Who evaluates candidates: serial, processes, ray or auto.",
        autocompletion=among((*EXECUTORS, AUTO)),
    ),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default one per core.")]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of every verb that searches, each in its own words."""

    flash: FlashOption = None
    ram: RamOption = None
    energy: EnergyOption = None
    latency: LatencyOption = None
    target: TargetOption = DEFAULT_TARGET
    space: SpaceOption = "embedded"
    operations: Annotated[
        str | None,
        typer.Option("--operations", help="Comma-separated, of the space's, or all. Default: those worth it."),
    ] = None
    strategy: Annotated[
        str,
        typer.Option("--strategy", help=f"{', '.join(STRATEGY_NAMES)}.", autocompletion=among(STRATEGY_NAMES)),
    ] = DEFAULT_STRATEGY
    measure: Annotated[
        str | None,
        typer.Option(
            "--measure", help="Score that ranks untrained networks, see `spikenas bench`. Default: the space's best."
        ),
    ] = None
    shortlist_measure: Annotated[
        str | None,
        typer.Option("--shortlist-measure", help="Second score, such as sahd, for the best tenth. Default: none."),
    ] = None
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Networks to screen. Default: 2000.")] = None
    finalists: Annotated[
        int | None, typer.Option("--finalists", min=0, help="Networks to race by short trainings. Default: 8.")
    ] = None
    limit: LimitOption = None
    encode: EncodeOption = DIRECT
    frames: FramesOption = None
    seed: SeedOption = 0
    executor: ExecutorOption = "auto"
    workers: WorkersOption = None
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster: auto or HOST:PORT.")] = None
    trial_seconds: Annotated[float | None, typer.Option("--trial-seconds", help="Longest a trial may take.")] = None
    trial_memory: Annotated[
        str | None, typer.Option("--trial-memory", help="Most a trial may use, such as 4000MB.")
    ] = None
    cpus_per_trial: Annotated[float, typer.Option("--cpus-per-trial", help="What Ray sets aside.")] = 1.0
    gpus_per_trial: Annotated[float, typer.Option("--gpus-per-trial", help="What Ray sets aside.")] = 0.0
    store: Annotated[str | None, typer.Option("--store", help="postgresql://... for the study; default a file.")] = None

    def settings(self, **search: int | str | Sequence[str] | None) -> dict[str, Any]:
        """What they say of :class:`spikenas.run.task_settings.TaskSettings`; ``search``: more of SearchSettings."""
        from spikenas.run.task_settings import search_settings

        own = ("measure", "shortlist_measure", "samples", "finalists")
        same = ("target", "space", "strategy", "limit", "encode", "frames", "seed")
        given = {name: getattr(self, name) for name in own} | search
        return {
            "flash_bytes": bytes_or_none(self.flash),
            "ram_bytes": bytes_or_none(self.ram),
            "energy_nj": self.energy,
            "latency_ms": self.latency,
            "operations": None if self.operations is None else words(self.operations),
            "search": search_settings(self.space, given),
            **{name: getattr(self, name) for name in same},
        }

    def executor_settings(self) -> ExecutorSettings:
        """Who evaluates."""
        return ExecutorSettings(
            self.executor,
            self.workers,
            self.address,
            self.trial_seconds,
            bytes_or_none(self.trial_memory),
            self.cpus_per_trial,
            self.gpus_per_trial,
        )


def with_search_options(verb: Callable[..., None]) -> Callable[..., None]:
    """``verb`` for typer: in place of its parameter ``told``, one parameter for each of the SearchOptions."""
    options = fields(SearchOptions)
    hints = get_type_hints(SearchOptions, include_extras=True)

    @wraps(verb)
    def unfolded(**given: Any) -> None:
        verb(told=SearchOptions(**{item.name: given.pop(item.name) for item in options}), **given)

    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(verb, eval_str=True).parameters.values():
        if own.name == "told":
            parameters += [own.replace(name=o.name, annotation=hints[o.name], default=o.default) for o in options]
        else:
            parameters.append(own)
    unfolded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return unfolded


def bytes_or_none(text: str | None) -> int | None:
    """Bytes, if any are given."""
    return None if text is None else parse_bytes(text)


def words(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(word.strip() for word in text.split(","))
