"""What a training tells on its way, and what it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from spikenas.model import Model


@dataclass(frozen=True, slots=True)
class EpochStats:
    """One point of the learning curve; accuracies 0 to 1, ``spike_rate`` per neuron and step while training.

    ``silent``: the neurons that never fired in the epoch. ``on_rates``: whether neurons exchanged rates, in training
    and validation (:mod:`spikenas.snn.training_run`).
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    spike_rate: float
    seconds: float
    samples_per_s: float
    silent: tuple[str, ...] = ()
    on_rates: bool = False


@dataclass(frozen=True, slots=True)
class BatchStats:
    """For a progress bar: where the training is, and the running figures of this epoch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float
    spike_rate: float
    samples_per_s: float
    eta_s: float


@dataclass(frozen=True, eq=False)
class TrainState:
    """All that a training needs to go on after ``epoch`` epochs as if it had never stopped; arrays and numbers only.

    ``arrays``: ``weights.X``, ``best.X`` and ``average.X`` for the arrays X of a network, ``optimizer.P.key`` for
    each parameter P, ``random.data`` and ``random.network`` the generators' states. ``rate_scale``: by what the
    learning rate is multiplied since the training last fell back.
    """

    epoch: int
    arrays: Mapping[str, npt.NDArray[Any]]
    curve: tuple[EpochStats, ...]
    rate_scale: float = 1.0


@dataclass(frozen=True, eq=False)
class TrainResult:
    """``model``: the weights after epoch ``best`` (see :func:`best_epoch`); ``state``: the last ones, to go on from."""

    model: Model
    best: EpochStats
    curve: tuple[EpochStats, ...]
    state: TrainState


def comparable(curve: Sequence[EpochStats]) -> list[EpochStats]:
    """The epochs of spikes, or all while there are none: accuracies on rates are another network's."""
    return [stats for stats in curve if not stats.on_rates] or list(curve)


def best_epoch(curve: Sequence[EpochStats], val_images: int) -> EpochStats:
    """The last :func:`comparable` epoch whose validation accuracy is within one standard error of the highest.

    On few images the highest is often luck, and the later an epoch, the lower the learning rate it ended with: on
    scikit-learn's digits the last such epoch was 0.6 points better in test than the first highest one.
    The error is that of a proportion with two right and two wrong answers added (Agresti and Coull, The American
    Statistician 52, 1998), so that it is never 0.
    """
    compared = comparable(curve)
    highest = max(stats.val_accuracy for stats in compared)
    share = (highest * val_images + 2) / (val_images + 4)
    error = math.sqrt(share * (1 - share) / (val_images + 4))
    return [stats for stats in compared if stats.val_accuracy >= highest - error][-1]
