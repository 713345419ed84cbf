"""A teacher, in a run's folder: trained before the network that learns from it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from spikenas.data.datasets import Dataset
from spikenas.errors import ModelError, RunError
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.run.artifacts import load_model, save_model
from spikenas.run.folder import RunFolder
from spikenas.run.train_stage import TrainObserver
from spikenas.run.training_store import begun_training, save_training
from spikenas.snn.learning_curve import BatchStats, TrainState
from spikenas.snn.teacher import teacher_config, teacher_graph
from spikenas.snn.train import train
from spikenas.snn.train_config import TrainConfig


def train_teacher(
    folder: RunFolder, dataset: Dataset, training: TrainConfig, epochs: int, observer: TrainObserver
) -> Model | None:
    """A teacher of so many epochs, None of 0, for a pupil that is trained so.

    From the folder where it is there; a teacher's training that was stopped goes on. Raises TrainError and RunError.
    """
    if not epochs or folder.teacher.exists():
        return load_teacher(folder, dataset)
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
    save_model(folder.teacher, result.model)
    with suppress(OSError):
        folder.teacher_training.unlink()
    return result.model


def follow_teacher(folder: RunFolder, dataset: Dataset, training: TrainConfig, epochs: int) -> Model | None:
    """What every process of torchrun but the first does, which alone keeps the results."""
    if not epochs or folder.teacher.exists():
        return load_teacher(folder, dataset)
    graph, config = _teacher(dataset, training, epochs)
    resume = begun_training(folder.teacher_training, graph, config)
    return train(graph, dataset.train, dataset.val, config, resume=resume).model


def load_teacher(folder: RunFolder, dataset: Dataset) -> Model | None:
    """The run's teacher, if there was one. Raises RunError where it is damaged, or another dataset's."""
    if not folder.teacher.exists():
        return None
    try:
        model = load_model(folder.teacher)
    except ModelError as error:
        raise RunError(f"{error}; or remove it to train a teacher anew") from error
    if model.graph != teacher_graph(dataset.input_shape, dataset.classes):
        raise RunError(f"{folder.teacher}: a teacher of other images; remove it to train anew")
    return model


def _teacher(dataset: Dataset, training: TrainConfig, epochs: int) -> tuple[Graph, TrainConfig]:
    """The teacher, and how it is trained."""
    return teacher_graph(dataset.input_shape, dataset.classes), teacher_config(training, epochs)
