"""Trainable spiking depth: layers in series, each counted by the share of the gradient that gets through.

This project's own score. A network can use a spiking layer only if it lies in series with the others, and if a
gradient that arrives behind it leaves in front of it at about the same size. The second is decided by the neuron's
threshold relative to the current it receives, and that current is known before training:

1. Variances. Convolution and BatchNorm2d emit variance 1, a k x k pooling of currents divides by k^2 (random weights
   on spikes give nearly white maps), an Add sums. So behind a 2x2 pooling the same threshold is twice as high.
2. One neuron multiplies the gradient's variance by chi (:func:`spikenas.score.gaussian_lif.respond`): below 1 it
   vanishes, above 1 it explodes. Its distance from neither is q = exp(-|ln chi|) = min(chi, 1/chi), in [0, 1].
3. Depth. A layer of weights fed by spikes has depth ``1 + q * depth before it``, an Add the largest of its inputs. A
   convolution that changes the shape begins a new block: depth starts again, at 1 if spikes feed it. The score is
   the sum over the blocks; with all q = 1 and one block this is plain spiking depth.
4. Paths. Equal depths are told apart by the number of paths, each weighted by its q: more ways for the gradient.

Nothing is fitted, no image or label is read. The form was chosen while looking at SpikeNAS-Bench on CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log, prod

from spikenas.graph import Add, AvgPool2d, BatchNorm2d, Conv2d, Graph, Lif, Linear, Node
from spikenas.score.gaussian_lif import respond

TIE_BREAK = 1e-7
"""Weight of the log number of paths: below the sixth decimal, to which depth is rounded."""

COARSE = 0.5
"""Layers to which :func:`coarse_depth` rounds."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What arrives at a layer's output: ``done`` is the depth of earlier blocks, ``gain`` is q of the last neuron."""

    variance: float
    depth: float
    paths: float
    done: float = 0.0
    log_paths: float = 0.0
    gain: float | None = None

    @property
    def total_depth(self) -> float:
        """Of all blocks so far."""
        return self.done + self.depth

    @property
    def total_log_paths(self) -> float:
        """Of all blocks so far, each path weighted by its q."""
        return self.log_paths + log(max(self.paths, 1.0))


def trainable_depth(graph: Graph) -> float:
    """The score. Delayed edges do not count; fully connected layers end the last block and do not count either."""
    last = gradient_flow(graph)[graph.output]
    return round(last.total_depth, 6) + TIE_BREAK * last.total_log_paths


def coarse_depth(graph: Graph) -> float:
    """Trainable depth to the half layer: the theory does not claim to tell apart what is closer.

    Ranks better by tau-b, which punishes ties less than errors, and selects worse; use the fine score to choose.
    """
    return floor(gradient_flow(graph)[graph.output].total_depth / COARSE + 0.5) * COARSE


def gradient_flow(graph: Graph) -> dict[str, Flow]:
    """What arrives at each node."""
    flows: dict[str, Flow] = {}
    for node in graph.nodes:
        sources = [flows[edge.source] for edge in graph.sources[node.name] if not edge.delay]
        flows[node.name] = _through(graph, node, sources)
    return flows


def isometry(lif: Lif, variance: float, timesteps: int) -> float:
    """q = min(chi, 1/chi): 1 where gradients keep their size, 0 where the neuron never fires."""
    if variance <= 0.0:
        return 0.0
    chi = respond(lif, round(variance, 9), timesteps).gradient_gain
    return min(chi, 1.0 / chi) if chi > 0.0 else 0.0


def _through(graph: Graph, node: Node, sources: list[Flow]) -> Flow:
    if not sources:
        return Flow(variance=1.0, depth=0.0, paths=1.0)
    flow = sources[0]
    match node.layer:
        case Lif() as lif:
            q = isometry(lif, flow.variance, graph.timesteps)
            return Flow(1.0, flow.depth, flow.paths, flow.done, flow.log_paths, q)
        case Conv2d() if graph.shapes[node.name] != graph.in_shape(node.name):
            begun = 0.0 if flow.gain is None else 1.0
            paths = flow.log_paths + log(max(flow.paths, 1.0))
            return Flow(1.0, begun, 1.0, flow.done + flow.depth, paths)
        case Conv2d() if flow.gain is not None:
            depth, paths = 1.0 + flow.gain * flow.depth, flow.paths * (1.0 + flow.gain)
            return Flow(1.0, depth, paths, flow.done, flow.log_paths)
        case Conv2d() | BatchNorm2d():
            return Flow(1.0, flow.depth, flow.paths, flow.done, flow.log_paths, flow.gain)
        case AvgPool2d(kernel_size=window) if flow.gain is None:
            return Flow(flow.variance / prod(window), flow.depth, flow.paths, flow.done, flow.log_paths)
        case Add():
            return _sum(sources)
        case Linear():
            return Flow(1.0, flow.depth, flow.paths, flow.done, flow.log_paths)
        case _:
            return flow


def _sum(flows: list[Flow]) -> Flow:
    depth, paths = max(flow.depth for flow in flows), sum(flow.paths for flow in flows)
    return Flow(sum(flow.variance for flow in flows), depth, paths, flows[0].done, flows[0].log_paths)
