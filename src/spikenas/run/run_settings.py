"""What a run is told, and the command line that tells it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from spikenas.data.datasets import TOLD, located
from spikenas.errors import InputError
from spikenas.run.choice import choice_of_search
from spikenas.run.sameness import option
from spikenas.run.task_settings import TaskSettings
from spikenas.score.structure_scores import default_measure
from spikenas.snn.torchrun import processes
from spikenas.snn.train_config import TrainConfig
from spikenas.space.samples import frames_of


@dataclass(frozen=True, slots=True)
class RunSettings(TaskSettings):
    """What a run is told; two runs with equal settings are the same run.

    ``epochs`` None suits the dataset's size, or ``minutes`` of training on this machine. ``teacher``: the epochs of a
    large network's training before, from which this one then learns, 0 for none. With a ``genotype`` nothing is
    searched; ``training`` is how to train, but for its epochs and seed, which are here; ``processes`` of torchrun do it
    together.
    """

    data: str
    epochs: int | None = None
    minutes: float | None = None
    teacher: int = 0
    genotype: str | None = None
    training: TrainConfig | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"--minutes {self.minutes:g}: give the training some time, such as 30")
        if self.minutes is not None and self.epochs is not None:
            raise InputError("--minutes and --epochs both say how long to train: give one of them")


def settings_to_train(
    network: str, out: Path | None, training: TrainConfig, given: Mapping[str, Any]
) -> tuple[RunSettings, Path]:
    """The settings and folder of a run that trains ``network``: a genotype, or a search's folder, whose best it trains.

    What is None in ``given``, by name of RunSettings, is the search's, or RunSettings' default. Raises InputError when
    the data or the folder is not known.
    """
    from_search: dict[str, Any] = {}
    genotype = network
    if Path(network).is_dir():
        searched, genotype = choice_of_search(Path(network))
        from_search = {name: searched.get(name) for name in given}
        if given["epochs"] or given["minutes"]:  # either says how long to train, whatever the search's run was told
            from_search |= {"epochs": None, "minutes": None}
        if searched.get("input_shape"):
            from_search["frames"] = frames_of(tuple(searched["input_shape"]))
        out = out or Path(network) / "trained"
    named = {name: value if value is not None else from_search.get(name) for name, value in given.items()}
    if named["data"] is None or out is None:
        if from_search:
            raise InputError(f"--data is missing: the search in '{network}' was made without images; name some")
        missing = "--data" if named["data"] is None else "--out"
        raise InputError(f"{missing} is missing: only a search's folder knows its own, and {network!r} is no folder")
    known = {name: value for name, value in named.items() if value is not None}
    known["data"] = located(known["data"])
    return RunSettings(**known, genotype=genotype, training=training, processes=processes()), out


def command_line(settings: RunSettings, out: Path) -> str:
    """What to type to repeat a run.

    >>> command_line(RunSettings("digits", flash_bytes=32768, seed=1), Path("runs/demo"))
    'spikenas run --data digits --flash 32768 --seed 1 --out runs/demo'
    """
    default = RunSettings(settings.data)
    verb = ["run"] if settings.genotype is None else ["train", settings.genotype]
    several = ["torchrun", "--nproc-per-node", str(settings.processes), "-m"] if settings.processes > 1 else []
    words = [*several, "spikenas", *verb, "--data", settings.data]
    searched = settings.genotype is None
    for name in (*NAMES, *SEARCH_NAMES) if searched else NAMES:
        value = getattr(settings, name)
        if value != getattr(default, name):
            words += [option(name), ",".join(value) if isinstance(value, tuple) else str(value)]
    usual = replace(default.search, measure=default_measure(settings.space))
    for name in ("samples", "finalists", "measure", "shortlist_measure") if searched else ():
        value = getattr(settings.search, name)
        if value != getattr(usual, name):
            words += [option(name), str(value)]
    if settings.training is not None:
        words += _training_words(settings.training)
    return shlex.join([*words, "--out", str(out)])


def settings_of_any(settings: RunSettings) -> RunSettings:
    """What ``spikenas train`` takes of a search's settings, for any GENOTYPE."""
    taken = (*TOLD, "flash_bytes", "ram_bytes", "target", "space", "epochs", "minutes", "teacher")
    return RunSettings(**{name: getattr(settings, name) for name in taken}, genotype="GENOTYPE")


def _training_words(training: TrainConfig) -> list[str]:
    """What ``spikenas train`` was told beyond its defaults; the seed is the run's."""
    words: list[str] = []
    for item in fields(TrainConfig):
        value = getattr(training, item.name)
        if item.name not in ("epochs", "seed", "neuron") and value != item.default:
            words += [option(item.name)] if value is True else [option(item.name), str(value)]
    return words


NAMES = (
    *("flash_bytes", "ram_bytes", "energy_nj", "latency_ms", "target", "space", "epochs", "minutes", "teacher"),
    *("limit", "encode", "frames", "seed"),
)
"""Settings of a run that are options; below, those that only a search has."""
SEARCH_NAMES = ("operations", "strategy")
