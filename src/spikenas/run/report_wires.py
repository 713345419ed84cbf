"""A graph's layers as dots and wires: values, and the operations that lead from one to the next.

The layers of one operation (Lif, Conv2d, BatchNorm2d) become one wire, and the Add where branches meet becomes the dot
they lead to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Layer,
    Lif,
    Linear,
    Mean,
    Output,
    Pair,
    Vote,
)

# How spikenas.space.cells names the layers of a cell: cell2_n3 is the sum of node 3, cell2_e13_bn the end of the edge
# 1 -> 3 (and node 3 when nothing else enters it). Poolings and neurons are named after what they read.
IN_CELL = re.compile(r"cell(\d+)_[en]\d")
NODE = re.compile(r"cell\d+_(?:n(\d+)|e\d+(\d)_bn)")


@dataclass(frozen=True, slots=True)
class Wire:
    """From value to value through ``words``, none for a skip; ``cell`` is the number of the cell it is in, if any."""

    source: str
    target: str
    words: tuple[str, ...]
    delay: int
    cell: str
    spiking: bool

    def span(self, position: dict[str, int]) -> tuple[int, int]:
        """The positions it connects, lower first."""
        ends = position[self.source], position[self.target]
        return min(ends), max(ends)


def wires(graph: Graph) -> tuple[list[str], list[Wire]]:
    """The values, in order of computation, and the wires between them."""
    values = [node.name for node in graph.nodes if _is_value(graph, node.name)]
    return values, [wire for name in values for wire in _wires_to(graph, name)]


def _is_value(graph: Graph, name: str) -> bool:
    """Whether the layer's output is a dot; the others are words on a wire."""
    layer, consumers = graph[name], graph.consumers[name]
    if isinstance(layer, Input | Output | Add):
        return True
    if isinstance(layer, Lif | Flatten | Vote | Mean):
        return False
    if len(consumers) > 1:
        return True
    following = graph[consumers[0].target]
    if isinstance(layer, BatchNorm2d) and not isinstance(graph[graph.sources[name][0].source], Conv2d):
        return False
    return not isinstance(following, BatchNorm2d | Add | Flatten | Mean | Vote)


def _wires_to(graph: Graph, name: str) -> Iterator[Wire]:
    if isinstance(graph[name], Add):
        for edge in graph.sources[name]:
            yield _wire(graph, name, [], edge.source, edge.delay)
    elif not isinstance(graph[name], Input):
        yield _wire(graph, name, [name], graph.sources[name][0].source, 0)


def _wire(graph: Graph, target: str, passed: list[str], source: str, delay: int) -> Wire:
    """The wire into ``target`` through the layers ``passed``, followed back from ``source`` to a value."""
    while not _is_value(graph, source):
        passed.append(source)
        source = graph.sources[source][0].source
    passed.reverse()
    return Wire(
        source,
        target,
        tuple(words for name in passed if (words := _words(graph, name))),
        delay,
        _cell(name for name in (*passed, target) if not isinstance(graph[name], Lif)),
        any(isinstance(graph[name], Lif) for name in passed),
    )


def _cell(names: Iterable[str]) -> str:
    """The cell of the first layer that belongs to one; what enters node 0 from outside does not."""
    inside = (name for name in names if node_number(name) != "0")
    return next((match[1] for name in inside if (match := IN_CELL.match(name))), "")


def node_number(name: str) -> str:
    """The number of the cell's node whose value the layer holds, "" when its name does not tell.

    >>> node_number("cell1_n2"), node_number("cell1_e03_bn"), node_number("cell1_n2_pool")
    ('2', '3', '')
    """
    match = NODE.fullmatch(name)
    return (match[1] or match[2]) if match else ""


def _words(graph: Graph, name: str) -> str:
    layer: Layer = graph[name]
    match layer:
        case Lif():
            thresholds = {node.layer.threshold for node in graph.nodes if isinstance(node.layer, Lif)}
            return f"LIF ≥ {layer.threshold:g}" if len(thresholds) > 1 else "LIF"
        case Conv2d():
            depthwise = layer.groups > 1 and layer.groups == graph.in_shape(name)[0]
            kind = "depthwise" if depthwise else "grouped" if layer.groups > 1 else "conv"
            return f"{kind} {_pair(layer.kernel_size)}{_stride(layer.stride)}"
        case BatchNorm2d() if not isinstance(graph[graph.sources[name][0].source], Conv2d):
            return "norm"
        case AvgPool2d():
            stride = "" if layer.stride == layer.kernel_size else _stride(layer.stride)
            return f"avg pool {_pair(layer.kernel_size)}{stride}"
        case Linear():
            return f"linear {layer.out_features}"
        case Vote():
            return f"vote of {layer.group}"
        case Mean():
            return "mean"
        case _:
            return ""


def _pair(sizes: Pair) -> str:
    return f"{sizes[0]}×{sizes[1]}"


def _stride(stride: Pair) -> str:
    if stride == (1, 1):
        return ""
    return f" / {stride[0]}" if stride[0] == stride[1] else f" / {_pair(stride)}"
