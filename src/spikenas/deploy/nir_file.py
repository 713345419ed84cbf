"""A NIR file as plain nodes and edges: opened, nested graphs unfolded, delays on edges, in an order to compute.

The HDF5 tree is read directly, not through the package nir, which stops at the first node it does not know, without
a name, and at graphs that other frameworks write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikenas.errors import GraphError, MissingTool, ModelError

NEURONS = ("LIF", "IF", "Threshold")
THROUGH = "Through"
"""what a nested graph's Input and Output become"""


@dataclass(frozen=True, slots=True)
class NirNode:
    """A node's kind, arrays and metadata as they stand in the file."""

    name: str
    kind: str
    fields: Mapping[str, Any]
    stated: Mapping[str, Any]

    def array(self, field: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A numeric field. Raises GraphError when it is absent, no number or not finite."""
        try:
            array = np.asarray(self.fields[field], dtype=np.float64)
        except (KeyError, ValueError, TypeError) as error:
            raise GraphError(
                f"node '{self.name}' ({self.kind}) has no numeric '{field}': write the file again"
            ) from error
        if not np.isfinite(array).all():
            raise GraphError(f"node '{self.name}' ({self.kind}): '{field}' holds values that are not finite")
        return array


@dataclass(frozen=True, slots=True)
class NirEdge:
    source: str
    target: str
    delay: int = 0


@dataclass(frozen=True, slots=True)
class NirFile:
    """Nodes in an order in which they can be computed, edges with delays 0 or 1."""

    nodes: Mapping[str, NirNode]
    edges: tuple[NirEdge, ...]
    stated: Mapping[str, Any]
    dt: float

    def sources(self, name: str) -> list[NirEdge]:
        return [edge for edge in self.edges if edge.target == name]

    def consumers(self, name: str) -> list[NirEdge]:
        return [edge for edge in self.edges if edge.source == name]


def read_file(path: Path, dt: float | None, default_dt: float) -> NirFile:
    """Open a NIR file.

    Raises ModelError when it cannot be read, GraphError for a structure no network has, MissingTool without h5py.
    """
    tree = _tree(Path(path))
    nodes: dict[str, NirNode] = {}
    pairs = _unfold(tree, "", nodes)
    stated = _mapping(tree.get("metadata"))
    dt = dt if dt is not None else _stated_dt(stated, default_dt)
    for kind in ("Input", "Output"):
        names = [name for name, node in nodes.items() if node.kind == kind]
        if len(names) != 1:
            listed = f" ({', '.join(names[:4])})" if names else ""
            raise GraphError(f"{path}: {len(names)} {kind} nodes{listed}, and one is needed: keep one")
    edges = _with_delays(nodes, pairs, stated, dt)
    edges = _without_through(nodes, edges)
    order, edges = _order(nodes, edges)
    return NirFile({name: nodes[name] for name in order}, tuple(edges), stated, dt)


def _tree(path: Path) -> Mapping[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingTool("NIR files need the package h5py: pip install 'spikenas[nir]'") from error
    if not path.is_file():
        raise ModelError(f"there is no file {path}: name a NIR file")
    try:
        with h5py.File(path, "r") as file:
            tree = _plain(file)["node"]
            kind = tree["type"]
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelError(f"{path} is no whole NIR file ({reason}): write it again with nir.write") from error
    if kind != "NIRGraph":
        raise GraphError(f"{path} holds a single {kind}: wrap it in a NIRGraph with an Input and an Output")
    return _mapping(tree)


def _plain(item: Any, above: tuple[Any, ...] = ()) -> Any:
    """Groups as dictionaries, data sets as strings, lists of strings or arrays."""
    if hasattr(item, "items"):
        if item in above:  # a damaged link; following it would not end
            raise ValueError(f"group {item.name} contains itself")
        return {str(key): _plain(value, (*above, item)) for key, value in item.items()}
    value = item[()]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        return [[_text(entry) for entry in row] if isinstance(row, np.ndarray) else _text(row) for row in value]
    return value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _stated_dt(stated: Mapping[str, Any], default: float) -> float:
    try:
        dt = float(stated.get("dt", default))
    except (TypeError, ValueError):
        return default
    return dt if np.isfinite(dt) and dt > 0 else default


def _unfold(graph: Mapping[str, Any], prefix: str, nodes: dict[str, NirNode]) -> list[tuple[str, str]]:
    """Put the nodes of ``graph`` and of all graphs in it into ``nodes``; returns the edges."""
    pairs: list[tuple[str, str]] = []
    doors: dict[str, dict[str, list[str]]] = {}
    for key, fields in _mapping(graph.get("nodes")).items():
        name, kind = prefix + key, _mapping(fields).get("type")
        if not isinstance(kind, str):
            raise GraphError(f"node '{name}' has no type: write the file again with nir.write")
        if kind == "NIRGraph":
            pairs += _unfold(fields, f"{name}.", nodes)
            doors[name] = _doors(name, fields)
        else:
            nested = THROUGH if prefix and kind in ("Input", "Output") else kind
            nodes[name] = NirNode(name, nested, fields, _mapping(fields.get("metadata")))
    for row in graph.get("edges", []):
        if not isinstance(row, list) or len(row) != 2:
            raise GraphError(f"edges of '{prefix or 'the graph'}' are no pairs of names: write the file again")
        ends = [prefix + end for end in row]
        for place, (end, side) in enumerate(zip(ends, ("Output", "Input"), strict=True)):
            ends[place] = doors[end][side][0] if end in doors else end
            if ends[place] not in nodes:
                raise GraphError(f"edge {' -> '.join(row)}: there is no node '{row[place]}'")
        pairs.append((ends[0], ends[1]))
    return list(dict.fromkeys(pairs))


def _doors(name: str, graph: Mapping[str, Any]) -> dict[str, list[str]]:
    doors: dict[str, list[str]] = {"Input": [], "Output": []}
    for key, fields in _mapping(graph.get("nodes")).items():
        if (kind := _mapping(fields).get("type")) in doors:
            doors[kind].append(f"{name}.{key}")
    for kind, found in doors.items():
        if len(found) != 1:
            raise GraphError(f"nested graph '{name}' has {len(found)} {kind} nodes: it needs one")
    return doors


def _with_delays(
    nodes: Mapping[str, NirNode], pairs: list[tuple[str, str]], stated: Mapping[str, Any], dt: float
) -> list[NirEdge]:
    """Every edge; those the metadata calls delayed, and those out of a Delay node, with their delay."""
    try:
        late = {(str(source), str(target)) for source, target in json.loads(stated.get("delayed_edges", "[]"))}
    except (TypeError, ValueError):
        late = set()
    edges = []
    for source, target in pairs:
        delay = int((source, target) in late)
        if nodes[source].kind == "Delay":
            delay += _steps(nodes[source], dt)
        edges.append(NirEdge(source, target, delay))
    return edges


def _steps(node: NirNode, dt: float) -> int:
    delays = np.unique(np.rint(node.array("delay") / dt))
    if delays.size != 1 or delays[0] not in (0, 1):
        raise GraphError(
            f"node '{node.name}' delays by {node.array('delay').max():g} s: a delay is 0 or one step ({dt:g} s) for all"
        )
    return int(delays[0])


def _without_through(nodes: dict[str, NirNode], edges: list[NirEdge]) -> list[NirEdge]:
    """Join what comes before and after nodes that only pass on."""
    for name in [name for name, node in nodes.items() if node.kind in (THROUGH, "Delay", "Identity")]:
        into = [edge for edge in edges if edge.target == name]
        out = [edge for edge in edges if edge.source == name]
        edges = [edge for edge in edges if name not in (edge.source, edge.target)]
        edges += [NirEdge(a.source, b.target, a.delay + b.delay) for a in into for b in out if a.source != name]
        if name in (edge.source for edge in into) or not into or not out:
            raise GraphError(f"node '{name}' ({nodes[name].kind}) does not lead from one node to another: connect it")
        del nodes[name]
    for edge in edges:
        if edge.delay > 1:
            raise GraphError(f"edge {edge.source} -> {edge.target} is delayed {edge.delay} steps: one step is the most")
    return edges


def _order(nodes: Mapping[str, NirNode], edges: list[NirEdge]) -> tuple[list[str], list[NirEdge]]:
    """Nodes in an order in which they can be computed, and the edges, those that close a cycle delayed.

    A cycle is closed by the edge that returns to the node at which, coming from the Input, it was entered. Raises
    GraphError when no neuron is on it.
    """
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for edge in edges:
        if not edge.delay:
            after[edge.source].append(edge.target)
    start = next(name for name, node in nodes.items() if node.kind == "Input")
    late: set[tuple[str, str]] = set()
    done: list[str] = []
    for leaving, path in _walk(start, after):
        if leaving is None:
            done.append(path[-1])
            continue
        cycle = path[path.index(leaving) :]
        if not any(nodes[name].kind in NEURONS for name in cycle):
            raise GraphError(
                f"nodes {' -> '.join([*cycle, leaving])} are a cycle without neuron or delay: "
                "put a LIF or a Delay of one step on it"
            )
        late.add((path[-1], leaving))
    if lost := [name for name in nodes if name not in done]:
        raise GraphError(f"node '{lost[0]}' gets nothing from the Input in the same step: connect it or remove it")
    order = done[::-1]
    return order, [NirEdge(e.source, e.target, e.delay or int((e.source, e.target) in late)) for e in edges]


def _walk(start: str, after: Mapping[str, list[str]]) -> Iterator[tuple[str | None, list[str]]]:
    """Depth first: (None, path to a node) when all behind it is done, (node, path) when an edge returns to it."""
    path, open_, seen = [start], {start}, {start}
    pending = [iter(after[start][::-1])]
    while path:
        following = next(pending[-1], None)
        if following is None:
            yield None, path
            open_.discard(path.pop())
            pending.pop()
        elif following in open_:
            yield following, path
        elif following not in seen:
            seen.add(following)
            open_.add(following)
            path.append(following)
            pending.append(iter(after[following][::-1]))
