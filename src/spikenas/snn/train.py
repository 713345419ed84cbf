"""The training loop: cross-entropy on the mean output, a warm-up and a cosine, the best epoch on validation kept.

The test split is no argument of anything here. The same seed, threads and data give the same weights on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.snn.augment import augmented, parse_augment
from spikenas.snn.evaluate import check_split, evaluate, neurons
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult, TrainState, best_epoch
from spikenas.snn.network import Network, load_weights, named_parameters, normalize, to_model
from spikenas.snn.train_config import OPTIMIZERS, TrainConfig, learning_rate_at, parameter_groups

__all__ = ["BatchStats", "EpochStats", "TrainConfig", "TrainResult", "TrainState", "best_epoch", "train"]


def train(
    graph: Graph,
    train_split: Split,
    val_split: Split,
    config: TrainConfig,
    *,
    start: Model | None = None,
    resume: TrainState | None = None,
    stop_after: int | None = None,
    on_epoch: Callable[[EpochStats], None] | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
    on_state: Callable[[TrainState], None] | None = None,
) -> TrainResult:
    """Train a network of ``graph``, from fresh weights, from those of ``start``, or on from ``resume``.

    ``stop_after`` ends after that many epochs of the schedule, to be resumed. ``on_state`` is given the state after
    each epoch; what it keeps stays valid whatever happens next. Callbacks may raise: nothing is left half done.
    Raises TrainError when the splits do not fit the graph, the loss is not finite, or ``resume`` is another graph's.
    """
    for split in (train_split, val_split):
        check_split(graph, split)
    if len(train_split) < 2:
        raise TrainError("1 training image: at least 2 are needed to normalize a batch")
    with _threads(config.threads or _threads_for(graph, config)):
        run = _Run(graph, train_split, val_split, config, start)
        if resume is not None:
            run.restore(resume)
        for epoch in range(run.epoch + 1, min(config.epochs, stop_after or config.epochs) + 1):
            stats = run.one_epoch(epoch, on_batch)
            if on_epoch is not None:
                on_epoch(stats)
            if on_state is not None:
                on_state(run.state())
        return run.result()


class _Run:
    """A training under way: the network, its optimizer and its random numbers."""

    def __init__(self, graph: Graph, train_split: Split, val_split: Split, config: TrainConfig, start: Model | None):
        self.config, self.val_split = config, val_split
        self.network = Network(graph, neuron=config.neuron, dropout=config.dropout, seed=config.seed)
        if start is not None:
            load_weights(self.network, start)
        self.optimizer = OPTIMIZERS[config.optimizer](parameter_groups(self.network, config))
        self.generator = torch.Generator().manual_seed(config.seed)
        self.pixels, self.labels = torch.from_numpy(train_split.images), torch.from_numpy(train_split.labels)
        channels, height, width = train_split.images.shape[1:]
        self.augment = parse_augment(config.augment, (channels, height, width))
        self.neurons = neurons(graph)
        self.batches = math.ceil(len(train_split) / config.batch_size)
        self.best = to_model(self.network)
        self.curve: tuple[EpochStats, ...] = ()

    @property
    def epoch(self) -> int:
        return len(self.curve)

    def one_epoch(self, epoch: int, on_batch: Callable[[BatchStats], None] | None) -> EpochStats:
        begun = time.perf_counter()
        self.network.train()
        order = torch.randperm(len(self.labels), generator=self.generator)
        seen, loss_sum, hits, rate_sum = 0, 0.0, 0, 0.0
        # Batches of nearly equal size: a last one of a single image could not be normalized.
        for batch, index in enumerate(torch.tensor_split(order, self.batches), start=1):
            loss, correct, rate = self._one_batch(epoch, batch, index)
            seen, loss_sum, hits = seen + len(index), loss_sum + loss * len(index), hits + correct
            rate_sum += rate * len(index)
            if on_batch is not None:
                speed = seen / (time.perf_counter() - begun)
                left = len(self.labels) * (self.config.epochs - epoch + 1) - seen
                figures = (loss_sum / seen, hits / seen, rate_sum / seen, speed, left / speed)
                on_batch(BatchStats(epoch, self.config.epochs, batch, self.batches, *figures))
        seconds = time.perf_counter() - begun
        judged = evaluate(self.network, self.val_split)
        stats = EpochStats(
            epoch=epoch,
            train_loss=loss_sum / seen,
            train_accuracy=hits / seen,
            val_loss=judged.loss,
            val_accuracy=judged.accuracy,
            spike_rate=rate_sum / seen,
            seconds=seconds,
            samples_per_s=seen / seconds,
        )
        self.curve = (*self.curve, stats)
        if best_epoch(self.curve, len(self.val_split)) is stats:
            self.best = to_model(self.network)
        return stats

    def _one_batch(self, epoch: int, batch: int, index: Tensor) -> tuple[float, int, float]:
        """One step of the optimizer: mean loss, right answers, spike rate."""
        config = self.config
        step = (epoch - 1) * self.batches + batch - 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config.epochs * self.batches, config)
        labels = self.labels[index]
        images = normalize(augmented(self.pixels[index], self.augment, self.generator))
        logits, rates = self.network.forward_with_rates(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        if config.rate_penalty and rates:
            loss = loss + config.rate_penalty * torch.stack(list(rates.values())).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainError(
                f"the loss is {value} in epoch {epoch}, batch {batch}: train again with a learning rate below "
                f"{config.learning_rate:g}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        total = sum(float(rate.detach()) * self.neurons[name] for name, rate in rates.items())
        correct = int((logits.detach().argmax(1) == labels).sum())
        return value, correct, total / max(1, sum(self.neurons.values()))

    def state(self) -> TrainState:
        arrays: dict[str, npt.NDArray[Any]] = {
            "random.data": self.generator.get_state().numpy().copy(),
            "random.network": self.network.generator.get_state().numpy().copy(),
        }
        arrays |= {f"weights.{name}": array for name, array in to_model(self.network).weights.items()}
        arrays |= {f"best.{name}": array for name, array in self.best.weights.items()}
        for name, parameter in named_parameters(self.network).items():
            for key, tensor in self.optimizer.state[parameter].items():
                arrays[f"optimizer.{name}.{key}"] = tensor.numpy().copy()
        return TrainState(self.epoch, arrays, self.curve)

    def restore(self, state: TrainState) -> None:
        """Become what ``state`` was taken from."""
        arrays = {name: np.array(array) for name, array in state.arrays.items()}
        graph = self.network.graph
        load_weights(self.network, Model(graph, _below("weights.", arrays)))
        self.best = Model(graph, _below("best.", arrays))
        for name, parameter in named_parameters(self.network).items():
            moments = _below(f"optimizer.{name}.", arrays)
            self.optimizer.state[parameter] = {key: _laid_out(array, parameter) for key, array in moments.items()}
        self.generator.set_state(torch.from_numpy(arrays["random.data"]))
        self.network.generator.set_state(torch.from_numpy(arrays["random.network"]))
        self.curve = state.curve

    def result(self) -> TrainResult:
        best = best_epoch(self.curve, len(self.val_split))
        return TrainResult(self.best, best, self.curve, self.state())


def _below(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _laid_out(array: npt.NDArray[Any], parameter: Tensor) -> Tensor:
    """A moment in its parameter's memory layout, which the fused optimizers take for granted."""
    tensor = torch.from_numpy(array)
    return torch.empty_like(parameter.detach()).copy_(tensor) if tensor.shape == parameter.shape else tensor


SMALL_WORK = 2**24
"""values per batch up to which a second thread gains little, and waits long when the machine is busy elsewhere"""


def _threads_for(graph: Graph, config: TrainConfig) -> int:
    values = sum(math.prod(shape) for shape in graph.shapes.values()) * graph.timesteps * config.batch_size
    return 1 if values <= SMALL_WORK else torch.get_num_threads()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
