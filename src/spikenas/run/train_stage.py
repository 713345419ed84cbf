"""The training of the chosen network, in a run's folder: goes on from its last epoch, whatever stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from spikenas.data.datasets import Dataset
from spikenas.data.split import thin
from spikenas.errors import MissingTool, TrainError
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.run.artifacts import load_model, read_json, save_model, write_json
from spikenas.run.decisions import why_epoch
from spikenas.run.folder import RunFolder
from spikenas.run.training_store import begun_training, save_training
from spikenas.snn.network import Network, to_model
from spikenas.snn.precision import has_few_bits
from spikenas.snn.teacher import NEURON, teacher_config, teacher_graph
from spikenas.snn.torchrun import processes
from spikenas.snn.train import BatchStats, EpochStats, TrainConfig, TrainState, train
from spikenas.snn.training_run import has_rates, rate_epochs

# Without --epochs a network is shown about so many images, within these bounds on epochs.
IMAGES_SHOWN, EPOCHS_LEAST, EPOCHS_MOST = 100_000, 3, 60


class TrainObserver(Protocol):
    """Is told what goes on."""

    def message(self, text: str) -> None: ...
    def batch(self, stats: BatchStats) -> None: ...
    def epoch(self, stats: EpochStats) -> None: ...


def train_network(
    folder: RunFolder,
    graph: Graph,
    dataset: Dataset,
    config: TrainConfig,
    observer: TrainObserver,
    teacher: Model | None = None,
    *,
    tensorboard: bool = False,
) -> Model:
    """The trained network, from the folder where it is there. Raises TrainError, RunError and MissingTool."""
    if folder.model.exists():
        observer.message("already trained")
        return load_model(folder.model)
    resume = begun_training(folder.training, graph, config)
    if resume is not None:
        observer.message(f"going on after epoch {resume.epoch}")
    elif rates := rate_epochs(graph, config):
        observer.message(f"{rates} epochs on rates, then {config.epochs - rates} on spikes")
    writers: list[EventWriter] = [_event_writer(folder.path / "tensorboard")] if tensorboard else []

    def keep(state: TrainState) -> None:
        save_training(folder.training, state, graph, config)
        write_json(folder.curve, [asdict(stats) for stats in state.curve])

    def note(stats: EpochStats) -> None:
        observer.epoch(stats)
        for writer in writers:
            _write_events(writer, stats)

    result = train(
        graph,
        dataset.train,
        dataset.val,
        config,
        teacher=teacher,
        resume=resume,
        on_epoch=note,
        on_batch=observer.batch,
        on_state=keep,
        on_fallback=observer.message,
    )
    for writer in writers:
        writer.close()
    save_model(folder.model, result.model)
    observer.message(why_epoch(result.best, result.curve))
    with suppress(OSError):
        folder.training.unlink()
    return result.model


def follow_training(
    folder: RunFolder, graph: Graph, dataset: Dataset, config: TrainConfig, teacher: Model | None
) -> None:
    """What every process of torchrun but the first does: the same training, of which the first keeps the results."""
    if not folder.model.exists():
        resume = begun_training(folder.training, graph, config)
        train(graph, dataset.train, dataset.val, config, teacher=teacher, resume=resume)


def suitable_training(given: TrainConfig | None, images: int, epochs: int | None, seed: int) -> TrainConfig:
    """How to train on so many images: as ``given``, for ``epochs`` or what suits them."""
    return replace(given or TrainConfig(), epochs=epochs or suitable_epochs(images), seed=seed)


def for_minutes(
    minutes: float,
    folder: RunFolder,
    graph: Graph,
    dataset: Dataset,
    training: TrainConfig,
    teacher: int,
    observer: TrainObserver,
) -> TrainConfig:
    """``training`` for as many epochs as this machine does in ``minutes``, at least one.

    The minutes include those of a teacher of so many epochs, and of training on with rounded weights. What was found is
    kept in the folder, so that a run which goes on trains for as many, wherever it does.
    """
    if processes() > 1:
        raise TrainError(f"--minutes {minutes:g}: processes that train together need one number; give --epochs")
    if not folder.pace.exists():
        asked, left = None, 60 * minutes
        if teacher:
            asked = to_model(Network(teacher_graph(dataset.input_shape, dataset.classes), neuron=NEURON))
            left -= teacher * _epoch_seconds(asked.graph, dataset, teacher_config(training, teacher))
        epoch = _epoch_seconds(graph, dataset, training, asked)
        write_json(folder.pace, {"epochs": max(1, int(left / epoch)), "images_per_s": _seen(dataset) / epoch})
    epochs = int(read_json(folder.pace)["epochs"])
    advice = f"; {training.epochs} would suit these images" if epochs < training.epochs else ""
    observer.message(f"{epochs} epoch{'s' if epochs > 1 else ''} in {minutes:g} minutes{advice}")
    return replace(training, epochs=epochs)


def _epoch_seconds(graph: Graph, dataset: Dataset, training: TrainConfig, teacher: Model | None = None) -> float:
    """What an epoch takes here on the mean, judged on few images by the second of each kind: the first one compiles.

    Weights of few bits are trained on afterwards, rounded, in epochs like those of spikes.
    """
    batch = training.batch_of(len(dataset.train))
    few = thin(dataset.train, max(PACE_IMAGES, 4 * batch), np.random.default_rng(0))
    judged = thin(dataset.val, JUDGED_IMAGES, np.random.default_rng(0))
    seconds, rates = 0.0, training.rate_coded if has_rates(graph) else 0.0
    spikes = 1.0 - rates + (FINE_TUNING_SHARE if has_few_bits(graph) else 0.0)
    for share, epochs, rate_coded in ((spikes, 2, 0.0), (rates, 3, 0.7)):
        if share:
            config = replace(training, epochs=epochs, batch_size=batch, rate_coded=rate_coded)
            seconds += share * train(graph, few, judged, config, teacher=teacher, stop_after=2).curve[-1].seconds
    return seconds / len(few) * _seen(dataset)


def _seen(dataset: Dataset) -> float:
    """Images of an epoch, those that are only judged as a share of one."""
    return len(dataset.train) + FORWARD * len(dataset.val)


FINE_TUNING_SHARE = 1 / 10
"""of the epochs of a training, for which weights of few bits are trained on, rounded"""
PACE_IMAGES, JUDGED_IMAGES = 3000, 100
FORWARD = 1 / 3
"""of the time of a training step, what judging an image takes"""


def suitable_epochs(images: int) -> int:
    """Epochs that show a network about IMAGES_SHOWN images.

    >>> suitable_epochs(1294), suitable_epochs(10_000), suitable_epochs(45_000)
    (60, 10, 3)
    """
    return max(EPOCHS_LEAST, min(EPOCHS_MOST, IMAGES_SHOWN // images))


class EventWriter(Protocol):
    """torch's SummaryWriter, as far as it is used."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def close(self) -> None: ...


SCALARS: Sequence[str] = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("spike_rate", "samples_per_s"),
)


def _event_writer(path: Path) -> EventWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingTool("--tensorboard needs that package: pip install tensorboard") from error
    writer: EventWriter = SummaryWriter(str(path))
    return writer


def _write_events(writer: EventWriter, stats: EpochStats) -> None:
    for name in SCALARS:
        writer.add_scalar(name, getattr(stats, name), stats.epoch)
