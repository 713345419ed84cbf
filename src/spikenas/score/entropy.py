"""Entropy of the structure: how much an untrained network can tell images apart, computed from its shape alone.

In the manner of Zen-NAS (Lin et al., ICCV 2021, arXiv 2102.01063) and DeepMAD (Shen et al., CVPR 2023, arXiv
2303.02165, equation 6): with Gaussian weights and without normalisation, every layer multiplies the variance of its
input by its fan-in, and the logarithm of the final variance measures how expressive the network is.

Extended to spikes and time: a neuron passes on no more than it can say. Driven by a current of the variance that
BatchNorm2d leaves, it sends a number of spikes between 0 and T whose entropy H in bits follows from its constants
(:mod:`spikenas.score.gaussian_lif`); it keeps the share H / log2(T + 1) of the variance, so a threshold that the
current rarely reaches costs expressivity, and more steps help only where the spike count varies with the current.
Parallel branches add their variances. The result is in nats.
"""

from __future__ import annotations

from math import inf, log, log2, prod

import numpy as np

from spikenas.graph import Add, AvgPool2d, BatchNorm2d, Conv2d, Graph, Lif, Linear, Node
from spikenas.score.gaussian_lif import respond

Flow = tuple[float, float]
"""(log variance without normalisation, variance with it)"""


def entropy(graph: Graph) -> float:
    """The log variance at the output; minus infinity where a neuron that all paths cross never fires."""
    flows: dict[str, Flow] = {}
    for node in graph.nodes:
        sources = [flows[edge.source] for edge in graph.sources[node.name] if not edge.delay]
        flows[node.name] = _through(graph, node, sources)
    return flows[graph.output][0]


def code_share(lif: Lif, variance: float, timesteps: int) -> float:
    """The share of its code that a neuron uses, H / log2(T + 1)."""
    return respond(lif, round(variance, 9), timesteps).entropy_bits / log2(timesteps + 1)


def _through(graph: Graph, node: Node, sources: list[Flow]) -> Flow:
    if not sources:
        return 0.0, 1.0
    logarithm, variance = sources[0]
    match node.layer:
        case Conv2d() | Linear():
            return logarithm + log(graph.fan_in(node.name)), 1.0
        case BatchNorm2d():
            return logarithm, 1.0
        case AvgPool2d(kernel_size=window):  # the mean of k^2 uncorrelated values
            return logarithm - log(prod(window)), variance / prod(window)
        case Lif() as lif:
            share = code_share(lif, variance, graph.timesteps)
            return logarithm + (log(share) if share > 0 else -inf), 1.0
        case Add():
            return float(np.logaddexp.reduce([flow[0] for flow in sources])), sum(flow[1] for flow in sources)
        case _:
            return logarithm, variance
