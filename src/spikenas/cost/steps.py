"""The cut of a graph into steps, and what enters each step's sum.

A *step* computes one current (or pooled value), everything that flows into it without being stored, and the neurons
that read it. Only what a step writes occupies memory. The sum of a step is a list of *groups*, one for each layer
with weights and one for all that needs none; a group is a list of *terms*, each of which reads one stored value.
The planner, the cost model and the C writer all work from this cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

from spikenas.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Kind,
    Lif,
    Linear,
    Mean,
    Output,
    Pair,
    Shape,
    Vote,
)
from spikenas.model import in_accumulator


@dataclass(frozen=True, slots=True)
class Step:
    """Compute ``node`` from the stored values ``reads`` through the unstored ``fused`` nodes; store ``writes``."""

    node: str
    fused: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Reading(StrEnum):
    """How a term adds a stored value to the sum."""

    ROWS = "rows"  # a row of weights for every spike, gathered in a list of events
    UNITS = "units"  # one weight a spike and channel: grouped convolutions, and spikes added as they are
    DENSE = "dense"  # multiply-accumulates over real values
    SKIP = "skip"  # real values as they are
    POOL = "pool"  # the mean (of spike counts and images: the sum) of a window of real values


@dataclass(frozen=True, slots=True)
class Window:
    """Where a window of (height, width) values lies for each output pixel."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @property
    def taps(self) -> int:
        return prod(self.kernel)


POINT = Window()


@dataclass(frozen=True, slots=True)
class Term:
    """``source`` seen from an output pixel: a ``window`` on a map of (height, width), each tap of it a ``pool``."""

    source: str
    reading: Reading
    window: Window = POINT
    pool: Window = POINT
    map: Pair = (1, 1)
    delay: int = 0
    flat: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether an output pixel sees only the source's pixel at the same place."""
        return self.window == POINT and self.pool == POINT and not self.flat


@dataclass(frozen=True, slots=True)
class Group:
    """Terms that share the weights of ``layer`` (None: no weights); ``vote`` neighbouring sums become one."""

    layer: str | None
    vote: int
    terms: tuple[Term, ...]
    static: bool


def map_size(shape: Shape) -> Pair:
    """(height, width); a vector is one pixel."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


# --- what is stored ---------------------------------------------------------------------------------------


def stored_nodes(graph: Graph) -> frozenset[str]:
    """Nodes whose output lies in memory, rather than being computed on the fly by the steps that use it.

    Pooled spikes are not stored: a window of k x k spikes takes k^2 bits, its count would take 16, and a kernel that
    gathers events adds a spike's row of weights whichever window it falls into. Counts that are delayed, or pooled
    again, are stored as 16-bit numbers.
    """
    return frozenset(node.name for node in graph.nodes if _is_stored(graph, node.name))


def _is_stored(graph: Graph, name: str) -> bool:
    layer, kind = graph[name], graph.kinds[name]
    if isinstance(layer, Input | Lif | Output):
        return True
    if any(edge.delay for edge in graph.consumers[name]):
        return True
    if isinstance(layer, Flatten):
        return False  # another order of values that are stored
    if kind is Kind.CURRENT:
        return not in_accumulator(graph, name) and not _only_neurons(graph, name)
    if isinstance(layer, AvgPool2d):
        return kind is Kind.IMAGE or _feeds_pool(graph, name) or not _pools_spikes(graph, name)
    return isinstance(layer, Add) and _mixes_orders(graph, name)


def _only_neurons(graph: Graph, name: str) -> bool:
    return all(isinstance(graph[edge.target], Lif) and not edge.delay for edge in graph.consumers[name])


def _feeds_pool(graph: Graph, name: str) -> bool:
    targets = [edge.target for edge in graph.consumers[name]]
    return any(
        isinstance(graph[t], AvgPool2d) or (graph.kinds[t] is Kind.COUNTS and _feeds_pool(graph, t))
        for t in targets
        if isinstance(graph[t], AvgPool2d | Add)
    )


def _pools_spikes(graph: Graph, name: str) -> bool:
    """Whether everything in the windows of a pooling is spikes, added at most."""
    sources = [edge.source for edge in graph.sources[name]]
    return all(isinstance(graph[s], Lif) or (isinstance(graph[s], Add) and _pools_spikes(graph, s)) for s in sources)


def _mixes_orders(graph: Graph, name: str) -> bool:
    """Whether counts in a map's order meet counts in a vector's order, whose rows of weights would differ."""
    sources = {edge.source for edge in graph.sources[name]}
    return len(graph.shapes[name]) == 1 and any(isinstance(graph[source], Flatten) for source in sources)


# --- steps ------------------------------------------------------------------------------------------------


def cut_into_steps(graph: Graph) -> tuple[Step, ...]:
    """The steps of a graph with folded norms, in an order in which they can run."""
    stored = stored_nodes(graph)
    steps = []
    for node in graph.nodes:
        name, layer = node.name, node.layer
        current = graph.kinds[name] is Kind.CURRENT
        if isinstance(layer, Input):
            continue
        if isinstance(layer, Lif):
            if graph.kinds[graph.sources[name][0].source] is Kind.CURRENT:
                continue  # computed in its current's step
            writes: tuple[str, ...] = (name,)
        else:
            neurons = [e.target for e in graph.consumers[name] if current and isinstance(graph[e.target], Lif)]
            if name not in stored and not neurons:
                continue
            writes = (*([name] if name in stored else []), *neurons)
        fused, reads = _trace_back(graph, name, stored)
        steps.append(Step(name, fused, reads, writes))
    return tuple(steps)


def _trace_back(graph: Graph, name: str, stored: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unstored nodes that flow into ``name``, and the stored values they start from."""
    fused: list[str] = []
    reads: list[str] = []
    pending = [name]
    while pending:
        for edge in graph.sources[pending.pop()]:
            if edge.source in stored:
                if edge.source not in reads:
                    reads.append(edge.source)
            elif edge.source not in fused:
                fused.append(edge.source)
                pending.append(edge.source)
    return tuple(fused), tuple(reads)


# --- terms ------------------------------------------------------------------------------------------------


def groups(graph: Graph, step: Step, stored: frozenset[str]) -> tuple[Group, ...]:
    """What a step adds up, static groups first. Groups without weights and with the same vote are one."""
    plain: dict[tuple[int, bool], list[Term]] = {}
    weighted: list[Group] = []
    for layer, vote, terms in _sum(graph, step.node, step.node, stored, vote=1):
        static = all(term.source in graph.static and not term.delay for term in terms)
        if layer is None:
            for term in terms:
                fixed = term.source in graph.static and not term.delay
                plain.setdefault((vote, fixed), []).append(term)
        else:
            weighted.append(Group(layer, vote, terms, static))
    bare = [Group(None, vote, tuple(terms), static) for (vote, static), terms in plain.items()]
    return tuple(sorted((*weighted, *bare), key=lambda group: not group.static))


def _sum(
    graph: Graph, name: str, root: str, stored: frozenset[str], vote: int
) -> Iterator[tuple[str | None, int, tuple[Term, ...]]]:
    """(layer, vote, terms) of everything that is added up to the value of ``name``."""
    layer = graph[name]
    if name in stored and name != root:
        yield None, vote, tuple(_bare(graph, stored, name))
        return
    sources = graph.sources[name]
    match layer:
        case Add():
            for edge in sources:
                if edge.delay:
                    yield None, vote, tuple(replace(term, delay=1) for term in _bare(graph, stored, edge.source))
                else:
                    yield from _sum(graph, edge.source, root, stored, vote)
        case Conv2d() | Linear():
            yield name, vote, tuple(_weighted(graph, stored, name))
        case AvgPool2d() if not _is_replayed(graph, stored, name, root):
            yield None, vote, tuple(_pooled(graph, stored, name, layer))
        case AvgPool2d() | Flatten():
            yield None, vote, tuple(_units(graph, _paths(graph, stored, name, root)))
        case Vote():
            yield from _sum(graph, sources[0].source, root, stored, vote * layer.group)
        case Lif() | Mean() | Output():
            yield from _sum(graph, sources[0].source, root, stored, vote)
        case _:
            raise NotImplementedError(f"no step computes a {type(layer).__name__}")


def _is_replayed(graph: Graph, stored: frozenset[str], name: str, root: str) -> bool:
    """Whether a pooling reads spikes only, once each: then its windows are walked spike by spike."""
    spikes = graph.kinds[name] is Kind.COUNTS
    return spikes and all(isinstance(graph[p.source], Lif) for p in _paths(graph, stored, name, root))


def _pooled(graph: Graph, stored: frozenset[str], name: str, layer: AvgPool2d) -> Iterator[Term]:
    """A pooling of stored values, and of spikes that were added to them."""
    source = graph.sources[name][0].source
    window = Window(layer.kernel_size, layer.stride, layer.padding)
    for path in _paths(graph, stored, source):
        if isinstance(graph[path.source], Lif):
            yield replace(path, reading=Reading.UNITS, pool=window, map=map_size(graph.shapes[name]))
        else:
            yield replace(path, reading=Reading.POOL, window=window, map=map_size(graph.shapes[source]))


def _bare(graph: Graph, stored: frozenset[str], name: str) -> Iterator[Term]:
    yield from _units(graph, _paths(graph, stored, name))


def _units(graph: Graph, paths: Iterable[Term]) -> Iterator[Term]:
    """Values added as they are; a flattened map is a window that covers it."""
    for path in paths:
        reading = Reading.UNITS if isinstance(graph[path.source], Lif) else Reading.SKIP
        yield replace(path, reading=reading, window=Window(path.map) if path.flat else POINT)


def _weighted(graph: Graph, stored: frozenset[str], name: str) -> Iterator[Term]:
    layer = graph[name]
    for path in _paths(graph, stored, graph.sources[name][0].source):
        if isinstance(layer, Conv2d):
            window = Window(layer.kernel_size, layer.stride, layer.padding)
        else:
            window = Window(path.map) if path.flat else POINT
        if not isinstance(graph[path.source], Lif):
            reading = Reading.DENSE
        else:
            reading = Reading.UNITS if isinstance(layer, Conv2d) and layer.groups > 1 else Reading.ROWS
        yield replace(path, reading=reading, window=window)


def _paths(graph: Graph, stored: frozenset[str], name: str, root: str | None = None) -> Iterator[Term]:
    """The stored values that make up ``name``, an unweighted sum, with the pooling in between."""
    layer = graph[name]
    if name in stored and name != root:
        yield Term(name, Reading.SKIP, map=map_size(graph.shapes[name]))
        return
    for edge in graph.sources[name]:
        for path in _paths(graph, stored, edge.source):
            match layer:
                case AvgPool2d():
                    pool = Window(layer.kernel_size, layer.stride, layer.padding)
                    yield replace(path, pool=pool, map=map_size(graph.shapes[name]))
                case Flatten():
                    yield replace(path, flat=True)
                case Add():
                    yield replace(path, delay=path.delay + edge.delay)
                case _:
                    raise NotImplementedError(f"'{name}' is stored or has weights")
