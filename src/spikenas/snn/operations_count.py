"""Exact numbers of spikes and of the additions that they cause, counted on images instead of estimated from rates.

The same pass over the images tells how good the network is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikenas.data.split import Split
from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, Kind, Lif, Linear
from spikenas.snn.evaluate import BATCH_SIZE, Evaluation, check_split, evaluation_of
from spikenas.snn.network import Network, normalize


@dataclass(frozen=True, slots=True)
class OperationsCount:
    """Over all images: ``spikes`` by Lif node, ``synops`` by the Conv2d or Linear that makes the additions; and the
    ``evaluation`` that :func:`spikenas.snn.evaluate.evaluate` gives."""

    spikes: dict[str, int]
    synops: dict[str, int]
    evaluation: Evaluation


def count_operations(
    network: Network, split: Split, *, batch_size: int = BATCH_SIZE, on_batch: Callable[[int], None] | None = None
) -> OperationsCount:
    """Run ``network`` in evaluation mode over ``split``, and count.

    A spike at the border of a map reaches fewer outputs than one in its middle, and a pooled spike is added by every
    window that it lies in. ``on_batch`` is told how many images are done. Raises TrainError for images of another kind.
    """
    check_split(network.graph, split)
    graph, training = network.graph, network.training
    lifs = [node.name for node in graph.nodes if isinstance(node.layer, Lif)]
    maps = {name: torch.zeros(graph.timesteps, *graph.shapes[name], dtype=torch.float64) for name in lifs}
    logits: list[Tensor] = []
    network.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(split), batch_size):
                pixels = torch.from_numpy(split.images[start : start + batch_size])
                logits.append(_add_spikes(network, pixels, maps).float().cpu())
                if on_batch is not None:
                    on_batch(min(start + batch_size, len(split)))
    finally:
        network.train(training)
    spikes = {name: int(found.sum()) for name, found in maps.items()}
    return OperationsCount(spikes, _synops(graph, maps), evaluation_of(graph, split, torch.cat(logits), spikes))


def _add_spikes(network: Network, pixels: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """The logits of a batch; each Lif's spikes on it, [T, C, H, W] or [T, C], are added to its map."""
    steps = dict.fromkeys(maps, 0)

    def watch(name: str, value: Tensor) -> None:
        if name in maps:
            maps[name][steps[name] : steps[name] + len(value)] += value.sum(1, dtype=torch.float64)
            steps[name] += len(value)

    return network.steps(normalize(pixels.to(next(network.parameters()).device)), watch).mean(0)


def _synops(graph: Graph, maps: dict[str, Tensor]) -> dict[str, int]:
    """What flows through pools, sums and flattenings is linear in the spikes, so maps of counts suffice."""
    counts = dict(maps)
    synops: dict[str, int] = {}
    for node in graph.nodes:
        sources = graph.sources[node.name]
        if node.name in counts or not sources or any(edge.source not in counts for edge in sources):
            continue
        inputs = [_delayed(counts[edge.source]) if edge.delay else counts[edge.source] for edge in sources]
        match node.layer:
            case Conv2d() | Linear() as layer:
                synops[node.name] = round(float(_additions(inputs[0], layer)))
            case AvgPool2d() as pool if graph.kinds[node.name] is not Kind.CURRENT:
                size = pool.kernel_size[0] * pool.kernel_size[1]
                counts[node.name] = size * functional.avg_pool2d(inputs[0], pool.kernel_size, pool.stride, pool.padding)
            case Add():
                counts[node.name] = sum(inputs[1:], start=inputs[0])
            case Flatten():
                counts[node.name] = inputs[0].flatten(1)
            case _:
                pass
    return synops


def _additions(spikes: Tensor, layer: Conv2d | Linear) -> Tensor:
    """Additions that the spikes [T, C, ...] cause: each one goes to every output whose window it lies in."""
    if isinstance(layer, Linear):
        return spikes.sum() * layer.out_features
    ones = spikes.new_ones(1, 1, *layer.kernel_size)
    reached = functional.conv2d(spikes.sum((0, 1))[None, None], ones, None, layer.stride, layer.padding)
    return reached.sum() * (layer.out_channels // layer.groups)


def _delayed(spikes: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(spikes[:1]), spikes[:-1]))
