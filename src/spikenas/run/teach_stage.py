"""What a teacher makes of the training images, in a run's folder: learned before the network that learns from it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from spikenas.data.datasets import Dataset
from spikenas.errors import RunError
from spikenas.graph import Graph
from spikenas.run.artifacts import read_safetensors, write_bytes
from spikenas.run.folder import RunFolder
from spikenas.run.train_stage import TrainObserver
from spikenas.run.training_store import begun_training, save_training
from spikenas.snn.learning_curve import BatchStats, TrainState
from spikenas.snn.teacher import logits, teacher_config, teacher_graph
from spikenas.snn.train import train
from spikenas.snn.train_config import TrainConfig


def taught(folder: RunFolder, dataset: Dataset, training: TrainConfig, epochs: int, observer: TrainObserver) -> Dataset:
    """The dataset with what a teacher of so many epochs, 0 for none, makes of its training images.

    From the folder where it is there; a teacher's training that was stopped goes on. Raises TrainError and RunError.
    """
    if folder.teacher.exists() or not epochs:
        return with_teacher(folder, dataset)
    graph, config = _teacher(dataset, training, epochs)
    observer.message(f"first a teacher of {graph.parameter_count:,} weights, for no chip: {epochs} epochs")

    def keep(state: TrainState) -> None:
        save_training(folder.teacher_training, state, graph, config)

    def note(stats: BatchStats) -> None:
        observer.batch(replace(stats, spike_rate=0.0))  # it has no neurons that spike

    result = train(
        graph,
        dataset.train,
        dataset.val,
        config,
        resume=begun_training(folder.teacher_training, graph, config),
        on_epoch=observer.epoch,
        on_batch=note,
        on_state=keep,
        on_fallback=observer.message,
    )
    observer.message(f"the teacher: {100 * result.best.val_accuracy:.1f}% of the validation images")
    said = logits(result.model, dataset.train, config)
    write_bytes(folder.teacher, save({"logits": said}))
    with suppress(OSError):
        folder.teacher_training.unlink()
    return _with(dataset, said)


def follow_teacher(folder: RunFolder, dataset: Dataset, training: TrainConfig, epochs: int) -> Dataset:
    """What every process of torchrun but the first does, which alone keeps the results."""
    if folder.teacher.exists() or not epochs:
        return with_teacher(folder, dataset)
    graph, config = _teacher(dataset, training, epochs)
    resume = begun_training(folder.teacher_training, graph, config)
    result = train(graph, dataset.train, dataset.val, config, resume=resume)
    return _with(dataset, logits(result.model, dataset.train, config))


def with_teacher(folder: RunFolder, dataset: Dataset) -> Dataset:
    """The dataset with what the run's teacher makes of its training images, if there was one. Raises RunError."""
    if not folder.teacher.exists():
        return dataset
    try:
        (said,) = read_safetensors(folder.teacher)[1].values()
    except ValueError as error:
        raise RunError(f"{folder.teacher}: not what a teacher left ({error}); remove it to train anew") from error
    if said.shape != (len(dataset.train), dataset.classes) or said.dtype != np.float32:
        raise RunError(f"{folder.teacher}: a teacher's answers to other images; remove it to train anew")
    return _with(dataset, said)


def _with(dataset: Dataset, said: npt.NDArray[np.float32]) -> Dataset:
    return replace(dataset, train=replace(dataset.train, taught=said))


def _teacher(dataset: Dataset, training: TrainConfig, epochs: int) -> tuple[Graph, TrainConfig]:
    """The teacher, and how it is trained."""
    return teacher_graph(dataset.input_shape, dataset.classes), teacher_config(training, epochs)
