"""A graph with its numbers: :class:`Model` in floating point, :class:`IntegerModel` as a chip computes it.

The integer arithmetic, which :mod:`spikenas.reference` executes and the C runtime reproduces bit for bit
(``>>`` is the arithmetic shift, ``clamp16`` limits to -32768..32767, every sum is exact in 32 bits):

========================  ===========================================================================
image                     ``pixel - 128``, int8; padding is 0, mid-grey
Conv2d, Linear            ``((sum W x + half) >> shift) + bias``, half = 2**(shift-1), 0 if shift is 0;
                          a negative shift is one to the left, ``(sum W x << -shift) + bias``
AvgPool2d on spikes       the sum of the window; the 1/k^2 is folded into what follows
AvgPool2d on currents     the mean rounded half up, ``(2 sum + k^2) // (2 k^2)``
Add                       the sum
Lif                       ``x = clamp16(x)``, ``x = sign x + bias`` if a norm was folded,
                          ``u = clamp(((decay_q * v) >> 8) + x)`` to the membrane's bits,
                          ``s = u >= threshold``, reset as in the graph; decay_q = round(256 decay)
Vote, Mean                the sum over the group, over the timesteps of all views
========================  ===========================================================================

A current is kept exactly while its only consumer is an Add at the same step, a Vote, a Mean or the Output
(:func:`in_accumulator`); anywhere else it is clamped to 16 bits, so that the result does not depend on whether a
schedule stores it or recomputes it.

The gain needs no multiplication: ``u / gain`` obeys the same equation with ``threshold / gain``, so gain and all
scales end up in the integer threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import ModelError
from spikenas.graph import (
    Add,
    BatchNorm2d,
    Conv2d,
    Edge,
    Graph,
    Kind,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Shape,
    Vote,
)
from spikenas.html_table import html_table

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

CURRENT_MIN, CURRENT_MAX = -(2**15), 2**15 - 1
DECAY_ONE = 256
LEFT_MAX, RIGHT_MAX = 8, 16  # bits by which a layer's sum may be shifted
FEW_BITS = 4  # weights of more are stored in bytes
FEW_WEIGHTS = 144  # of a neuron beside whose threshold the unit of few bits is coarse: 3x3 of 16 channels


@dataclass(frozen=True)
class Model:
    """Trained weights, float32, by ``node.parameter``; BatchNorm2d has ``running_mean`` and ``running_var`` too.

    Raises ModelError when an array is missing, extra, of another shape or not finite.
    """

    graph: Graph
    weights: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        _check_arrays(float_shapes(self.graph), self.weights)

    def __repr__(self) -> str:
        return f"<Model: {self.graph!r}>"

    def _repr_html_(self) -> str:
        return _arrays_table("Model", self.weights)


@dataclass(frozen=True)
class IntegerModel:
    """Integers by ``node.parameter`` for a graph without BatchNorm2d (see :func:`fold_norms`).

    Conv2d, Linear: ``weight``, ``bias`` and ``shift`` (); Lif: ``threshold`` and, with ``folded_norm``, ``sign``
    (-1 or 1) and ``bias``, each per channel. ``output_scale``: real logits = ``output_scale`` * integer output.
    Raises ModelError as Model does, and when a value leaves its range.
    """

    graph: Graph
    weights: Mapping[str, IntArray]
    output_scale: float

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            if isinstance(node.layer, BatchNorm2d):
                raise ModelError(f"node '{node.name}' is a BatchNorm2d: fold it before making the model integer")
        _check_arrays(integer_shapes(self.graph), self.weights)
        for node in self.graph.nodes:
            _check_ranges(node, self.weights)

    def __repr__(self) -> str:
        return f"<IntegerModel: {self.graph!r}>"

    def _repr_html_(self) -> str:
        return _arrays_table("IntegerModel", self.weights)

    @property
    def shifted_left(self) -> frozenset[str]:
        """The layers whose sum is shifted to the left."""
        return frozenset(name for name in self.graph.layers if self.weights.get(f"{name}.shift", 0) < 0)

    def shifts(self, name: str) -> tuple[int, int]:
        """By how many bits a layer's sum is shifted (left, right); at least one of them is 0."""
        shift = int(self.weights[f"{name}.shift"])
        return max(0, -shift), max(0, shift)


def _arrays_table(title: str, weights: Mapping[str, npt.NDArray[Any]]) -> str:
    rows = [(name, "x".join(map(str, a.shape)), a.min().item(), a.max().item()) for name, a in weights.items()]
    return html_table(rows, ("array", "shape", "least", "most"), title)


def float_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes of a float model's arrays."""
    shapes = dict(graph.parameter_shapes)
    for node in graph.nodes:
        if isinstance(node.layer, BatchNorm2d):
            for statistic in ("running_mean", "running_var"):
                shapes[f"{node.name}.{statistic}"] = graph.shapes[node.name][:1]
    return shapes


def integer_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes of an integer model's arrays."""
    shapes: dict[str, Shape] = {}
    for node in graph.nodes:
        channels = graph.shapes[node.name][:1]
        match node.layer:
            case Conv2d() | Linear():
                shapes[f"{node.name}.weight"] = graph.parameter_shapes[f"{node.name}.weight"]
                if node.layer.bias:
                    shapes[f"{node.name}.bias"] = channels
                shapes[f"{node.name}.shift"] = ()
            case Lif():
                shapes[f"{node.name}.threshold"] = channels
                if node.layer.folded_norm:
                    shapes[f"{node.name}.sign"] = channels
                    shapes[f"{node.name}.bias"] = channels
            case _:
                pass
    return shapes


def in_accumulator(graph: Graph, name: str) -> bool:
    """Whether the node's value goes nowhere but into the sum of its one consumer, unclamped."""
    consumers = graph.consumers[name]
    if len(consumers) != 1 or consumers[0].delay:
        return False
    return isinstance(graph[consumers[0].target], Add | Vote | Mean | Output)


def is_coarse_alone(graph: Graph, name: str) -> bool:
    """Whether a layer's weights over spikes are so few, and of so few bits, that neurons err by their unit.

    Biases and leaks are rounded to the unit of the sum. Among many weights, rounded too, that is lost; here the sum is
    shifted to the left, though nothing finer meets it. Only where neurons alone read it: others tie its unit to more.
    """
    layer = graph[name]
    if not isinstance(layer, Conv2d | Linear) or layer.weight_bits > FEW_BITS:
        return False
    (edge,) = graph.sources[name]
    return (
        graph.kinds[edge.source] is Kind.SPIKES
        and graph.fan_in(name) <= FEW_WEIGHTS
        and all(isinstance(graph[edge.target], Lif) for edge in graph.consumers[name])
    )


def decay_q(layer: Lif) -> int:
    """The leak as a fraction of 256."""
    return round(layer.decay * DECAY_ONE)


def fold_norms(graph: Graph) -> Graph:
    """The graph without the BatchNorm2d nodes that integers need not know.

    A BatchNorm2d that alone follows a Conv2d becomes that layer's bias; one that feeds only Lif nodes becomes
    their ``folded_norm``. Any other one stays, and cannot be made integer.
    """
    into_conv, into_lif = norm_targets(graph)
    gone = into_conv.keys() | into_lif.keys()
    biased = set(into_conv.values())
    normed = {edge.target for name in into_lif for edge in graph.consumers[name]}
    nodes = []
    for node in graph.nodes:
        layer = node.layer
        if node.name in gone:
            continue
        if node.name in biased and isinstance(layer, Conv2d):
            layer = replace(layer, bias=True)
        if node.name in normed and isinstance(layer, Lif):
            layer = replace(layer, folded_norm=True)
        nodes.append(Node(node.name, layer))
    edges = tuple(
        Edge(_before(graph, edge.source, gone), edge.target, edge.delay)
        for edge in graph.edges
        if edge.target not in gone
    )
    return Graph(graph.timesteps, tuple(nodes), edges)


def norm_targets(graph: Graph) -> tuple[dict[str, str], dict[str, str]]:
    """Where each foldable BatchNorm2d goes: by norm, the Conv2d that takes it, or the node whose Lifs take it."""
    into_conv: dict[str, str] = {}
    into_lif: dict[str, str] = {}
    for node in graph.nodes:
        if not isinstance(node.layer, BatchNorm2d):
            continue
        source = graph.sources[node.name][0].source
        if isinstance(graph[source], Conv2d) and len(graph.consumers[source]) == 1:
            into_conv[node.name] = source
        elif all(isinstance(graph[edge.target], Lif) for edge in graph.consumers[node.name]):
            into_lif[node.name] = source
    return into_conv, into_lif


def _before(graph: Graph, name: str, gone: frozenset[str] | set[str]) -> str:
    while name in gone:
        name = graph.sources[name][0].source
    return name


def _check_arrays(expected: Mapping[str, Shape], arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    if missing := sorted(expected.keys() - arrays.keys()):
        raise ModelError(f"weights lack '{missing[0]}': they belong to another graph")
    if extra := sorted(arrays.keys() - expected.keys()):
        raise ModelError(f"weights hold '{extra[0]}', which the graph has not: they belong to another graph")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ModelError(
                f"'{name}' has shape {arrays[name].shape}, the graph wants {shape}: another graph's weights"
            )
        if not np.isfinite(arrays[name]).all():
            raise ModelError(f"'{name}' holds values that are not finite: train again with a lower rate")


def _check_ranges(node: Node, weights: Mapping[str, IntArray]) -> None:
    match node.layer:
        case Conv2d() | Linear():
            limit = 2 ** (node.layer.weight_bits - 1) - 1
            _need(f"{node.name}.weight", weights, -limit, limit)
            _need(f"{node.name}.shift", weights, -LEFT_MAX, RIGHT_MAX)
            if node.layer.bias and isinstance(node.layer, Conv2d):
                _need(f"{node.name}.bias", weights, CURRENT_MIN, CURRENT_MAX)
        case Lif():
            _need(f"{node.name}.threshold", weights, 1, 2 ** (node.layer.membrane_bits - 1) - 1)
            if node.layer.folded_norm:
                _need(f"{node.name}.bias", weights, CURRENT_MIN, CURRENT_MAX)
                if not (np.abs(weights[f"{node.name}.sign"]) == 1).all():
                    raise ModelError(f"'{node.name}.sign' holds a value that is neither -1 nor 1")
        case _:
            pass


def _need(name: str, weights: Mapping[str, IntArray], low: int, high: int) -> None:
    least, most = int(weights[name].min()), int(weights[name].max())
    if least < low or most > high:
        raise ModelError(f"'{name}' spans {least}..{most}: it must stay within {low}..{high}")
