"""Where the rows of weights lie that the event kernel adds: one array, or a few, for each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from spikenas.cost.flash import stored_bits
from spikenas.cost.steps import Term, Window
from spikenas.deploy.packing import pack_rows, weight_rows
from spikenas.deploy.table_rows import Array
from spikenas.errors import QuantizeError
from spikenas.graph import Conv2d, Linear
from spikenas.model import IntegerModel

ROW_WORDS_MAX = 2**16  # of one array of rows: the list of events holds 16-bit word indices


@dataclass
class RowArrays:
    """The rows of weights of one step, laid out in as few arrays as 16-bit word indices allow.

    ``add`` keeps an array, given its name, its type in C and its values.
    """

    model: IntegerModel
    step: int
    add: Callable[[str, str, Array], str]
    arrays: list[tuple[tuple[int, int, int], list[Array]]] = field(default_factory=list)
    placed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def place(self, layer: str, term: Term) -> list[dict[str, Any]]:
        """Fields of the terms that read ``term.source`` through the weights of ``layer``."""
        if layer not in self.placed:
            self.placed[layer] = self._lay(layer, term)
        return self.placed[layer]

    def _lay(self, layer: str, term: Term) -> list[dict[str, Any]]:
        node = self.model.graph[layer]
        assert isinstance(node, Conv2d | Linear)
        bits, width = stored_bits(node.weight_bits), self.model.graph.shapes[layer][0]
        moved, _ = self.model.shifts(layer)
        rows = pack_rows(weight_rows(self.model.weights[f"{layer}.weight"], term.window.kernel), bits)
        parts = []
        for top, left, piece in _pieces(rows):
            if piece.size > ROW_WORDS_MAX:
                raise QuantizeError(
                    f"node '{layer}': {4 * piece.size} bytes of weights meet one pixel, the C kernels take at most "
                    f"{4 * ROW_WORDS_MAX}: use fewer channels or bits"
                )
            (pad_y, pad_x), window = term.window.padding, term.window
            name, first = self._array(bits, moved, piece)
            parts.append(
                {
                    "weights": name,
                    "first": first,
                    "bits": bits,
                    "left": moved,
                    "row_words": rows.shape[3],
                    "whole_blocks": bits == 8 and not moved and _in_whole_blocks(rows.shape[3], width),
                    "tap_words": rows.shape[2] * rows.shape[3],
                    "line_words": piece.shape[1] * rows.shape[2] * rows.shape[3],
                    "window": Window((piece.shape[0], piece.shape[1]), window.stride, (pad_y - top, pad_x - left)),
                }
            )
        return parts

    def _array(self, bits: int, moved: int, piece: Array) -> tuple[str, int]:
        """The array that takes the rows, and the word at which they start; rows of one array are added alike."""
        alike = bits, moved, piece.shape[3]
        for index, (have, pieces) in enumerate(self.arrays):
            used = sum(part.size for part in pieces)
            if have == alike and used + piece.size <= ROW_WORDS_MAX:
                pieces.append(piece)
                return f"rows_{self.step}_{index}", used
        self.arrays.append((alike, [piece]))
        return f"rows_{self.step}_{len(self.arrays) - 1}", 0

    def write(self) -> None:
        """Hand over the arrays, when all layers have been placed."""
        for index, (_, pieces) in enumerate(self.arrays):
            joined = np.concatenate([piece.reshape(-1) for piece in pieces])
            self.add(f"rows_{self.step}_{index}", "uint32_t", joined)


def _in_whole_blocks(row_words: int, channels: int) -> bool:
    """Of 8-bit rows, whether they are nothing but blocks of four words."""
    return row_words % 4 == 0 and channels == 4 * row_words


def _pieces(rows: Array) -> list[tuple[int, int, Array]]:
    """(top, left, rows) of parts of a window, each of which 16-bit word indices can reach."""
    if rows.size <= ROW_WORDS_MAX:
        return [(0, 0, rows)]
    height = ROW_WORDS_MAX // prod(rows.shape[1:])
    if height:
        return [(top, 0, rows[top : top + height]) for top in range(0, rows.shape[0], height)]
    width = max(ROW_WORDS_MAX // prod(rows.shape[2:]), 1)
    return [
        (top, left, rows[top : top + 1, left : left + width])
        for top in range(rows.shape[0])
        for left in range(0, rows.shape[1], width)
    ]
