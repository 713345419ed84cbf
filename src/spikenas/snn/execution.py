"""The order in which a graph is computed, for whoever knows how to compute its nodes.

Every value has a leading time axis: [1, B, ...] where the graph is static (computed once), [T, B, ...] otherwise.
Nodes run on all steps at once, time folded into the batch; only those of a feedback loop run step by step. Where the
caller can compute them together, the norms of currents, their sum and its neuron are one :class:`Joint`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikenas.errors import ModelError
from spikenas.graph import Add, BatchNorm2d, Graph, Input, Lif, Mean, Output

Watch = Callable[[str, Tensor], Tensor | None]
"""Is shown each node's name and output, time first (inside a feedback loop one step a call); what it returns, if
anything, replaces the output. Mean and Output come after all steps and are not shown."""


class Arithmetic(Protocol):
    """How to compute nodes; ``x`` and results are [T or 1, B, ...], in ``step`` [B, ...]."""

    def image(self, images: Tensor) -> Tensor: ...
    def sequence(self, name: str, x: Tensor) -> Tensor: ...
    def step(self, name: str, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]: ...
    def compute(self, name: str, inputs: list[Tensor]) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Joint:
    """Currents that meet: ``inputs`` are their nodes, each with the BatchNorm2d that it passes or None.

    ``total`` is the node whose value is their sum, ``lif`` the neuron that integrates it or None; ``keeps_total`` when
    others than the neuron read the sum.
    """

    inputs: tuple[tuple[str, str | None], ...]
    total: str
    lif: str | None
    keeps_total: bool


Join = Callable[[Joint, list[Tensor]], Mapping[str, Tensor]]
"""Computes a joint from the values of its inputs: those of ``lif`` and, where it is kept, of ``total``, by name."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Nodes computed together: one node for all steps, a joint's, or those of a feedback loop step by step."""

    nodes: tuple[str, ...]
    loops: bool
    joint: Joint | None = None


class Execution:
    """The stages of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stages = stages(graph)
        self.joined = joined(graph, self.stages)
        self.last_reader = _last_reader(graph, self.stages)
        self.last_reader_joined = _last_reader(graph, self.joined)

    def run(
        self, arithmetic: Arithmetic, images: Tensor, watch: Watch | None = None, join: Join | None = None
    ) -> Tensor:
        """What enters the Mean, [T, B, classes]; where the Input is mirrored, [2 T, B, classes].

        ``watch`` then sees the images and behind them, in the same batch, their mirror images.
        ``images``: [B, C, H, W], or [B, T, C, H, W] if the Input is not static. ``join`` computes what it
        can, which ``watch`` is then not shown. Raises ModelError for another shape.
        """
        self._check(images)
        if self.graph.views > 1:
            images = torch.cat((images, images.flip(-1)))
        values: dict[str, Tensor] = {}
        found, last_reader = self.stages, self.last_reader
        if join is not None:
            found, last_reader = self.joined, self.last_reader_joined
        for number, stage in enumerate(found):
            if stage.loops:
                values |= self._loop(arithmetic, stage.nodes, values, watch)
            elif join is not None and stage.joint is not None:
                values |= join(stage.joint, [values[source] for source, _ in stage.joint.inputs])
            else:
                (name,) = stage.nodes
                values[name] = _watched(watch, name, self._at_once(arithmetic, name, values, images))
            for name in [name for name in values if last_reader[name] <= number]:
                del values[name]
        (outputs,) = values.values()
        outputs = outputs.expand(self.graph.timesteps, *outputs.shape[1:])
        return torch.cat(outputs.chunk(self.graph.views, 1)) if self.graph.views > 1 else outputs

    def _at_once(self, arithmetic: Arithmetic, name: str, values: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """A node outside every loop, all steps together."""
        layer = self.graph[name]
        if isinstance(layer, Input):
            images = arithmetic.image(images)
            return images[None] if layer.static else images.transpose(0, 1)
        inputs = [
            self._delayed(values[edge.source]) if edge.delay else values[edge.source]
            for edge in self.graph.sources[name]
        ]
        return arithmetic.sequence(name, inputs[0]) if isinstance(layer, Lif) else arithmetic.compute(name, inputs)

    def _loop(
        self, arithmetic: Arithmetic, nodes: tuple[str, ...], before: Mapping[str, Tensor], watch: Watch | None
    ) -> dict[str, Tensor]:
        """The nodes of a feedback loop, step by step."""
        steps: dict[str, list[Tensor]] = {name: [] for name in nodes}
        membranes: dict[str, Tensor] = {}
        for t in range(self.graph.timesteps):
            for name in nodes:
                if t and name in self.graph.static:
                    continue
                inputs = [
                    _at(steps[edge.source] if edge.source in steps else before[edge.source], t - edge.delay)
                    for edge in self.graph.sources[name]
                    if t >= edge.delay
                ]
                if isinstance(self.graph[name], Lif):
                    spikes, membranes[name] = arithmetic.step(name, inputs[0][0], membranes.get(name))
                    value = spikes[None]
                else:
                    value = arithmetic.compute(name, inputs)
                steps[name].append(_watched(watch, name, value))
        return {name: torch.cat(values) for name, values in steps.items()}

    def _delayed(self, x: Tensor) -> Tensor:
        x = x.expand(self.graph.timesteps, *x.shape[1:])
        return torch.cat((torch.zeros_like(x[:1]), x[:-1]))

    def _check(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self.graph.sample_shape:
            raise ModelError(f"images are {tuple(images.shape[1:])}: the network takes {self.graph.sample_shape}")


def stages(graph: Graph) -> tuple[Stage, ...]:
    """The nodes before the Mean, in order; those from a delayed edge's target to its later source form a loop."""
    names = list(graph.layers)
    position = {name: i for i, name in enumerate(names)}
    spans = sorted((position[e.target], position[e.source]) for e in graph.edges if e.delay)
    spans = [(first, last) for first, last in spans if first <= last]
    found: list[Stage] = []
    start = 0
    while start < len(names):
        end, loops = start, False
        for first, last in spans:
            if start <= first <= end:
                end, loops = max(end, last), True
        nodes = tuple(name for name in names[start : end + 1] if not isinstance(graph[name], Mean | Output))
        if nodes:
            found.append(Stage(nodes, loops))
        start = end + 1
    return tuple(found)


def joined(graph: Graph, found: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages, with every norm, sum and neuron outside of loops in a joint with as many others as possible."""
    free = {stage.nodes[0] for stage in found if not stage.loops}
    free -= {edge.target for edge in graph.edges if edge.delay}
    inside: set[str] = set()  # nodes that belong to the joint of another
    new: list[Stage] = []
    for stage in found:
        name = stage.nodes[0]
        if name in inside:
            continue
        if name in free and _passes_into_sum(graph, name, free):
            inside.add(name)
        elif name in free and (joint := _joint(graph, name, free)) is not None:
            norms = tuple(norm for _, norm in joint.inputs if norm is not None)
            members = dict.fromkeys((*norms, name, *([joint.lif] if joint.lif else [])))
            inside |= members.keys()
            new.append(Stage(tuple(members), loops=False, joint=joint))
        else:
            new.append(stage)
    return tuple(new)


def _joint(graph: Graph, name: str, free: set[str]) -> Joint | None:
    """The joint whose sum is ``name``, or the Lif ``name`` alone; None for layers that are neither."""
    sources = [edge.source for edge in graph.sources[name]]
    match graph[name]:
        case Lif():
            return Joint(((sources[0], None),), sources[0], name, keeps_total=False)
        case BatchNorm2d():
            inputs: tuple[tuple[str, str | None], ...] = ((sources[0], name),)
        case Add():
            inputs = tuple(
                (graph.sources[source][0].source, source) if _passes_into_sum(graph, source, free) else (source, None)
                for source in sources
            )
        case _:
            return None
    readers = [edge.target for edge in graph.consumers[name]]
    lif = next((reader for reader in readers if reader in free and isinstance(graph[reader], Lif)), None)
    return Joint(inputs, name, lif, keeps_total=set(readers) != {lif})


def _passes_into_sum(graph: Graph, name: str, free: set[str]) -> bool:
    """Whether ``name`` is a norm that nothing reads but an Add outside of loops."""
    readers = [edge.target for edge in graph.consumers[name]]
    is_norm = name in free and isinstance(graph[name], BatchNorm2d)
    return is_norm and len(readers) == 1 and readers[0] in free and isinstance(graph[readers[0]], Add)


def channels_last(images: Tensor) -> Tensor:
    """[B, C, H, W] in that layout; [B, T, C, H, W] so that all steps of all samples, [T * B, C, H, W], are in it."""
    if images.dim() == 4:
        return images.contiguous(memory_format=torch.channels_last)
    return images.permute(1, 0, 3, 4, 2).contiguous().permute(1, 0, 4, 2, 3)


def folded(x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """``layer`` on [T, B, C, H, W] as if it were [T * B, C, H, W]."""
    y = layer(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])


def _last_reader(graph: Graph, found: tuple[Stage, ...]) -> dict[str, int]:
    """The number of the last stage that reads each node; one beyond all stages for what the Mean reads."""
    stage_of = {name: number for number, stage in enumerate(found) for name in stage.nodes}
    return {name: max(stage_of.get(edge.target, len(found)) for edge in graph.consumers[name]) for name in stage_of}


def _watched(watch: Watch | None, name: str, value: Tensor) -> Tensor:
    seen = watch(name, value) if watch is not None else None
    return value if seen is None else seen


def _at(value: Tensor | list[Tensor], t: int) -> Tensor:
    """Step ``t`` of a value from inside the loop (a list) or outside it, as [1, B, ...]."""
    t = min(t, len(value) - 1)
    return value[t] if isinstance(value, list) else value[t : t + 1]
