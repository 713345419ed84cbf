"""All cells over a set of operations: counted, enumerated, and as integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from spikenas.errors import GenotypeError
from spikenas.space.genotype import Cell, Connection, Pair, fed_nodes, live_pairs, pairs
from spikenas.space.operations import NONE, spiking

Choice = tuple[Pair, str]


@dataclass(frozen=True, slots=True)
class CellSpace:
    """The cells of ``nodes`` nodes with ``operations`` on their connections.

    Args:
        operations: names from ``OPERATIONS``; a pair may stay unconnected only when ``none`` is among them.
        nodes: number of nodes, at least 2.
        backward: whether a pair may be connected from the higher to the lower node. Needs ``none``.
        direct: whether input and output must be connected directly, SNASNet's rule.

    >>> CellSpace(("none", "skip", "lif_conv3x3"), nodes=3).count()
    14
    """

    operations: tuple[str, ...]
    nodes: int = 4
    backward: bool = False
    direct: bool = False

    def __post_init__(self) -> None:
        if self.backward and NONE not in self.operations:
            raise GenotypeError("backward connections need operation 'none': add it, or search forward cells only")

    @property
    def connecting(self) -> tuple[str, ...]:
        """The operations without ``none``."""
        return tuple(operation for operation in self.operations if operation != NONE)

    @property
    def patterns(self) -> tuple[tuple[Pair, ...], ...]:
        """Every set of pairs that a canonical cell can connect."""
        return _patterns(self.nodes, NONE in self.operations, self.backward, self.direct)

    def count(self) -> int:
        """Number of canonical cells with a path from input to output."""
        return sum(len(self.connecting) ** len(pattern) for pattern in self.patterns)

    def enumerate(self) -> Iterator[Cell]:
        """Those cells, one by one."""
        for pattern in self.patterns:
            for filling in product(self.connecting, repeat=len(pattern)):
                chosen = zip(pattern, filling, strict=True)
                yield Cell(tuple(Connection(*pair, operation) for pair, operation in chosen), self.nodes)

    def check(self, cell: Cell) -> None:
        """Raise GenotypeError, saying why, when ``cell`` is not one of this space."""
        if cell.nodes != self.nodes:
            raise GenotypeError(f"a cell of {cell.nodes} nodes: this space has cells of {self.nodes} nodes")
        for edge in cell.connections:
            place = f"connection {edge.source}->{edge.target}"
            if edge.operation not in self.operations:
                known = ", ".join(self.operations)
                raise GenotypeError(f"{place}: operation {edge.operation!r} is not one of {known}")
            if edge.source > edge.target and not self.backward:
                raise GenotypeError(f"{place} runs backward: this space has forward connections only")
        if self.direct and cell.operation(0, self.nodes - 1) == NONE:
            raise GenotypeError(f"connection 0->{self.nodes - 1} is none: input and output are connected directly")
        if NONE not in self.operations and len(cell.connections) < len(pairs(self.nodes)):
            raise GenotypeError("a pair of nodes is not connected, and operation 'none' is not in this space")

    def choices(self) -> tuple[tuple[Choice, ...], ...]:
        """What each gene, one per pair, may say: the pair in its direction, and the operation."""
        return _choices(self)

    def encode(self, cell: Cell) -> list[int]:
        """One gene per pair, for a cell that passes :meth:`check`."""
        self.check(cell)
        placed = {(edge.source, edge.target): edge.operation for edge in cell.connections}
        genes: list[int] = []
        for (low, high), options in zip(pairs(self.nodes), self.choices(), strict=True):
            pair = (high, low) if (high, low) in placed else (low, high)
            genes.append(options.index((pair, placed.get(pair, NONE))))
        return genes

    def decode(self, genes: Sequence[int]) -> Cell:
        """The canonical cell of a gene vector; without a path it gets a direct connection."""
        chosen = dict(options[gene] for options, gene in zip(self.choices(), genes, strict=True))
        cell = Cell.of(chosen, self.nodes)
        if not cell.is_live:
            chosen[0, self.nodes - 1] = next(filter(spiking, self.operations), self.connecting[0])
            cell = Cell.of(chosen, self.nodes)
        return cell.canonical

    def sparsest(self) -> Iterator[Cell]:
        """Per operation, the cell with as few connections as the space allows."""
        few = ((0, self.nodes - 1),) if NONE in self.operations else pairs(self.nodes)
        for operation in self.connecting:
            yield Cell.of(dict.fromkeys(few, operation), self.nodes)


@lru_cache(maxsize=64)
def _choices(space: CellSpace) -> tuple[tuple[Choice, ...], ...]:
    choices: list[tuple[Choice, ...]] = []
    for low, high in pairs(space.nodes):
        outer = (low, high) == (0, space.nodes - 1)
        forward = space.connecting if outer and space.direct else space.operations
        back = space.connecting if space.backward and not outer else ()
        choices.append(tuple(((low, high), op) for op in forward) + tuple(((high, low), op) for op in back))
    return tuple(choices)


@lru_cache(maxsize=64)
def _patterns(nodes: int, none: bool, backward: bool, direct: bool) -> tuple[tuple[Pair, ...], ...]:
    outer = (0, nodes - 1)
    options: list[list[frozenset[Pair]]] = []
    for low, high in pairs(nodes):
        ways = [frozenset({(low, high)})]
        if none and not (direct and (low, high) == outer):
            ways.insert(0, frozenset())
        if backward and (low, high) != outer:
            ways.append(frozenset({(high, low)}))
        options.append(ways)
    connected = (frozenset().union(*chosen) for chosen in product(*options))
    unique = {live_pairs(edges, nodes) for edges in connected if nodes - 1 in fed_nodes(edges)}
    return tuple(sorted((tuple(sorted(edges)) for edges in unique), key=lambda edges: (len(edges), edges)))
