"""Size as a score: larger networks tend to be more accurate. The baselines that every other score has to beat."""

from __future__ import annotations

from math import prod

from spikenas.graph import Conv2d, Graph, Kind, Linear


def parameters(graph: Graph) -> float:
    """Trained numbers."""
    return float(graph.parameter_count)


def flops(graph: Graph) -> float:
    """Multiply-accumulates of one inference if every layer were dense: all connections, every step they are used."""
    return float(sum(count for _, count in _connections(graph)))


def synops(graph: Graph) -> float:
    """Connections that carry spikes, over all steps: the additions of one inference, up to the spike rate."""
    return float(sum(count for spiking, count in _connections(graph) if spiking))


def _connections(graph: Graph) -> list[tuple[bool, int]]:
    """For each layer of weights: whether spikes enter it, and its connections times the steps it is computed at."""
    counts: list[tuple[bool, int]] = []
    for node in graph.nodes:
        if isinstance(node.layer, Conv2d | Linear):
            weights = prod(graph.parameter_shapes[f"{node.name}.weight"])
            steps = 1 if node.name in graph.static else graph.timesteps
            source = graph.sources[node.name][0].source
            spiking = graph.kinds[source] in (Kind.SPIKES, Kind.COUNTS)
            counts.append((spiking, weights * prod(graph.shapes[node.name][1:]) * steps))
    return counts
