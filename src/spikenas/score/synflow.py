"""SynFlow: the flow through all paths of a network, weighted by their weights; it needs no image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, Input, Linear, Mean, Output, Vote
from spikenas.score.gradients import untrained
from spikenas.score.score import Probe


def synflow(graph: Graph, probe: Probe) -> float:
    """``log10 sum_w |w dR/dw|``, R being the sum of the outputs for an input of ones, all weights made positive and
    neurons and norms taken as the identity, which they are for positive flow (Tanaka et al., NeurIPS 2020, arXiv
    2006.05467, equation 2). Delayed edges carry nothing. Minus infinity when no path leads through.
    """
    network = untrained(graph, probe)
    weights = {
        node.name: network.operator(node.name).weight.detach().double().abs().requires_grad_()
        for node in graph.nodes
        if isinstance(node.layer, Conv2d | Linear)
    }
    with torch.enable_grad():
        flow = _flow(graph, weights)
        gradients = torch.autograd.grad(flow, list(weights.values()))
    pairs = zip(weights.values(), gradients, strict=True)
    return float(torch.log10(sum(((w.detach() * g).abs().sum() for w, g in pairs), start=torch.zeros(()).double())))


def _flow(graph: Graph, weights: dict[str, Tensor]) -> Tensor:
    device = next(iter(weights.values())).device
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        inputs = [values[edge.source] for edge in graph.sources[node.name] if not edge.delay]
        match node.layer:
            case Input(shape=shape):
                value = torch.ones(1, *shape, dtype=torch.float64, device=device)
            case Conv2d() as conv:
                sizes = (conv.stride, conv.padding)
                value = functional.conv2d(inputs[0], weights[node.name], None, *sizes, groups=conv.groups)
            case Linear():
                value = inputs[0] @ weights[node.name].T
            case AvgPool2d(kernel_size=kernel, stride=stride, padding=padding):
                value = functional.avg_pool2d(inputs[0], kernel, stride, padding)
            case Add():
                value = torch.stack(inputs).sum(0)
            case Flatten():
                value = inputs[0].flatten(1)
            case Vote(group=group):
                value = inputs[0].view(len(inputs[0]), -1, group).mean(-1)
            case Output():
                return inputs[0].sum()
            case Mean() | _:
                value = inputs[0]
        values[node.name] = value
    raise AssertionError("a graph has an output")  # checked when it was made
