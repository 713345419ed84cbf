"""A graph as one line of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from spikenas.errors import GraphError
from spikenas.graph.graph import Edge, Graph, Node
from spikenas.graph.layers import LAYERS, Layer, Reset

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
