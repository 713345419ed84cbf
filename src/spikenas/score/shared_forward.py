"""Spike kernels of many untrained networks, each distinct layer computed once.

Candidates of a search are alike: cells that begin with the same operations compute the same values, since weights
are drawn by seed, name and shape. Two nodes are the same when their layers, their weights and all that flows into them
are the same; their *key* says so. Networks are taken in the order of their keys, so that those that share a beginning
follow each other, and a value is kept while a later network needs it and memory allows: the one that is needed
last goes first (Belady, IBM Systems Journal 5, 1966), for the whole future is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from math import prod

import numpy as np
import torch
from torch import Tensor

from spikenas.errors import InputError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
)
from spikenas.score.spike_kernel import Codes, Matrix, codes
from spikenas.score.untrained import (
    Spikes,
    Step,
    Weights,
    add,
    as_current,
    connect,
    convolve,
    fire,
    image_step,
    normalize,
    pool,
)

Kernel = Callable[[Codes], Matrix]
Value = list[Step]
"""One entry per step, or a single one that holds for all."""

BLOCK_FLOATS = 2**19
KEEP_BYTES = 6 * 2**30
OWNERS = (Conv2d, Lif, AvgPool2d, Linear)
"""Layers that write something down; the others are views of it and cost nothing to compute again."""


@dataclass(frozen=True)
class Plan:
    """A network as the forward pass sees it."""

    graph: Graph

    @cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Nodes on the way to a neuron, in order; those of a feedback loop together."""
        names = list(self.graph.layers)
        place = {name: number for number, name in enumerate(names)}
        spans = sorted((place[edge.target], place[edge.source]) for edge in self.graph.edges if edge.delay)
        stages: list[tuple[str, ...]] = []
        start = 0
        while start < len(names):
            end = start
            for first, last in spans:
                if start <= first <= end:
                    end = max(end, last)
            stages.append(tuple(names[start : end + 1]))
            start = end + 1
        useful = self._useful
        return tuple(stage for stage in stages if any(name in useful for name in stage))

    @cached_property
    def keys(self) -> dict[str, bytes]:
        """What each node computes, as a digest."""
        keys: dict[str, bytes] = {}
        for stage in self.stages:
            inside = {name: number for number, name in enumerate(stage)}
            shared = b"".join(self._description(name, keys, inside) for name in stage)
            for name, number in inside.items():
                keys[name] = blake2b(shared + bytes([number]), digest_size=16).digest()
        return keys

    @cached_property
    def owners(self) -> tuple[bytes, ...]:
        """The keys of the values that are worth keeping, in order."""
        return tuple(key for name, key in self.keys.items() if isinstance(self.graph[name], OWNERS))

    @cached_property
    def neurons(self) -> dict[str, int]:
        """Neuron layers, and how many edges read each: as many neurons as it would be if edges did not share."""
        return {
            node.name: len(self.graph.consumers[node.name]) for node in self.graph.nodes if isinstance(node.layer, Lif)
        }

    @cached_property
    def _useful(self) -> set[str]:
        useful: set[str] = set()
        for node in reversed(self.graph.nodes):
            feeds = any(edge.target in useful for edge in self.graph.consumers[node.name])
            if feeds or isinstance(node.layer, Lif):
                useful.add(node.name)
        return useful

    def _description(self, name: str, keys: dict[str, bytes], inside: dict[str, int]) -> bytes:
        layer = self.graph[name]
        weights = name if isinstance(layer, Conv2d | Linear) else ""
        sources = [
            (edge.delay, f"here {inside[edge.source]}" if edge.source in inside else keys[edge.source].hex())
            for edge in self.graph.sources[name]
        ]
        return repr((layer, weights, self.graph.shapes[name], self.graph.timesteps, sources)).encode()


def spike_kernels(
    graphs: Sequence[Graph],
    images: Tensor,
    kernel: Kernel,
    *,
    seed: int = 0,
    keep_bytes: int = KEEP_BYTES,
) -> list[Matrix]:
    """For each graph the mean of ``kernel`` over neuron layers and steps, float64 [B, B].

    ``images`` [B, C, H, W], or [B, T, C, H, W] for a stream, are the input of all of them. A neuron layer that several
    edges read counts once for each. Raises InputError for images of another shape and a graph without neurons.
    """
    plans = [Plan(graph) for graph in graphs]
    for plan in plans:
        _check(plan, images)
    order = sorted(range(len(plans)), key=lambda index: plans[index].owners)
    forward = _Forward(images, kernel, seed, keep_bytes, [plans[index] for index in order])
    results: list[Matrix] = [np.empty(0)] * len(plans)
    with torch.no_grad():
        for index, result in zip(order, forward, strict=True):
            results[index] = result
    return results


def _check(plan: Plan, images: Tensor) -> None:
    if tuple(images.shape[1:]) != plan.graph.sample_shape:
        raise InputError(f"images are {tuple(images.shape[1:])}: the network takes {plan.graph.sample_shape}")
    if not plan.neurons:
        raise InputError("the network has no spiking neurons: this score compares spikes")


class _Forward:
    """Iterates over the kernels of ``plans``, in their order."""

    def __init__(self, images: Tensor, kernel: Kernel, seed: int, keep_bytes: int, plans: list[Plan]) -> None:
        self.images, self.kernel, self.keep_bytes, self.plans = images, kernel, keep_bytes, plans
        self.weights = Weights(seed, images.device)
        self.kept: dict[bytes, Value] = {}
        self.kernels: dict[bytes, Matrix] = {}
        largest = max(prod(shape) for plan in plans for shape in plan.graph.shapes.values())
        self.block = max(1, min(len(images), BLOCK_FLOATS // largest))
        self.future: dict[bytes, list[int]] = {}
        for number in reversed(range(len(plans))):
            for key in set(plans[number].owners):
                self.future.setdefault(key, []).append(number)

    def __iter__(self) -> Iterator[Matrix]:
        for number, plan in enumerate(self.plans):
            self._forget(plan, number)
            self._run(plan)
            weighted = sum(count * self.kernels[plan.keys[name]] for name, count in plan.neurons.items())
            result: Matrix = np.asarray(weighted) / (sum(plan.neurons.values()) * plan.graph.timesteps)
            yield result
            self._evict()

    # --- one network -------------------------------------------------------------------------------------

    def _run(self, plan: Plan) -> None:
        given = {name: self.kept[key] for name, key in plan.keys.items() if key in self.kept}
        needed = self._needed(plan, given.keys())
        values: dict[str, Value] = {}
        for number, stage in enumerate(plan.stages):
            if not any(name in needed for name in stage):
                continue
            if all(name in given for name in stage):
                values |= {name: given.pop(name) for name in stage}
            elif len(stage) == 1:
                values[stage[0]] = self._at_once(plan, stage[0], values)
            else:
                values |= self._loop(plan, stage, values)
            for name in stage:
                self._keep(plan, name, values[name])
            later = {
                edge.source
                for other in plan.stages[number + 1 :]
                for name in other
                if name in needed
                for edge in plan.graph.sources[name]
            }
            values = {name: value for name, value in values.items() if name in later}

    def _needed(self, plan: Plan, given: Set[str]) -> set[str]:
        """Nodes that must be computed or looked up to know the kernels of all neurons."""
        needed: set[str] = set()
        for stage in reversed(plan.stages):
            unknown = any(name in plan.neurons and plan.keys[name] not in self.kernels for name in stage)
            if not unknown and not any(name in needed for name in stage):
                continue
            needed.update(stage)
            if not all(name in given for name in stage):
                needed.update(edge.source for name in stage for edge in plan.graph.sources[name])
        return needed

    def _at_once(self, plan: Plan, name: str, values: dict[str, Value]) -> Value:
        graph = plan.graph
        layer, steps = graph[name], graph.timesteps
        if isinstance(layer, Input):
            images = [self.images] if layer.static else list(self.images.transpose(0, 1))
            return [image_step(step, self.block) for step in images]
        if isinstance(layer, Lif):
            source = values[graph.sources[name][0].source]
            spikes, _ = fire(layer, [as_current(step) for step in source], steps)
            self._count(plan.keys[name], spikes)
            return list(spikes)
        if all(len(values[edge.source]) == 1 and not edge.delay for edge in graph.sources[name]):
            steps = 1
        return [self._layer(plan, name, self._inputs(plan, name, values, t)) for t in range(steps)]

    def _loop(self, plan: Plan, stage: tuple[str, ...], values: dict[str, Value]) -> dict[str, Value]:
        graph = plan.graph
        inside: dict[str, Value] = {name: [] for name in stage}
        membranes: dict[str, list[Tensor]] = {name: [] for name in stage}
        for t in range(graph.timesteps):
            for name in stage:
                inputs = self._inputs(plan, name, values | inside, t)
                layer = graph[name]
                if isinstance(layer, Lif):
                    (spikes,), membranes[name] = fire(layer, [as_current(inputs[0])], 1, membranes[name])
                    inside[name].append(spikes)
                else:
                    inside[name].append(self._layer(plan, name, inputs))
        for name in stage:
            if isinstance(graph[name], Lif):
                self._count(plan.keys[name], [step for step in inside[name] if isinstance(step, Spikes)])
        return inside

    def _inputs(self, plan: Plan, name: str, values: dict[str, Value], t: int) -> list[Step]:
        edges = [edge for edge in plan.graph.sources[name] if t >= edge.delay]
        return [values[edge.source][min(t - edge.delay, len(values[edge.source]) - 1)] for edge in edges]

    def _layer(self, plan: Plan, name: str, inputs: list[Step]) -> Step:
        graph = plan.graph
        match graph[name]:
            case Conv2d() as conv:
                weight, grid = self.weights.convolution(name, graph.parameter_shapes[f"{name}.weight"])
                return convolve(inputs[0], conv, weight, grid, _pooled_next(graph, name))
            case Linear():
                shape = graph.parameter_shapes[f"{name}.weight"]
                step = inputs[0]
                block = step.blocks[0] if isinstance(step, Spikes) else step[0].blocks[0]
                weight, grid = self.weights.linear(name, shape, tuple(block.shape[1:]))
                return connect(step, weight, grid)
            case BatchNorm2d() as norm:
                return normalize(as_current(inputs[0]), norm)
            case AvgPool2d() as window:
                return pool(inputs[0], window)
            case Add():
                return add(inputs)
            case Flatten():
                return inputs[0]
            case layer:
                raise InputError(f"node '{name}': {type(layer).__name__} stands before a neuron: remove it")

    def _count(self, key: bytes, spikes: Sequence[Spikes]) -> None:
        """Add up the kernels of all steps of a neuron layer."""
        self.kernels[key] = np.sum([self.kernel(codes(step.whole.flatten(1))) for step in spikes], axis=0)

    # --- memory ------------------------------------------------------------------------------------------

    def _keep(self, plan: Plan, name: str, value: Value) -> None:
        key = plan.keys[name]
        if isinstance(plan.graph[name], OWNERS) and self.future[key]:
            self.kept[key] = value
            self._evict()

    def _forget(self, plan: Plan, number: int) -> None:
        """Network ``number`` is at work: it is no longer in the future of its keys."""
        for key in set(plan.owners):
            self.future[key].pop()

    def _evict(self) -> None:
        for key in [key for key in self.kept if not self.future[key]]:
            del self.kept[key]
        sizes = {key: sum(map(_bytes, value)) for key, value in self.kept.items()}
        total = sum(sizes.values())
        for key in sorted(self.kept, key=lambda key: -self.future[key][-1]):
            if total <= self.keep_bytes:
                break
            total -= sizes[key]
            del self.kept[key]


def _bytes(step: Step) -> int:
    if isinstance(step, Spikes):
        return step.whole.numel()
    return sum(block.nbytes for term in step for block in term.blocks)


def _pooled_next(graph: Graph, name: str) -> AvgPool2d | None:
    """The pooling that alone follows the BatchNorm2d that alone follows a convolution, if it needs no padding."""
    for kind in (BatchNorm2d, AvgPool2d):
        consumers = graph.consumers[name]
        if len(consumers) != 1 or consumers[0].delay or not isinstance(graph[consumers[0].target], kind):
            return None
        name = consumers[0].target
    layer = graph[name]
    return layer if isinstance(layer, AvgPool2d) and layer.padding == (0, 0) else None
