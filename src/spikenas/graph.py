"""The closed vocabulary of layers, and the graph everything else reads.

A graph describes one spiking network for one sample: which layers there are, what flows between them at
each of ``timesteps`` steps, and nothing about weights. Every layer is a frozen value defined by its equation.

The neuron (:class:`Lif`) is the one stateful layer. With input current ``x``, membrane ``v`` (0 at the start of
every sample) it computes, at each step::

    u = decay * v + gain * x
    s = u >= threshold
    v = u * (1 - s)             reset "zero"
    v = u - s * threshold       reset "subtract"

spikingjelly's ``LIFNode(tau, decay_input=True)``, which SNASNet uses, is ``decay = 1 - 1/tau``, ``gain = 1/tau``.

>>> graph = Graph(4, (Node("image", Input((1, 8, 8))), Node("conv", Conv2d(2)), Node("lif", Lif()),
...                   Node("flat", Flatten()), Node("fc", Linear(10)), Node("mean", Mean()), Node("out", Output())),
...               (Edge("image", "conv"), Edge("conv", "lif"), Edge("lif", "flat"), Edge("flat", "fc"),
...                Edge("fc", "mean"), Edge("mean", "out")))
>>> graph.shapes["conv"], graph.shapes["out"], graph.parameter_count
((2, 8, 8), (10,), 1308)
>>> from_json(to_json(graph)) == graph
True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import Any

from spikenas.errors import GraphError
from spikenas.html_table import html_table

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Reset(StrEnum):
    """What a spike does to the membrane."""

    ZERO = "zero"
    SUBTRACT = "subtract"


@dataclass(frozen=True, slots=True)
class Input:
    """The sample: a static image (C, H, W), or one frame of an event stream when ``static`` is false."""

    shape: Shape
    static: bool = True


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Cross-correlation, (C, H, W) -> (out_channels, H', W'), H' = (H + 2 padding - kernel) // stride + 1."""

    out_channels: int
    kernel_size: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    weight_bits: int = 8


@dataclass(frozen=True, slots=True)
class BatchNorm2d:
    """y = weight * (x - running_mean) / sqrt(running_var + eps) + bias, per channel."""

    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class Lif:
    """The leaky integrate-and-fire neuron of the module's docstring; ``decay=1, gain=1`` is the IF neuron.

    ``folded_norm`` stands only in integer graphs: a BatchNorm2d in front of the neuron has become a sign and a
    bias per channel, ``x = sign * x + bias`` (see :mod:`spikenas.model`).
    """

    decay: float = 0.5
    gain: float = 1.0
    threshold: float = 1.0
    reset: Reset = Reset.ZERO
    membrane_bits: int = 16
    folded_norm: bool = False


@dataclass(frozen=True, slots=True)
class AvgPool2d:
    """Mean over windows; padded zeros count as values (torch's count_include_pad)."""

    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, slots=True)
class Linear:
    """y = weight @ x (+ bias), (N,) -> (out_features,)."""

    out_features: int
    bias: bool = True
    weight_bits: int = 8


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of all incoming edges; the one layer with several inputs, and the only one a delayed edge may enter."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """(C, H, W) -> (C * H * W,), channels slowest as in torch."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The mean of each run of ``group`` neighbouring features, (N,) -> (N // group,)."""

    group: int


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over all timesteps; it stands before the Output, and nowhere else."""


@dataclass(frozen=True, slots=True)
class Output:
    """The end of the graph: one value per class."""


Layer = Input | Conv2d | BatchNorm2d | Lif | AvgPool2d | Linear | Add | Flatten | Vote | Mean | Output
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (Input, Conv2d, BatchNorm2d, Lif, AvgPool2d, Linear, Add, Flatten, Vote, Mean, Output)
}


class Kind(StrEnum):
    """What a layer's output is made of; decides how it is stored and how it becomes integer."""

    IMAGE = "image"  # the input sample, 8 bits a value
    SPIKES = "spikes"  # 0 or 1
    COUNTS = "counts"  # sums of a few spikes
    CURRENT = "current"  # real values: what neurons integrate, and logits


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
        _check_structure(self)
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
        return f"{shape} to {classes}, {self.timesteps} steps, {self.parameter_count:,} parameters"

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
            shapes[node.name] = _shape(node, incoming)
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
                kinds[node.name] = Kind.CURRENT if delayed else _kind(node.layer, incoming)
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
            for parameter, shape in _parameters(self, node).items():
                shapes[f"{node.name}.{parameter}"] = shape
        return shapes

    @cached_property
    def parameter_count(self) -> int:
        """Trained numbers, as ``sum(p.numel() for p in network.parameters())`` counts them."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())

    def in_shape(self, name: str) -> Shape:
        """Shape of what enters a node with one input (for Add: of each of them)."""
        return self.shapes[self.sources[name][0].source]

    @property
    def has_feedback(self) -> bool:
        return any(edge.delay for edge in self.edges)


class GraphBuilder:
    """Grows a graph node by node; an operation is a function that calls ``add``.

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


# --- validation -------------------------------------------------------------------------------------------


def _group(graph: Graph, key: Callable[[Edge], str]) -> dict[str, tuple[Edge, ...]]:
    groups: dict[str, list[Edge]] = {node.name: [] for node in graph.nodes}
    for edge in graph.edges:
        groups[key(edge)].append(edge)
    return {name: tuple(edges) for name, edges in groups.items()}


def _check_structure(graph: Graph) -> None:
    if not isinstance(graph.timesteps, int) or graph.timesteps < 1:
        raise GraphError(f"timesteps {graph.timesteps!r}: a graph runs at least 1 step")
    position: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        if node.name in position:
            raise GraphError(f"node '{node.name}' appears twice: names must differ")
        position[node.name] = index
        _check_layer(node)
    for kind in (Input, Output):
        count = sum(isinstance(node.layer, kind) for node in graph.nodes)
        if count != 1:
            raise GraphError(f"{count} {kind.__name__} nodes: a graph has exactly one")
    for edge in graph.edges:
        _check_edge(graph, edge, position)
    for node in graph.nodes:
        _check_inputs(node, graph.sources[node.name], graph.consumers[node.name], graph.layers)


def _check_edge(graph: Graph, edge: Edge, position: Mapping[str, int]) -> None:
    for end in (edge.source, edge.target):
        if end not in position:
            raise GraphError(f"edge {edge.source} -> {edge.target}: there is no node '{end}'")
    if edge.delay not in (0, 1):
        raise GraphError(f"edge {edge.source} -> {edge.target} has delay {edge.delay}: only 0 and 1 exist")
    if edge.delay == 0 and position[edge.source] >= position[edge.target]:
        raise GraphError(
            f"edge {edge.source} -> {edge.target} runs backwards: order the nodes, or give a cycle's edge delay=1"
        )
    if edge.delay == 1 and not isinstance(graph.nodes[position[edge.target]].layer, Add):
        raise GraphError(f"delayed edge {edge.source} -> {edge.target}: a delayed edge must enter an Add node")


def _check_inputs(
    node: Node, sources: tuple[Edge, ...], consumers: tuple[Edge, ...], layers: Mapping[str, Layer]
) -> None:
    now = sum(edge.delay == 0 for edge in sources)
    if isinstance(node.layer, Input):
        if sources:
            raise GraphError(f"input node '{node.name}' has incoming edges: it must have none")
    elif isinstance(node.layer, Add):
        if now == 0:
            raise GraphError(f"node '{node.name}': Add needs at least one edge without delay")
    elif now != 1:
        raise GraphError(f"node '{node.name}': {type(node.layer).__name__} takes one input, it has {now}")
    if isinstance(node.layer, Output):
        if consumers:
            raise GraphError(f"output node '{node.name}' feeds '{consumers[0].target}': nothing follows the output")
    elif not consumers:
        raise GraphError(f"node '{node.name}' feeds nothing: remove it or connect it")
    for edge in consumers:
        if isinstance(node.layer, Mean) != isinstance(layers[edge.target], Output):
            raise GraphError(f"edge {edge.source} -> {edge.target}: a Mean feeds the Output, and nothing else does")


_BOUNDS: dict[str, tuple[float, float]] = {
    "out_channels": (1, 2**20),
    "out_features": (1, 2**24),
    "group": (1, 2**20),
    "groups": (1, 2**20),
    "weight_bits": (2, 32),
    "membrane_bits": (8, 32),
    "decay": (0.0, 1.0),
    "gain": (1e-6, 1e6),
    "threshold": (1e-6, 1e6),
    "eps": (0.0, 1.0),
}
_PAIR_LEAST = {"kernel_size": 1, "stride": 1, "padding": 0}
_REAL = ("decay", "gain", "threshold", "eps")


def _check_layer(node: Node) -> None:
    for item in fields(node.layer):
        value = getattr(node.layer, item.name)
        if item.name in _BOUNDS:
            low, high = _BOUNDS[item.name]
            number = int | float if item.name in _REAL else int
            if isinstance(value, bool) or not isinstance(value, number) or not low <= value <= high:
                raise GraphError(f"node '{node.name}': {item.name} is {value!r}, it must lie in {low}..{high}")
        elif item.name in _PAIR_LEAST or item.name == "shape":
            least, wanted = _PAIR_LEAST.get(item.name, 1), 2 if item.name in _PAIR_LEAST else 0
            numbers = isinstance(value, tuple) and all(type(v) is int and v >= least for v in value)
            if not numbers or not value or (wanted and len(value) != wanted):
                entries = f"{wanted} entries" if wanted else "every entry"
                raise GraphError(
                    f"node '{node.name}': {item.name} is {value!r}, it takes {entries} of at least {least}"
                )
        elif item.name in ("bias", "static", "folded_norm") and not isinstance(value, bool):
            raise GraphError(f"node '{node.name}': {item.name} is {value!r}, it must be true or false")


# --- inference --------------------------------------------------------------------------------------------


def _shape(node: Node, incoming: list[Shape]) -> Shape:
    layer, name = node.layer, node.name
    if isinstance(layer, Input):
        return layer.shape
    first = incoming[0]
    match layer:
        case Conv2d():
            _need_rank(name, first, 3)
            if first[0] % layer.groups or layer.out_channels % layer.groups:
                raise GraphError(
                    f"node '{name}': groups={layer.groups} does not divide {first[0]} -> {layer.out_channels} channels"
                )
            return (layer.out_channels, *_window(name, layer, first))
        case AvgPool2d():
            _need_rank(name, first, 3)
            return (first[0], *_window(name, layer, first))
        case BatchNorm2d():
            _need_rank(name, first, 3)
            return first
        case Linear():
            _need_rank(name, first, 1)
            return (layer.out_features,)
        case Flatten():
            return (prod(first),)
        case Vote():
            _need_rank(name, first, 1)
            if first[0] % layer.group:
                raise GraphError(f"node '{name}': groups of {layer.group} do not divide {first[0]} features")
            return (first[0] // layer.group,)
        case Add():
            if any(shape != first for shape in incoming):
                raise GraphError(f"node '{name}' adds shapes {incoming}: they must be equal")
            return first
        case Output():
            _need_rank(name, first, 1)
            return first
        case _:
            return first


def _need_rank(name: str, shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        wanted = "(channels, height, width)" if rank == 3 else "(features,)"
        raise GraphError(f"node '{name}' gets shape {shape}: it needs {wanted}")


def _window(name: str, layer: Conv2d | AvgPool2d, shape: Shape) -> tuple[int, ...]:
    sizes = tuple(
        (size + 2 * pad - kernel) // stride + 1
        for size, kernel, stride, pad in zip(shape[1:], layer.kernel_size, layer.stride, layer.padding, strict=True)
    )
    if any(size < 1 for size in sizes):
        raise GraphError(f"node '{name}': a {layer.kernel_size} window does not fit into {shape[1:]}")
    return sizes


def _kind(layer: Layer, incoming: list[Kind]) -> Kind:
    match layer:
        case Input():
            return Kind.IMAGE
        case Lif():
            return Kind.SPIKES
        case AvgPool2d() if incoming[0] is Kind.SPIKES:
            return Kind.COUNTS
        case AvgPool2d() | Flatten():
            return incoming[0]
        case Add() if all(kind in (Kind.SPIKES, Kind.COUNTS) for kind in incoming):
            return Kind.COUNTS
        case _:
            return Kind.CURRENT


def _parameters(graph: Graph, node: Node) -> dict[str, Shape]:
    match node.layer:
        case Conv2d() as conv:
            shape = (conv.out_channels, graph.in_shape(node.name)[0] // conv.groups, *conv.kernel_size)
            return {"weight": shape, **({"bias": (conv.out_channels,)} if conv.bias else {})}
        case Linear() as linear:
            matrix = (linear.out_features, graph.in_shape(node.name)[0])
            return {"weight": matrix, **({"bias": (linear.out_features,)} if linear.bias else {})}
        case BatchNorm2d():
            channels = graph.shapes[node.name][:1]
            return {"weight": channels, "bias": channels}
        case _:
            return {}


# --- JSON -------------------------------------------------------------------------------------------------

SCHEMA = 1


def to_json(graph: Graph) -> str:
    """One line of JSON that :func:`from_json` turns back into an equal graph."""
    nodes = [{"name": node.name, "kind": type(node.layer).__name__, **asdict(node.layer)} for node in graph.nodes]
    edges = [[edge.source, edge.target, edge.delay] for edge in graph.edges]
    return json.dumps({"spikenas_graph": SCHEMA, "timesteps": graph.timesteps, "nodes": nodes, "edges": edges})


def from_json(text: str) -> Graph:
    """Read what :func:`to_json` wrote. Raises GraphError on anything else."""
    try:
        data = json.loads(text)
        version = data["spikenas_graph"]
        rows, edges, timesteps = data["nodes"], data["edges"], data["timesteps"]
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(f"not a spikenas graph in JSON ({error}): write one with spikenas.graph.to_json") from error
    if version != SCHEMA:
        raise GraphError(f"graph schema {version!r} is unknown: this version reads schema {SCHEMA}")
    try:
        nodes = tuple(_node(row) for row in rows)
        return Graph(timesteps, nodes, tuple(Edge(*edge) for edge in edges))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise GraphError(f"malformed graph in JSON: {error}") from error


def _node(row: Mapping[str, Any]) -> Node:
    kind: Callable[..., Layer] | None = LAYERS.get(row.get("kind", ""))
    if kind is None:
        raise GraphError(f"node '{row.get('name')}': layer kind {row.get('kind')!r} is not one of {', '.join(LAYERS)}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items() if key not in ("name", "kind")}
    unknown = values.keys() - {item.name for item in fields(LAYERS[row["kind"]])}
    if unknown:
        raise GraphError(f"node '{row.get('name')}': {row['kind']} has no field {sorted(unknown)[0]!r}")
    if "reset" in values:
        values["reset"] = Reset(str(values["reset"]))
    return Node(str(row["name"]), kind(**values))
