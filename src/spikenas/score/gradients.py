"""What scores of gradients share: an untrained network, and its loss on the probe.

Spikes let gradients through by the surrogate of :mod:`spikenas.snn.neuron`, so the gradient is the one a training
would start with. Batch statistics are those of the probe.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenas.graph import Graph
from spikenas.score.score import Probe
from spikenas.snn.network import Network


def loss_gradients(graph: Graph, probe: Probe) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient of the cross entropy) for each convolution and fully connected layer."""
    network = untrained(graph, probe)
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.enable_grad():
        loss = functional.cross_entropy(network(probe.images), probe.labels)
        gradients = torch.autograd.grad(loss, weights)
    return [(weight.detach(), gradient) for weight, gradient in zip(weights, gradients, strict=True)]


def input_gradients(graph: Graph, probe: Probe) -> Tensor:
    """The gradient of the sum of each image's logits with respect to that image, [B, values]."""
    network = untrained(graph, probe)
    images = probe.images.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(images).sum(), images)
    return gradient.flatten(1)


def untrained(graph: Graph, probe: Probe) -> Network:
    """A network with the probe's weights, in training mode."""
    network = Network(graph, seed=probe.seed).to(probe.images.device)
    network.train()
    return network
