"""The value every genotype is made of: a cell, its canonical form and its text.

A cell has ``nodes`` numbered nodes: 0 is its input, the last its output, each the sum of what enters it. A
connection to a higher node acts within the step, one to a lower node (backward, SNASNet's temporal feedback) enters
there one step later. A connection is *live* when its source is fed from the input within the step and its target
reaches the output, now or through feedback; the canonical cell has live connections only.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Protocol, runtime_checkable

from spikenas.errors import GenotypeError
from spikenas.space.operations import CODES, NONE, OPERATIONS

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, order=True)
class Connection:
    """``operation`` from node ``source`` to node ``target``."""

    source: int
    target: int
    operation: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's connections, sorted; a pair of nodes is connected at most once, in one direction.

    >>> Cell.of({(0, 1): "skip", (0, 3): "lif_conv3x3", (1, 2): "none"}).connections[0]
    Connection(source=0, target=1, operation='skip')
    """

    connections: tuple[Connection, ...]
    nodes: int = 4

    def __post_init__(self) -> None:
        joined: set[Pair] = set()
        for edge in self.connections:
            low, high = sorted((edge.source, edge.target))
            if not 0 <= low < high < self.nodes:
                raise GenotypeError(
                    f"connection {edge.source}->{edge.target}: a cell of {self.nodes} nodes joins two "
                    f"different nodes of 0..{self.nodes - 1}"
                )
            if (low, high) in joined:
                raise GenotypeError(f"nodes {low} and {high} are connected twice: choose one direction")
            if edge.operation == NONE or edge.operation not in OPERATIONS:
                raise GenotypeError(
                    f"operation {edge.operation!r} cannot be on a connection: choose from {', '.join(OPERATIONS)}"
                )
            joined.add((low, high))
        if list(self.connections) != sorted(self.connections):
            raise GenotypeError("a cell's connections must be sorted: make it with Cell.of")

    @classmethod
    def of(cls, operations: Mapping[Pair, str], nodes: int = 4) -> Cell:
        """The cell with ``operations[source, target]``; ``none`` means no connection."""
        connections = (Connection(*pair, operation) for pair, operation in operations.items() if operation != NONE)
        return cls(tuple(sorted(connections)), nodes)

    def operation(self, source: int, target: int) -> str:
        """The operation from ``source`` to ``target``, ``none`` when they are not connected."""
        for edge in self.connections:
            if (edge.source, edge.target) == (source, target):
                return edge.operation
        return NONE

    @property
    def joined(self) -> frozenset[Pair]:
        """The connected pairs, (source, target)."""
        return frozenset((edge.source, edge.target) for edge in self.connections)

    @property
    def is_live(self) -> bool:
        """Whether the input reaches the output within the step."""
        return self.nodes - 1 in fed_nodes(self.joined)

    @property
    def canonical(self) -> Cell:
        """The same function without dead connections."""
        live = live_pairs(self.joined, self.nodes)
        if len(live) == len(self.connections):
            return self
        return Cell(tuple(e for e in self.connections if (e.source, e.target) in live), self.nodes)


@runtime_checkable
class Genotype(Protocol):
    """One point of a space: frozen, hashable, ``str`` gives the text that the space parses back."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells in the order of the network."""

    def __hash__(self) -> int: ...


@lru_cache(maxsize=16)
def pairs(nodes: int) -> tuple[Pair, ...]:
    """Every forward pair, by source then target: the order of genes, digits and letters in all spaces.

    >>> pairs(4)
    ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    """
    return tuple(combinations(range(nodes), 2))


def fed_nodes(edges: Set[Pair], *, past: bool = False) -> set[int]:
    """The nodes that node 0 reaches within the step; with ``past``, also those it reaches through feedback."""
    return _closure({0}, {edge for edge in edges if past or edge[0] < edge[1]})


@lru_cache(maxsize=4096)
def live_pairs(edges: frozenset[Pair], nodes: int, *, past: bool = False) -> frozenset[Pair]:
    """The live ones among connected pairs (source, target); with ``past``, feedback alone may feed a node."""
    fed = fed_nodes(edges, past=past)
    inner = {(source, target) for source, target in edges if source in fed and target in fed}
    useful = _closure({nodes - 1} & fed, {(target, source) for source, target in inner})
    return frozenset(edge for edge in inner if edge[1] in useful)


def _closure(start: Set[int], edges: Set[Pair]) -> set[int]:
    reached = set(start)
    while more := {target for source, target in edges if source in reached} - reached:
        reached |= more
    return reached


def cell_text(cell: Cell) -> str:
    """A feed-forward cell as letters (``operations.CODES``), one dotted group per source node.

    >>> cell_text(Cell.of({(0, 1): "lif_conv3x3", (0, 3): "skip", (1, 3): "lif_conv1x1"}))
    '30s.01.0'
    """
    rows = (range(source + 1, cell.nodes) for source in range(cell.nodes - 1))
    return ".".join("".join(CODES[cell.operation(s, t)] for t in row) for s, row in enumerate(rows))


def parse_cell(text: str, nodes: int = 4) -> Cell:
    """What :func:`cell_text` wrote. Raises GenotypeError on another shape, letter or a cell without a path."""
    rows, letters = text.split("."), "".join(text.split("."))
    if [len(row) for row in rows] != list(range(nodes - 1, 0, -1)):
        example = cell_text(Cell.of({(0, nodes - 1): "skip"}, nodes))
        raise GenotypeError(f"cell {text!r}: write one letter per pair of {nodes} nodes, such as {example}")
    named = {code: operation for operation, code in CODES.items()}
    for letter in letters:
        if letter not in named:
            known = ", ".join(f"{code} {operation}" for code, operation in named.items())
            raise GenotypeError(f"cell {text!r}: letter {letter!r} is not one of {known}")
    cell = Cell.of({pair: named[letter] for pair, letter in zip(pairs(nodes), letters, strict=True)}, nodes)
    if not cell.is_live:
        raise GenotypeError(f"cell {text!r} has no path from input to output: connect node 0 to node {nodes - 1}")
    return cell
