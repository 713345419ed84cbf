"""The blocks of a network as people draw it: its cells, and the chains of operations before, between and after them.

Where no wire passes by a value, the network is cut; the pieces are its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from spikenas.graph import Graph
from spikenas.run.report_wires import Wire, node_number, wires


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the network between two values that everything passes through.

    ``values`` are in order of computation; ``labels`` and ``shapes`` belong to them. A block without ``branched`` is
    a chain, wire i leading from value i to value i + 1.
    """

    title: str
    values: tuple[str, ...]
    labels: tuple[str, ...]
    shapes: tuple[str, ...]
    wires: tuple[Wire, ...]
    branched: bool


def blocks(graph: Graph) -> tuple[Block, ...]:
    """The network's blocks, from input to output."""
    pieces = _merge(_pieces(*wires(graph)))
    return tuple(_block(graph, piece, index, len(pieces)) for index, piece in enumerate(pieces))


@dataclass(frozen=True, slots=True)
class _Piece:
    values: tuple[str, ...]
    wires: tuple[Wire, ...]

    @property
    def cell(self) -> str:
        return next((wire.cell for wire in self.wires if wire.cell), "")

    @property
    def branched(self) -> bool:
        return len(self.wires) >= len(self.values)


def _pieces(values: Sequence[str], lines: Sequence[Wire]) -> list[_Piece]:
    """The network cut at every value that no wire passes by."""
    position = {name: index for index, name in enumerate(values)}
    spans = [wire.span(position) for wire in lines]
    cuts = [p for p in range(len(values)) if not any(low < p < high for low, high in spans)]
    pieces = []
    for begin, end in pairwise(cuts):
        inside = [
            w for w, (low, high) in zip(lines, spans, strict=True) if begin <= low and high <= end and high > begin
        ]
        pieces.append(_Piece(tuple(values[begin : end + 1]), tuple(inside)))
    return pieces


def _merge(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Neighbours of one cell become one piece, and so do neighbours that are plain chains outside of any cell."""
    merged: list[_Piece] = []
    for piece in pieces:
        before = merged[-1] if merged else None
        chains = before is not None and not (before.cell or before.branched or piece.cell or piece.branched)
        if before is not None and (chains or (piece.cell and piece.cell == before.cell)):
            merged[-1] = _Piece((*before.values, *piece.values[1:]), (*before.wires, *piece.wires))
        else:
            merged.append(piece)
    return merged


def _block(graph: Graph, piece: _Piece, index: int, count: int) -> Block:
    if piece.cell:
        title = f"Cell {piece.cell}"
    elif piece.branched:
        title = "Branches"
    else:
        title = "Network" if count == 1 else "Stem" if index == 0 else "Head" if index == count - 1 else "Transition"
    labels = _labels(piece.values) if piece.cell else ("",) * len(piece.values)
    shapes = tuple("×".join(map(str, graph.shapes[name])) for name in piece.values)
    return Block(title, piece.values, labels, shapes, piece.wires, bool(piece.cell) or piece.branched)


def _labels(values: Sequence[str]) -> tuple[str, ...]:
    """The numbers of a cell's nodes, where names tell; a pooling that several operations share need not be a node.

    >>> _labels(["stem_bn", "stem_bn_pool", "cell1_n2", "cell1_e23_bn"])
    ('0', '', '2', '3')
    """
    first = "" if values[0].endswith("_bn_pool") else "0"
    return (first, *map(node_number, values[1:]))
