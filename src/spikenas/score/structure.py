"""Scores that read the graph alone: no weights, no data, no torch."""

from __future__ import annotations

from collections.abc import Callable
from math import log2, prod, sqrt

from spikenas.graph import Conv2d, Graph, Kind, Lif, Linear

DEPTH_WEIGHT = 3 / 2
RATE_WEIGHT, STEP_COST = 3 / 2, 1 / 16
WORK_WEIGHT = 1 / 8
NOISE_WEIGHT = 4.0
ROUNDING = 1.6


def spiking_depth(graph: Graph) -> int:
    """Layers of weights that are fed by spikes, counted along the path to the output that has most of them.

    Delayed edges do not count. Of the free predictors compared on SpikeNAS-Bench (Sun et al., IEEE TAI 2025) this
    one alone agrees best with test accuracy.
    """
    return round(_longest_path(graph, lambda name: float(_spiking(graph, name))))


def structure_score(graph: Graph) -> float:
    """How much a network of this structure may learn, in bits, roughly::

        log2(parameters) + 3/2 log2(1 + depth) - 3/2 / timesteps - timesteps / 16 - log2(work) / 8 - 4 noise

    Capacity and depth count in doublings. ``depth`` is :func:`spiking_depth`, but each layer counts for
    1 - 1 / sqrt(fan-in), because one that mixes little, such as a depthwise 1x1 convolution, adds little. A rate read
    off ``timesteps`` spikes has a variance that falls as 1 / timesteps, while each further step costs time and energy:
    4 are best where memory allows them. ``work`` is :func:`work`, a small price that settles ties. ``noise``
    (:func:`noise`) is added by every layer of neurons, so that in a deep network of thin layers signals drown, while
    in wide layers depth costs nothing.

    The constants are round numbers found on 60 random networks of space ``embedded`` trained on digits; they were not
    chosen on SpikeNAS-Bench.
    """
    steps = graph.timesteps
    depth = _longest_path(graph, lambda name: 1 - 1 / sqrt(_fan_in(graph, name)) if _spiking(graph, name) else 0.0)
    price = STEP_COST * steps + WORK_WEIGHT * log2(work(graph))
    capacity = log2(graph.parameter_count) + DEPTH_WEIGHT * log2(1 + depth)
    return capacity - RATE_WEIGHT / steps - price - NOISE_WEIGHT * noise(graph)


def work(graph: Graph) -> int:
    """Weights applied in one inference were every input a spike; layers that see only the image run once."""
    layers = [node.name for node in graph.nodes if isinstance(node.layer, Conv2d | Linear)]
    total: int = sum(
        prod(graph.parameter_shapes[f"{name}.weight"])
        * prod(graph.shapes[name][1:])
        * (1 if name in graph.static else graph.timesteps)
        for name in layers
    )
    return total


def noise(graph: Graph) -> float:
    """Noise along the noisiest path from input to output.

    A layer of n neurons adds 1 / sqrt(n), the standard error of a mean over that many yes-or-no votes. A layer of
    b-bit weights that is fed by spikes adds 1.6 / 2**b, twice the share of spikes behind it that rounding its weights
    flips (measured: .3% at 8 bits, 1.2% at 6, 4.2% at 4, 14% at 2), because those errors repeat at every step.
    """

    def added(name: str) -> float:
        layer = graph[name]
        if isinstance(layer, Lif):
            neurons: int = prod(graph.shapes[name])
            return 1 / sqrt(neurons)
        if isinstance(layer, Conv2d | Linear) and _spiking(graph, name):
            return ROUNDING * 0.5**layer.weight_bits
        return 0.0

    return _longest_path(graph, added)


def _fan_in(graph: Graph, name: str) -> int:
    """Weights that meet in one value of a Conv2d or Linear."""
    return prod(graph.parameter_shapes[f"{name}.weight"][1:])


def _longest_path(graph: Graph, length: Callable[[str], float]) -> float:
    """The largest sum of ``length`` over the nodes of a path from the input to the output within one step."""
    reached: dict[str, float] = {}
    for node in graph.nodes:
        before = [reached[edge.source] for edge in graph.sources[node.name] if not edge.delay]
        reached[node.name] = max(before, default=0.0) + length(node.name)
    return reached[graph.output]


def _spiking(graph: Graph, name: str) -> bool:
    """Whether the node is a layer of weights whose input is spikes, or counts of spikes."""
    if not isinstance(graph[name], Conv2d | Linear):
        return False
    return graph.kinds[graph.sources[name][0].source] in (Kind.SPIKES, Kind.COUNTS)
