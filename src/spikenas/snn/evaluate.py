"""How good a network is, and how busy its neurons are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import Graph, Lif
from spikenas.snn.network import Network, normalize

BATCH_SIZE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Figures over a whole split.

    ``accuracy`` 0 to 1; ``loss`` the mean cross-entropy; ``predictions`` int64 [N]; ``spike_rates``: spikes per
    neuron and step by Lif node, ``spike_rate`` over all neurons; ``spike_counts``: spikes of all images, exact.
    """

    accuracy: float
    loss: float
    predictions: npt.NDArray[np.int64]
    spike_rate: float
    spike_rates: Mapping[str, float]
    spike_counts: Mapping[str, int]


def evaluate(network: Network, split: Split, *, batch_size: int = BATCH_SIZE) -> Evaluation:
    """Run ``network`` in evaluation mode over ``split``; its mode is put back afterwards.

    Raises TrainError when the split's images or labels do not fit the network.
    """
    check_split(network.graph, split)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return _evaluate(network, split, batch_size)
    finally:
        network.train(training)


def _evaluate(network: Network, split: Split, batch_size: int) -> Evaluation:
    device = next(network.parameters()).device
    logits: list[torch.Tensor] = []
    counts: dict[str, int] = {}
    for start in range(0, len(split), batch_size):
        pixels = torch.from_numpy(split.images[start : start + batch_size]).to(device)
        batch_logits, batch_counts = network.forward_with_counts(normalize(pixels))
        logits.append(batch_logits.float().cpu())
        counts = {name: counts.get(name, 0) + count for name, count in batch_counts.items()}
    return evaluation_of(network.graph, split, torch.cat(logits), counts)


def evaluation_of(graph: Graph, split: Split, logits: torch.Tensor, counts: Mapping[str, int]) -> Evaluation:
    """The figures of ``logits`` [N, classes] on the CPU and the ``counts`` of all spikes by Lif."""
    labels = torch.from_numpy(split.labels)
    predictions = logits.argmax(1)
    sites = {name: count * graph.inference_steps * len(split) for name, count in neurons(graph).items()}
    return Evaluation(
        accuracy=float((predictions == labels).double().mean()),
        loss=float(functional.cross_entropy(logits, labels)),
        predictions=predictions.numpy(),
        spike_rate=sum(counts.values()) / max(1, sum(sites.values())),
        spike_rates={name: counts[name] / sites[name] for name in counts},
        spike_counts=counts,
    )


def neurons(graph: Graph) -> dict[str, int]:
    """The number of neurons of each Lif node."""
    return {node.name: prod(graph.shapes[node.name]) for node in graph.nodes if isinstance(node.layer, Lif)}


def check_split(graph: Graph, split: Split) -> None:
    """Raise TrainError unless the images have the Input's shape and every label names one of the outputs."""
    if split.images.shape[1:] != graph.sample_shape:
        shape = "x".join(map(str, split.images.shape[1:]))
        wanted = "x".join(map(str, graph.sample_shape))
        raise TrainError(f"images are {shape}, the network takes {wanted}: use the data it was made for")
    classes = graph.shapes[graph.output][0]
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise TrainError(f"label {bad} is outside the network's {classes} classes 0..{classes - 1}: relabel the data")
