"""The blocks of a network as people draw it: its cells, and the chains of operations before, between and after them.

Where no wire passes by a value, the network is cut; the pieces are its blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from spikenas.graph import Graph
from spikenas.run.report_wires import Wire, node_number, wires
from spikenas.space.genotype import Cell

OPERATION = re.compile(r"(lif_)?(conv|dwconv|avgpool)(\d)x\3(?:_th(.+))?")
KINDS = {"conv": "conv", "dwconv": "depthwise", "avgpool": "avg pool"}


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


def cell_block(cell: Cell) -> Block:
    """The block of a genotype's cell, as :func:`blocks` finds it in the network, without number and shapes."""
    live = cell.canonical.connections
    values = tuple(map(str, sorted({0, cell.nodes - 1, *(end for edge in live for end in (edge.source, edge.target))})))
    lines = tuple(
        Wire(
            str(edge.source),
            str(edge.target),
            operation_words(edge.operation),
            int(edge.source > edge.target),
            "",
            edge.operation.startswith("lif"),
        )
        for edge in live
    )
    return Block("Cell", values, values, ("",) * len(values), lines, branched=True)


def operation_words(operation: str) -> tuple[str, ...]:
    """What stands on a wire that is an operation of a cell.

    >>> operation_words("lif_dwconv3x3"), operation_words("lif_conv3x3_th0.5"), operation_words("skip")
    (('LIF', 'depthwise 3×3'), ('LIF ≥ 0.5', 'conv 3×3'), ())
    """
    if operation == "skip":
        return ()
    match = OPERATION.fullmatch(operation)
    if match is None:
        return (operation,)
    spiking, kind, size, threshold = match.groups()
    lif = f"LIF ≥ {float(threshold):g}" if threshold else "LIF"
    return (*([lif] if spiking else []), f"{KINDS[kind]} {size}×{size}")


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
