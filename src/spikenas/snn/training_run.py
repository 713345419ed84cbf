"""A training under way: the network, its optimizer and its random numbers, one epoch at a time.

The first epochs are of rates. For a still image most of a spiking network's work is done again at every step, on
spikes that tell the same thing. There every neuron integrates the mean of its input for all timesteps and passes on the
mean of its spikes, so that convolutions and norms are computed once; the surrogate gradient goes back through the steps
as ever. With one layer of neurons that is the same network; with more it leaves out that spikes come one after the
other, to which the last epochs, of spikes, get the weights used. It is what Rathi et al. (arXiv 2005.01807) do with a
rectified network that is converted to a spiking one, without the conversion: weights, norms and neurons are the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.snn.augment import augmented, parse_augment
from spikenas.snn.distributed import Workers
from spikenas.snn.evaluate import evaluate, neurons
from spikenas.snn.hardware import autocast, device_of, uses_bfloat16
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult, TrainState, best_epoch
from spikenas.snn.network import Network, load_weights, named_parameters, normalize, state_tensors, to_model
from spikenas.snn.objective import loss, mixed
from spikenas.snn.optimizers import OPTIMIZERS, parameter_groups
from spikenas.snn.teacher import Teacher
from spikenas.snn.train_config import TrainConfig, learning_rate_at

Arrays = dict[str, npt.NDArray[Any]]
MOMENTUM = 0.1
"""of the norms' running statistics, once there were enough batches: torch's own default"""
SILENT_EPOCHS = 3
"""after which a neuron that never fired is not expected to"""


def has_rates(graph: Graph) -> bool:
    """Whether rates can stand for spikes: every step is of the same input, none reads the one before, and there are
    several."""
    return graph.timesteps > 1 and graph.input in graph.static and not graph.has_feedback


def rate_epochs(graph: Graph, config: TrainConfig) -> int:
    """How many epochs, the first, are of rates: all only where a share of 1 says so, since a network is to get used to
    spikes."""
    return int(config.rate_coded * config.epochs) if has_rates(graph) else 0


class Unsound(Exception):
    """The training went wrong at a node and step, which the message names."""


class TrainingRun:
    """See :func:`spikenas.snn.train.train`, which drives it."""

    def __init__(
        self,
        graph: Graph,
        train_split: Split,
        val_split: Split,
        config: TrainConfig,
        start: Model | None,
        build: Callable[..., Network] = Network,
        teacher: Model | None = None,
    ):
        self.config, self.val_split, self.build = config, val_split, build
        self.workers, self.device = Workers(), device_of(config)
        self.bfloat16 = uses_bfloat16(graph, config, self.device)
        self.network = self._new_network(graph if start is None else start.graph)
        if start is not None:
            load_weights(self.network, start)
        self.network.to(self.device)
        self.rate_epochs = rate_epochs(graph, config)
        self.rate_coded, self.step = self._twin(self.network), Stepper(self.network)
        self.stepper = self.workers.wrap(self.step, self.device)
        self.batches = math.ceil(len(train_split) / config.batch_of(len(train_split)))
        self.optimizer = OPTIMIZERS[config.optimizer](parameter_groups(self.network, config, self.batches))
        self.generator = torch.Generator().manual_seed(config.seed)
        self.pixels = torch.from_numpy(train_split.images).to(self.device)
        self.labels = torch.from_numpy(train_split.labels).to(self.device)
        self.teacher = None if teacher is None else Teacher(teacher, config, self.device)
        channels, height, width = train_split.images.shape[-3:]
        self.augment = parse_augment(config.augment, (channels, height, width))
        self.neurons = neurons(graph)
        self.average = _copied(self.network) if config.average else None
        self.judged = self._new_network(self.network.graph).to(self.device) if config.average else self.network
        self.judged_on_rates = self._twin(self.judged)
        self.best = _arrays(self.network)
        self.curve: tuple[EpochStats, ...] = ()
        self.rate_scale = 1.0

    @property
    def epoch(self) -> int:
        return len(self.curve)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the last ``patience`` of them, all of spikes, brought nothing."""
        accuracies = [stats.val_accuracy for stats in self.curve if not stats.on_rates]
        if 0 < self.config.patience < len(accuracies):
            before, after = accuracies[: -self.config.patience], accuracies[-self.config.patience :]
            if max(after) <= max(before):
                return True
        return self.epoch >= self.config.epochs

    def one_epoch(self, on_batch: Callable[[BatchStats], None] | None) -> EpochStats:
        """Raises Unsound when the loss is no number, or a neuron has stopped firing."""
        epoch, begun, on_rates = self.epoch + 1, time.perf_counter(), self.epoch < self.rate_epochs
        self.network.train()
        self.step.network = self.rate_coded if on_rates else self.network
        order = torch.randperm(len(self.labels), generator=self.generator)
        totals = np.zeros(3)  # images seen, loss, right answers
        fired = dict.fromkeys(self.neurons, 0.0)
        # Batches of nearly equal size: a last one of a single image could not be normalized.
        for batch, index in enumerate(torch.tensor_split(order, self.batches), start=1):
            value, correct, counts, size = self._one_batch(epoch, batch, index)
            totals += size, value * size, correct
            fired = {name: fired[name] + counts[name] for name in fired}
            if on_batch is not None:
                on_batch(self._batch_stats(epoch, batch, totals, fired, time.perf_counter() - begun))
        totals, fired = self.workers.summed(totals), self.workers.summed_dict(fired)
        seen, seconds = totals[0], time.perf_counter() - begun
        silent = tuple(name for name, count in fired.items() if not count)
        self._check_firing(epoch, silent)
        if self.average is not None:
            _load(self.judged, self.average)
        with autocast(self.device, self.bfloat16):
            judged = evaluate(self.judged_on_rates if on_rates else self.judged, self.val_split)
        stats = EpochStats(
            epoch=epoch,
            train_loss=float(totals[1] / seen),
            train_accuracy=float(totals[2] / seen),
            val_loss=judged.loss,
            val_accuracy=judged.accuracy,
            spike_rate=self._rate(fired, seen),
            seconds=seconds,
            samples_per_s=float(seen / seconds),
            silent=silent,
            on_rates=on_rates,
        )
        self.curve = (*self.curve, stats)
        if best_epoch(self.curve, len(self.val_split)) is stats:
            self.best = _arrays(self.judged)
        return stats

    def _one_batch(self, epoch: int, batch: int, index: Tensor) -> tuple[float, int, dict[str, float], int]:
        """One step of the optimizer: mean loss, right answers, spikes by Lif, images."""
        config, step = self.config, (epoch - 1) * self.batches + batch - 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate_scale * learning_rate_at(step, config.epochs * self.batches, config)
        self._set_momentum(step)
        index = index.to(self.device)
        pixels = augmented(self.pixels[index], self.augment, self.generator)
        mine = self.workers.share(len(index))
        images, targets = mixed(normalize(pixels[mine]), self.labels[index][mine], config, step)
        if self.teacher is not None:
            targets = replace(targets, taught=self.teacher(images))
        with autocast(self.device, self.bfloat16):
            outputs, counts = self.stepper(images)
        outputs = outputs.float()
        total = loss(outputs, targets, config)
        if config.rate_penalty and counts:
            rates = [count / (self._sites(name) * len(images)) for name, count in counts.items()]
            total = total + config.rate_penalty * torch.stack(rates).mean().float()
        value = float(total.detach())
        if not math.isfinite(value):
            raise Unsound(f"the loss is {value} in epoch {epoch}, batch {batch}: {self._first_not_a_number(images)}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        if self.average is not None:
            self._move_average(step)
        correct = (outputs.detach().mean(0).argmax(1) == targets.labels).sum()
        # All at once: what a GPU is asked one by one it is waited for as often.
        right, *fired = torch.stack([correct.double(), *(count.detach() for count in counts.values())]).tolist()
        return value, int(right), dict(zip(counts, fired, strict=True)), len(images)

    def _sites(self, name: str) -> int:
        return self.neurons[name] * self.step.network.graph.inference_steps

    def _set_momentum(self, step: int) -> None:
        """Running statistics are the mean of all batches while these are few: no trace of where they began."""
        if step >= 1 / MOMENTUM:
            return
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1 / (step + 1)

    def _rate(self, fired: Mapping[str, float], images: float) -> float:
        return sum(fired.values()) / max(1.0, images * sum(map(self._sites, self.neurons)))

    def _batch_stats(
        self, epoch: int, batch: int, totals: npt.NDArray[np.float64], fired: Mapping[str, float], seconds: float
    ) -> BatchStats:
        seen, images = totals[0], len(self.labels) / self.workers.count
        speed = float(seen / seconds)
        rates, spikes = max(0, self.rate_epochs - epoch + 1), self.config.epochs - max(self.rate_epochs, epoch - 1)
        slower = (1 + self.network.graph.timesteps) / 2 if rates else 1.0  # what an epoch of spikes is, roughly
        left = images * (rates + slower * spikes) - seen
        return BatchStats(
            *(epoch, self.config.epochs, batch, self.batches, float(totals[1] / seen), float(totals[2] / seen)),
            *(self._rate(fired, seen), speed * self.workers.count, float(left / speed)),
        )

    def _check_firing(self, epoch: int, silent: tuple[str, ...]) -> None:
        for name in silent:
            if self.curve and name not in self.curve[-1].silent:
                raise Unsound(f"neuron '{name}' stopped firing in epoch {epoch}")
            if epoch == SILENT_EPOCHS:
                raise TrainError(
                    f"neuron '{name}' did not fire once in {epoch} epochs: what it reads is too weak for its "
                    "threshold; train longer at another learning rate, or choose another genotype"
                )

    def _first_not_a_number(self, images: Tensor) -> str:
        """Where in the network, and at which timestep, the numbers end."""
        with torch.no_grad():
            for name, value in self.network.trace(images).items():
                finite = value.flatten(1).isfinite().all(1)
                if not finite.all():
                    return f"node '{name}' is no number at timestep {int(finite.int().argmin())}"
        return "its own sum is no number"

    def _move_average(self, step: int) -> None:
        """``average += (1 - decay) (weights - average)``, faster at first, when there is little to average."""
        assert self.average is not None
        decay = min(self.config.average, (1.0 + step) / (10.0 + step))
        for name, tensor in state_tensors(self.network).items():
            self.average[name].lerp_(tensor, 1.0 - decay)

    def _new_network(self, graph: Graph) -> Network:
        c = self.config
        return self.build(graph, neuron=c.neuron, dropout=c.dropout, learn_decay=c.learn_decay, seed=c.seed)

    def _twin(self, network: Network) -> Network:
        """What stands for ``network`` in the epochs on rates, where there are any."""
        return network.on_rates() if self.rate_epochs else network

    # --- out and in again ---------------------------------------------------------------------------------

    def state(self) -> TrainState:
        """All that there is to know, copied."""
        arrays: Arrays = {
            "random.data": self.generator.get_state().numpy().copy(),
            "random.network": self.network.generator.get_state().numpy().copy(),
        }
        arrays |= {f"weights.{name}": array for name, array in _arrays(self.network).items()}
        arrays |= {f"best.{name}": array for name, array in self.best.items()}
        if self.average is not None:
            arrays |= {f"average.{name}": tensor.cpu().numpy().copy() for name, tensor in self.average.items()}
        for name, parameter in named_parameters(self.network).items():
            for key, tensor in self.optimizer.state[parameter].items():
                arrays[f"optimizer.{name}.{key}"] = tensor.cpu().numpy().copy()
        return TrainState(self.epoch, arrays, self.curve, self.rate_scale)

    def restore(self, state: TrainState) -> None:
        """Become what ``state`` was taken from. Raises TrainError when it is another network's."""
        arrays = {name: np.array(array) for name, array in state.arrays.items()}
        weights, expected = _below("weights.", arrays), _arrays(self.network)
        if {n: a.shape for n, a in weights.items()} != {n: a.shape for n, a in expected.items()}:
            raise TrainError("the checkpoint is another network's: go on with the genotype it was made with")
        _load(self.network, {name: torch.from_numpy(array) for name, array in weights.items()})
        self.best = _below("best.", arrays)
        if self.average is not None:
            self.average = {n: torch.from_numpy(a).to(self.device) for n, a in _below("average.", arrays).items()}
        for name, parameter in named_parameters(self.network).items():
            moments = _below(f"optimizer.{name}.", arrays)
            self.optimizer.state[parameter] = {key: _laid_out(array, parameter) for key, array in moments.items()}
        self.generator.set_state(torch.from_numpy(arrays["random.data"]))
        self.network.generator.set_state(torch.from_numpy(arrays["random.network"]))
        self.curve, self.rate_scale = state.curve, state.rate_scale

    def result(self) -> TrainResult:
        """The weights of the best epoch; this run's own are as they were afterwards."""
        best = self._new_network(self.network.graph)
        _load(best, {name: torch.from_numpy(array) for name, array in self.best.items()})
        return TrainResult(to_model(best), best_epoch(self.curve, len(self.val_split)), self.curve, self.state())


class Stepper(nn.Module):
    """The forward pass of a training step, as a module of its own for torch's DistributedDataParallel.

    ``network`` may be exchanged for another of the same modules.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.network.steps_with_spikes(images)


def _arrays(network: Network) -> Arrays:
    return {name: tensor.cpu().numpy().copy() for name, tensor in state_tensors(network).items()}


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state_tensors(network).items()}


def _load(network: Network, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in state_tensors(network).items():
        tensor.copy_(tensors[name])


def _below(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _laid_out(array: npt.NDArray[Any], parameter: Tensor) -> Tensor:
    """A moment in its parameter's memory layout, which the fused optimizers take for granted."""
    tensor = torch.from_numpy(array)
    return torch.empty_like(parameter.detach()).copy_(tensor) if tensor.shape == parameter.shape else tensor
