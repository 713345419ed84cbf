"""Scores that read the graph alone: no weights, no data, no torch."""

from __future__ import annotations

from collections.abc import Callable
from math import log2, prod, sqrt

from spikenas.graph import AvgPool2d, Conv2d, Graph, Kind, Lif, Linear, Shape

RATE_WEIGHT, STEP_COST = 2, 1 / 16
NOISE_FLOOR, ROUNDING = 0.1, 0.8
FREE_WORK = 2**26
"""weights applied in one inference that a laptop still trains thousands of images a second of"""
WORK_WEIGHT, REACH_WEIGHT, DEPTH_WEIGHT = 1 / 2, 2, 2
SMALL_MAP = 4
"""maps of at most so many pixels a side tell no octave of their own"""
SPARE = 1 / 64
"""share of all weights that an octave counts for besides its own, so that an empty one is no abyss"""
WINDOW = 3 * 3
"""weights of a larger window count as so many: what a 5x5 convolution has more of than a 3x3 one hardly helps"""


def spiking_depth(graph: Graph) -> int:
    """Layers of weights that are fed by spikes, counted along the path to the output that has most of them.

    Delayed edges do not count. Of the free predictors compared on SpikeNAS-Bench (Sun et al., IEEE TAI 2025) this
    one alone agrees best with test accuracy.
    """
    return round(_longest_path(graph, lambda name: float(_spiking(graph, name))))


def structure_score(graph: Graph) -> float:
    """How much a network of this structure may learn, in bits, roughly::

        capacity + 2 log2(1 + depth) + 2 log2(reach) - 2 log2(0.1 + noise)
                 - 2 / timesteps - timesteps / 16 - log2(1 + work / 2**26) / 2

    :func:`capacity` counts weights in doublings, at every scale of the image. ``depth`` is :func:`spiking_depth`, but
    each layer counts for 1 - 1 / sqrt(fan-in), because one that mixes little, such as a depthwise 1x1 convolution,
    adds little. :func:`reach` is the share of the image that the last neurons see. :func:`noise` is added by every
    layer of neurons, so that in a deep network of thin layers signals drown; twice its logarithm is that of its
    variance. A rate read off ``timesteps`` spikes has a variance that falls as 1 / timesteps, while each further step
    costs time and energy. :func:`work` is a price: of what trains slowly, little is trained in the time there is.

    The constants are round numbers, chosen on 62 networks of space ``embedded`` of 150 to 256 KB, each shown 36,000
    images of CIFAR-10: drawn at random, bred from pyramids, or what earlier forms of this score liked best, so that it
    knows what it must not like (docs/benchmarks.md); but for that of depth, which short trainings undervalue: it was
    chosen on the nine of these that were trained longer. They were not chosen on SpikeNAS-Bench.
    """
    steps = graph.timesteps
    depth = _longest_path(graph, lambda name: 1 - 1 / sqrt(graph.fan_in(name)) if _spiking(graph, name) else 0.0)
    price = RATE_WEIGHT / steps + STEP_COST * steps + WORK_WEIGHT * log2(1 + work(graph) / FREE_WORK)
    heard = REACH_WEIGHT * log2(reach(graph)) - 2 * log2(NOISE_FLOOR + noise(graph))
    return capacity(graph) + DEPTH_WEIGHT * log2(1 + depth) + heard - price


def capacity(graph: Graph) -> float:
    """The mean, over the octaves of the image, of log2 of the weights of the convolutions in each.

    Octaves are the sizes to which halving takes the image, as long as they are above SMALL_MAP pixels a side: 32, 16
    and 8 of a 32x32 image. A convolution belongs to the octave nearest to the map that it writes; smaller maps belong
    to the last one. Weights at one scale alone are worth less than as many at all of them. Weights of Linear layers do
    not count: most of a wide one's are never needed.
    """
    side = _side(graph.shapes[graph.input])
    octaves = 1
    while side >> octaves > SMALL_MAP:
        octaves += 1
    weights = [0.0] * octaves
    for node in graph.nodes:
        if isinstance(node.layer, Conv2d):
            octave = round(log2(side / _side(graph.shapes[node.name])))
            window = prod(node.layer.kernel_size)
            counted = prod(graph.parameter_shapes[f"{node.name}.weight"]) * min(window, WINDOW) / window
            weights[min(max(octave, 0), octaves - 1)] += counted
    spare = max(1.0, SPARE * sum(weights))
    return sum(log2(count + spare) for count in weights) / octaves


def reach(graph: Graph) -> float:
    """Share of the image's side, at most 1, that the neuron which sees most of it sees; behind a Linear, all of it."""
    windows: dict[str, tuple[float, int]] = {}  # side of what a value sees, pixels between neighbours
    for node in graph.nodes:
        before = [windows[edge.source] for edge in graph.sources[node.name] if not edge.delay]
        window, apart = (max(values) for values in zip(*before, strict=True)) if before else (1.0, 1)
        layer = node.layer
        if isinstance(layer, Conv2d | AvgPool2d):
            window += (max(layer.kernel_size) - 1) * apart
            apart *= max(layer.stride)
        elif isinstance(layer, Linear):
            window = float("inf")
        windows[node.name] = window, apart
    seen = max((windows[node.name][0] for node in graph.nodes if isinstance(node.layer, Lif)), default=1.0)
    return min(1.0, seen / _side(graph.shapes[graph.input]))


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

    A layer of n neurons adds 1 / sqrt(n), the standard error of a mean over that many yes-or-no votes, where neurons
    of one channel count by the root of their number: neighbours say much the same. Read through a pooling alone, those
    of a window vote together. A layer of b-bit weights that is fed by spikes adds .8 / 4**b, which puts 4 bits a few
    tenths of a point and 2 bits three points below 8: so much is lost when a network was trained on with its weights
    rounded.
    """

    def added(name: str) -> float:
        layer = graph[name]
        if isinstance(layer, Lif):
            channels, *sides = graph.shapes[name]
            readers = [graph[edge.target] for edge in graph.consumers[name]]
            voting = min(prod(reader.kernel_size) if isinstance(reader, AvgPool2d) else 1 for reader in readers)
            return 1 / sqrt(voting * channels * sqrt(prod(sides)))
        if isinstance(layer, Conv2d | Linear) and _spiking(graph, name):
            return ROUNDING * 0.25**layer.weight_bits
        return 0.0

    return _longest_path(graph, added)


def _side(shape: Shape) -> int:
    """Pixels of the longer side of a map (channels, height, width); 1 of anything else."""
    return max(shape[1:], default=1)


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
