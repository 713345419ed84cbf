"""The living torch module built from a graph.

Convolutions and their neighbours keep the channels-last layout given to the images, which on a CPU is up to four times
as fast as the other one.

>>> from spikenas.graph import Conv2d, Edge, Flatten, Graph, Input, Lif, Linear, Mean, Node, Output
>>> layers = (Input((1, 8, 8)), Conv2d(4), Lif(), Flatten(), Linear(10), Mean(), Output())
>>> names = ("image", "conv", "lif", "flat", "fc", "mean", "out")
>>> edges = tuple(Edge(a, b) for a, b in zip(names, names[1:], strict=False))
>>> network = Network(Graph(4, tuple(map(Node, names, layers)), edges), seed=0)
>>> network(torch.zeros(2, 1, 8, 8)).shape, network.steps(torch.zeros(2, 1, 8, 8)).shape
(torch.Size([2, 10]), torch.Size([4, 2, 10]))
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from math import prod, sqrt
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikenas.errors import ModelError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Lif,
    Linear,
    Mean,
    Vote,
)
from spikenas.model import Model
from spikenas.snn.execution import Execution, Join, Joint, Watch, channels_last, folded
from spikenas.snn.junction import Current, join
from spikenas.snn.junction_kernels import kernels_for
from spikenas.snn.neuron import NEURONS, FusedLif, Neuron
from spikenas.snn.pooling import pool

SPIKE_RATE = 0.2  # of a fresh network's neurons, roughly


class Network(nn.Module):
    """Float images ``(pixel - 128) / 128`` [B, C, H, W] (or [B, T, C, H, W] if the Input is not static) to logits.

    ``dropout`` acts on what enters each Linear, one mask for all steps; with ``learn_decay`` (neuron ``fused`` only)
    leaks are parameters. The same ``seed`` gives the same initial weights and dropout masks; no global
    random state is read.
    Raises ModelError for an unknown neuron or images that do not fit the Input.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        neuron: str = "fused",
        dropout: float = 0.0,
        learn_decay: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if neuron not in NEURONS:
            raise ModelError(f"neuron {neuron!r} is unknown: choose {' or '.join(NEURONS)}")
        if learn_decay and neuron != "fused":
            raise ModelError(f"neuron {neuron!r} has a fixed leak: learn it with neuron 'fused'")
        self.graph, self.dropout, self.joins = graph, dropout, neuron == "fused"
        self.rate_steps = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.execution = Execution(graph)
        self._keys = {node.name: f"{i}_{node.name.replace('.', '_')}" for i, node in enumerate(graph.nodes)}
        self.operators = nn.ModuleDict()
        for node in graph.nodes:
            if (module := _module(graph, node.name, neuron, learn_decay)) is not None:
                self.operators[self._keys[node.name]] = module
        _initialize(self)

    def operator(self, name: str) -> Any:
        """The module of a node that has one."""
        return self.operators[self._keys[name]]

    def on_rates(self) -> Self:
        """The same network, of the same modules, on rates (:mod:`spikenas.snn.training_run`): in a graph of one step
        each neuron integrates its current for all timesteps and passes on the mean of its spikes."""
        twin = copy(self)
        twin.graph, twin.rate_steps = replace(self.graph, timesteps=1), self.graph.timesteps
        twin.execution = Execution(twin.graph)
        return twin

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes], the mean over time."""
        return self.steps(images).mean(0)

    def steps(self, images: Tensor, watch: Watch | None = None) -> Tensor:
        """The outputs at each step, [T, B, classes], those of mirror images behind: [2 T, B, classes]."""
        return self.execution.run(self, images, watch, None if watch else self._joiner(images, {}))

    def steps_with_spikes(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs at each step, [T, B, classes], and the spikes of each Lif over the batch and all steps.

        Their number is exact, differentiable, and 0-dimensional in float64.
        """
        counts: dict[str, Tensor] = {}

        def watch(name: str, value: Tensor) -> None:
            if isinstance(self.graph[name], Lif):
                count = value.sum(dtype=torch.float64)
                counts[name] = counts[name] + count if name in counts else count

        return self.execution.run(self, images, watch, self._joiner(images, counts)), counts

    def forward_with_rates(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and for each Lif its spikes per neuron and step, differentiable (0-dimensional)."""
        outputs, counts = self.steps_with_spikes(images)
        sites = {name: self.graph.inference_steps * len(images) * prod(self.graph.shapes[name]) for name in counts}
        return outputs.mean(0), {name: (count / sites[name]).float() for name, count in counts.items()}

    def forward_with_counts(self, images: Tensor) -> tuple[Tensor, dict[str, int]]:
        """Logits, and for each Lif the exact number of spikes over the batch and all steps."""
        outputs, counts = self.steps_with_spikes(images)
        return outputs.mean(0), {name: int(count) for name, count in counts.items()}

    def trace(self, images: Tensor) -> dict[str, Tensor]:
        """Every node's output [T, B, ...] (T = 1 where it is static), as :func:`spikenas.reference.run` gives them."""
        pieces: dict[str, list[Tensor]] = {}
        outputs = self.steps(images, lambda name, value: pieces.setdefault(name, []).append(value))
        values = {name: torch.cat(steps) for name, steps in pieces.items()}
        (mean,) = (edge.source for edge in self.graph.sources[self.graph.output])
        return values | {mean: outputs.mean(0, keepdim=True), self.graph.output: outputs.mean(0, keepdim=True)}

    # --- how execution.run computes a node ----------------------------------------------------------------

    def image(self, images: Tensor) -> Tensor:
        return channels_last(images)

    def sequence(self, name: str, x: Tensor) -> Tensor:
        neuron: Neuron = self.operator(name)
        if self.rate_steps:
            return neuron.sequence(x, self.rate_steps).mean(0, keepdim=True)
        return neuron.sequence(x, self.graph.timesteps)

    def step(self, name: str, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        neuron: Neuron = self.operator(name)
        return neuron.step(x, v)

    def _joiner(self, images: Tensor, counts: dict[str, Tensor]) -> Join | None:
        """How this network computes joints, noting spikes in ``counts``; None where it cannot."""
        if not self.joins or kernels_for(images) is None:
            return None

        def join_currents(joint: Joint, values: list[Tensor]) -> dict[str, Tensor]:
            norms = [None if norm is None else self.operator(norm) for _, norm in joint.inputs]
            currents = [Current(x, norm) for x, norm in zip(values, norms, strict=True)]
            neuron: FusedLif | None = None if joint.lif is None else self.operator(joint.lif)
            lif, decay = (None, None) if neuron is None else (neuron.layer, neuron.decay)
            steps, as_rates = self.rate_steps or self.graph.timesteps, self.rate_steps > 0
            made = join(currents, steps, lif, decay=decay, total=joint.keeps_total, as_rates=as_rates)
            found = {} if made.total is None else {joint.total: made.total}
            if joint.lif is not None and made.spikes is not None and made.count is not None:
                counts[joint.lif] = made.count / (self.rate_steps or 1)
                found[joint.lif] = made.spikes
            return found

        return join_currents

    def compute(self, name: str, inputs: list[Tensor]) -> Tensor:
        x, layer = inputs[0], self.graph[name]
        match layer:
            case Conv2d() | BatchNorm2d():
                return folded(x, self.operator(name))
            case AvgPool2d():
                return pool(x, layer)
            case Linear():
                features: Tensor = self.operator(name)(self._drop(x))
                return features
            case Add():
                return sum(inputs[1:], start=x)
            case Flatten():
                return x.flatten(2)
            case Vote():
                return x.reshape(*x.shape[:-1], -1, layer.group).mean(-1)
            case _:
                raise NotImplementedError(f"network has no rule for {type(layer).__name__}")

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return x
        kept = torch.rand(1, *x.shape[1:], generator=self.generator) >= self.dropout
        return x * kept.to(x.device, x.dtype) / (1.0 - self.dropout)


def normalize(pixels: Tensor) -> Tensor:
    """uint8 pixels to what a network takes, ``(pixel - 128) / 128``."""
    return (pixels.to(torch.float32) - 128.0) / 128.0


# --- weights in and out -----------------------------------------------------------------------------------


def to_model(network: Network) -> Model:
    """The network's weights and BatchNorm2d statistics, copied; learned leaks are in the model's graph."""
    arrays = {name: tensor.cpu().numpy().copy() for name, tensor in weight_tensors(network).items()}
    return Model(learned_graph(network), arrays)


def learned_graph(network: Network) -> Graph:
    """The network's graph with the leaks that it has learned."""
    graph = network.graph
    learned = {
        node.name: module.learned_layer()
        for node in graph.nodes
        if isinstance(node.layer, Lif) and isinstance(module := network.operator(node.name), FusedLif)
    }
    nodes = tuple(replace(node, layer=learned.get(node.name, node.layer)) for node in graph.nodes)
    return graph if nodes == graph.nodes else replace(graph, nodes=nodes)


def from_model(model: Model, *, neuron: str = "fused", dropout: float = 0.0, seed: int = 0) -> Network:
    """A network with the model's weights and statistics."""
    network = Network(model.graph, neuron=neuron, dropout=dropout, seed=seed)
    load_weights(network, model)
    return network


def load_weights(network: Network, model: Model) -> None:
    """Overwrite the network's weights and statistics. Raises ModelError when the model has another graph."""
    if model.graph != network.graph:
        raise ModelError("the model's graph is not the network's: build the network with from_model(model)")
    for name, tensor in weight_tensors(network).items():
        tensor.copy_(torch.from_numpy(model.weights[name]))


def weight_tensors(network: Network) -> dict[str, Tensor]:
    """The network's own tensors under the names of :class:`spikenas.model.Model`."""
    tensors: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        if isinstance(node.layer, Conv2d | Linear | BatchNorm2d):
            for name, tensor in network.operator(node.name).state_dict(keep_vars=False).items():
                if name != "num_batches_tracked":
                    tensors[f"{node.name}.{name}"] = tensor
    return tensors


def state_tensors(network: Network) -> dict[str, Tensor]:
    """All that a training changes: :func:`weight_tensors` and the logits of learned leaks."""
    tensors = weight_tensors(network)
    for name, parameter in named_parameters(network).items():
        tensors.setdefault(name, parameter.detach())
    return tensors


def named_parameters(network: Network) -> dict[str, nn.Parameter]:
    """What an optimizer trains, under the same names."""
    return {
        f"{node.name}.{name}": parameter
        for node in network.graph.nodes
        if isinstance(node.layer, Conv2d | Linear | BatchNorm2d | Lif)
        for name, parameter in network.operator(node.name).named_parameters()
    }


# --- construction -----------------------------------------------------------------------------------------


def _module(graph: Graph, name: str, neuron: str, learn_decay: bool) -> nn.Module | None:
    """The node's module, weights not yet set; None for a layer that has no state."""
    match graph[name]:
        case Conv2d() as conv:
            sizes = (conv.kernel_size, conv.stride, conv.padding)
            channels = (graph.in_shape(name)[0], conv.out_channels)
            return _bare(nn.Conv2d, *channels, *sizes, groups=conv.groups, bias=conv.bias)
        case Linear() as linear:
            return _bare(nn.Linear, graph.in_shape(name)[0], linear.out_features, bias=linear.bias)
        case BatchNorm2d() as norm:
            return nn.BatchNorm2d(graph.shapes[name][0], eps=norm.eps)
        case Lif() as lif:
            return FusedLif(lif, learn_decay) if neuron == "fused" else NEURONS[neuron](lif)
        case _:
            return None


def _bare(kind: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A module whose construction draws nothing from torch's global generator."""
    module: nn.Module = nn.utils.skip_init(kind, *args, **kwargs)  # type: ignore[no-untyped-call]
    return module


def _initialize(network: Network) -> None:
    """Kaiming's normal init before neurons and norms; a readout gets logits of about unit variance; biases 0."""
    for node in network.graph.nodes:
        if not isinstance(node.layer, Conv2d | Linear):
            continue
        module = network.operator(node.name)
        if any(isinstance(network.graph[edge.target], Vote | Mean) for edge in network.graph.consumers[node.name]):
            inputs = network.graph.in_shape(node.name)[0]
            nn.init.normal_(module.weight, std=1.0 / sqrt(SPIKE_RATE * inputs), generator=network.generator)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=network.generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
