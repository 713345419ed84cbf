"""The optimizers that :class:`spikenas.snn.train_config.TrainConfig` names, and what they act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spikenas.snn.muon import Muon
from spikenas.snn.network import Network, named_parameters
from spikenas.snn.train_config import TrainConfig


def _adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True)


def _muon(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return Muon(groups, fused=True)


def _sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "muon": _muon,
    "adamw": _adamw,
    "sgd": _sgd,
}


def parameter_groups(network: Network, config: TrainConfig, batches: int) -> list[dict[str, Any]]:
    """Weights, which decay, and the per-channel numbers, which do not; ``batches`` of an epoch."""
    parameters = list(named_parameters(network).values())
    return [
        {
            "params": [p for p in parameters if (p.dim() > 1) is decays],
            "lr": config.learning_rate,
            "weight_decay": config.decay_of(batches) if decays else 0.0,
        }
        for decays in (True, False)
    ]
