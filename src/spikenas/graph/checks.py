"""What a well-formed graph is; what is not is refused with the node's or the edge's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from spikenas.errors import GraphError
from spikenas.graph.layers import Add, Input, Layer, Mean, Output

if TYPE_CHECKING:
    from spikenas.graph.graph import Edge, Graph, Node


def check_structure(graph: Graph) -> None:
    """Raises GraphError for what is malformed, but for shapes."""
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
        elif item.name in ("bias", "static", "mirrored", "folded_norm") and not isinstance(value, bool):
            raise GraphError(f"node '{node.name}': {item.name} is {value!r}, it must be true or false")
    if isinstance(node.layer, Input) and node.layer.mirrored and not node.layer.static:
        raise GraphError(f"node '{node.name}': frames are not mirrored, only a static image is")
