"""Layers with names, joined by edges: the graph, and what follows from it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

from spikenas.errors import GraphError
from spikenas.graph.checks import check_structure
from spikenas.graph.layers import Input, Kind, Layer, Lif, Output, Shape
from spikenas.graph.rules import kind_of, parameters_of, shape_of
from spikenas.html_table import html_table


@dataclass(frozen=True, slots=True)
class Node:
    """A layer with its name."""

    name: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class Edge:
    """``source``'s output at step ``t - delay`` enters ``target`` at step ``t`` (zero before the first step)."""

    source: str
    target: str
    delay: int = 0


@dataclass(frozen=True)
class Graph:
    """A spiking network's structure, nodes in an order in which they can be computed.

    Raises GraphError, naming the node, when the structure is malformed.
    """

    timesteps: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        check_structure(self)
        _ = self.shapes

    def __getitem__(self, name: str) -> Layer:
        return self.layers[name]

    def __repr__(self) -> str:
        return f"<Graph: {self._summary()}>"

    def _repr_html_(self) -> str:
        counts = {name: 0 for name in self.layers}
        for key, shape in self.parameter_shapes.items():
            counts[key.rpartition(".")[0]] += prod(shape)
        rows = [
            (name, type(layer).__name__, "x".join(map(str, self.shapes[name])), counts[name] or None)
            for name, layer in self.layers.items()
        ]
        return html_table(rows, ("node", "layer", "shape", "parameters"), f"Graph: {self._summary()}")

    def _summary(self) -> str:
        ends = (self.shapes[self.input], self.shapes[self.output])
        shape, classes = ("x".join(map(str, end)) for end in ends)
        views = " of the image and of its mirror image" if self.views > 1 else ""
        return f"{shape} to {classes}, {self.timesteps} steps{views}, {self.parameter_count:,} parameters"

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Layer by name, in order."""
        return {node.name: node.layer for node in self.nodes}

    @cached_property
    def sources(self) -> dict[str, tuple[Edge, ...]]:
        """The edges that enter each node."""
        return _group(self, lambda edge: edge.target)

    @cached_property
    def consumers(self) -> dict[str, tuple[Edge, ...]]:
        """The edges that leave each node."""
        return _group(self, lambda edge: edge.source)

    @cached_property
    def input(self) -> str:
        return next(node.name for node in self.nodes if isinstance(node.layer, Input))

    @cached_property
    def output(self) -> str:
        return next(node.name for node in self.nodes if isinstance(node.layer, Output))

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of each node, without batch and time."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            incoming = [shapes[edge.source] for edge in self.sources[node.name] if edge.delay == 0]
            shapes[node.name] = shape_of(node.name, node.layer, incoming)
        for edge in self.edges:
            if edge.delay and shapes[edge.source] != shapes[edge.target]:
                raise GraphError(
                    f"delayed edge {edge.source} -> {edge.target} joins shapes {shapes[edge.source]} and "
                    f"{shapes[edge.target]}: they must be equal"
                )
        return shapes

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """What each node's output is made of."""
        kinds: dict[str, Kind] = {}
        while True:  # again when a delayed edge brought something its target had not counted on
            before = dict(kinds)
            for node in self.nodes:
                incoming = [kinds[edge.source] for edge in self.sources[node.name] if edge.source in kinds]
                delayed = any(e.delay for e in self.sources[node.name])
                kinds[node.name] = Kind.CURRENT if delayed else kind_of(node.layer, incoming)
            if kinds == before:
                return kinds

    @cached_property
    def static(self) -> frozenset[str]:
        """Nodes whose output is the same at every step, so that it need be computed only once."""
        static: set[str] = set()
        for node in self.nodes:
            edges = self.sources[node.name]
            if isinstance(node.layer, Input):
                fixed = node.layer.static
            else:
                fixed = not isinstance(node.layer, Lif) and all(e.source in static and not e.delay for e in edges)
            if fixed:
                static.add(node.name)
        return frozenset(static)

    @cached_property
    def views(self) -> int:
        """How often an inference runs the network: twice where the Input is mirrored."""
        layer = self.layers[self.input]
        return 2 if isinstance(layer, Input) and layer.mirrored else 1

    @property
    def inference_steps(self) -> int:
        """The timesteps of all views."""
        return self.timesteps * self.views

    @cached_property
    def sample_shape(self) -> Shape:
        """Shape of what the network classifies: the Input's, or for an Input that is not static (T, C, H, W)."""
        layer = self.layers[self.input]
        assert isinstance(layer, Input)
        return layer.shape if layer.static else (self.timesteps, *layer.shape)

    @cached_property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shape of every trained array, by ``node.parameter``."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            incoming = [self.shapes[edge.source] for edge in self.sources[node.name]]
            for parameter, shape in parameters_of(node.layer, incoming).items():
                shapes[f"{node.name}.{parameter}"] = shape
        return shapes

    @cached_property
    def parameter_count(self) -> int:
        """Trained numbers, as ``sum(p.numel() for p in network.parameters())`` counts them."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())

    def in_shape(self, name: str) -> Shape:
        """Shape of what enters a node with one input (for Add: of each of them)."""
        return self.shapes[self.sources[name][0].source]

    def fan_in(self, name: str) -> int:
        """Weights that meet in one value of a Conv2d or Linear."""
        return prod(self.parameter_shapes[f"{name}.weight"][1:])

    @property
    def has_feedback(self) -> bool:
        return any(edge.delay for edge in self.edges)


class GraphBuilder:
    """Grows a graph node by node; an operation is a function that calls ``add``.

    >>> from spikenas.graph import Conv2d
    >>> builder = GraphBuilder()
    >>> image = builder.add(Input((1, 4, 4)), name="image")
    >>> spikes = builder.add(Lif(), builder.add(Conv2d(2), image))
    >>> spikes
    'lif_2'
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []

    def add(self, layer: Layer, *sources: str, name: str | None = None) -> str:
        """Append ``layer`` fed by ``sources``; returns its name."""
        name = name or f"{type(layer).__name__.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(name, layer))
        self.edges.extend(Edge(source, name) for source in sources)
        return name

    def feedback(self, source: str, target: str) -> None:
        """Let ``source`` enter the Add node ``target`` one step later."""
        self.edges.append(Edge(source, target, delay=1))

    def build(self, timesteps: int) -> Graph:
        return Graph(timesteps, tuple(self.nodes), tuple(self.edges))


def _group(graph: Graph, key: Callable[[Edge], str]) -> dict[str, tuple[Edge, ...]]:
    groups: dict[str, list[Edge]] = {node.name: [] for node in graph.nodes}
    for edge in graph.edges:
        groups[key(edge)].append(edge)
    return {name: tuple(edges) for name, edges in groups.items()}
