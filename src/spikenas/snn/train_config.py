"""How to train: the settings, the schedule and the optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from spikenas.errors import TrainError
from spikenas.snn.network import Network, named_parameters


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train; the defaults suit small images and networks of some 10,000 weights.

    ``optimizer`` is ``adamw`` or ``sgd`` (Nesterov momentum 0.9); ``weight_decay`` acts on weights, not on biases or
    norms; ``augment`` see :func:`spikenas.snn.augment.parse_augment`; ``rate_penalty`` times the mean spike rate of
    the Lif nodes is added to the loss; ``clip`` bounds the gradient's norm (0: not at all); ``warmup`` is the share
    of all steps in which the rate rises; ``threads`` 0 means 1 for small work, torch's number otherwise. Raises
    TrainError for other values.
    """

    epochs: int = 50
    batch_size: int = 64
    learning_rate: float = 2e-2
    weight_decay: float = 1e-2
    optimizer: str = "adamw"
    label_smoothing: float = 0.1
    augment: str = "auto"
    dropout: float = 0.0
    rate_penalty: float = 0.0
    clip: float = 1.0
    warmup: float = 0.1
    threads: int = 0
    neuron: str = "fused"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise TrainError(f"{name} {value}: it must lie in {low}..{high}")
        if self.optimizer not in OPTIMIZERS:
            raise TrainError(f"optimizer {self.optimizer!r} is unknown: choose {' or '.join(OPTIMIZERS)}")


_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (2, 2**20),
    "learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.99),
    "dropout": (0, 0.99),
    "rate_penalty": (0, 1e6),
    "clip": (0, 1e9),
    "warmup": (0, 1),
    "threads": (0, 4096),
    "seed": (0, 2**63 - 1),
}


def learning_rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """A linear rise over the first ``warmup`` share of the steps, then half a cosine down to 0."""
    rise = max(1, round(config.warmup * steps))
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True)


def _sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {"adamw": _adamw, "sgd": _sgd}


def parameter_groups(network: Network, config: TrainConfig) -> list[dict[str, Any]]:
    """Weights, which decay, and the per-channel numbers, which do not."""
    parameters = list(named_parameters(network).values())
    return [
        {
            "params": [p for p in parameters if (p.dim() > 1) is decays],
            "lr": config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
