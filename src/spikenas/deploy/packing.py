"""Weights in the order and the words in which the kernels read them (see ``runtime/rows.c`` and ``dense.c``).

A word of 32 bits holds 32 / bits weights in planes of ``bits`` bits; a plane holds four neighbours, in the order
0 2 1 3, so that the even bytes of a plane are its first two and the odd bytes its last two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint32]

BYTE_ORDER = (0, 2, 1, 3)


def weight_rows(weight: Array, size: tuple[int, int]) -> Array:
    """[out, in, h, w], or [out, in * h * w] of a Linear over maps of (h, w), as rows [h, w, in, out]."""
    height, width = size
    return weight.reshape(weight.shape[0], -1, height, width).transpose(2, 3, 1, 0)


def pack_rows(rows: Array, bits: int) -> Words:
    """Rows [..., out] of signed weights as words [..., row_words], made unsigned by adding 2**(bits - 1) - 1.

    >>> [hex(word) for word in pack_rows(np.array([[1, 2, 3, 4, 5]]), 8)[0]]
    ['0x83818280', '0x7f7f7f84']
    """
    planes = 8 // bits
    padding = -rows.shape[-1] % (4 * planes)
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, padding)])
    unsigned = (padded + 2 ** (bits - 1) - 1).astype(np.uint32)
    quads = unsigned.reshape(*rows.shape[:-1], -1, planes, 4)[..., BYTE_ORDER]
    shifts = np.arange(planes)[:, None] * bits + np.arange(4) * 8
    return np.asarray((quads << shifts.astype(np.uint32)).sum(axis=(-1, -2), dtype=np.uint32))


def pack_dense(weight: Array, groups: int, patch: int) -> Words:
    """Weights [out, in / groups, h, w] as words in the order group, patch of the window, output, value.

    Of four outputs the words lie side by side; those of the last one to three follow each other.
    """
    grouped = weight.transpose(0, 2, 3, 1).reshape(groups, weight.shape[0] // groups, -1)
    words = []
    for group in grouped:
        for start in range(0, group.shape[1], patch):
            values = group[:, start : start + patch]
            quads = np.pad(values, ((0, 0), (0, -values.shape[1] % 4))).reshape(len(values), -1, 4)[..., BYTE_ORDER]
            rows = np.ascontiguousarray(quads.astype(np.int8)).view("<u4")[..., 0]
            whole = len(rows) // 4 * 4
            words.append(rows[:whole].reshape(-1, 4, rows.shape[1]).transpose(0, 2, 1).reshape(-1))
            words.append(rows[whole:].reshape(-1))
    return np.concatenate(words).astype(np.uint32)


def unit_weights(weight: Array, groups: int) -> npt.NDArray[np.int8]:
    """Weights [out, in / groups, h, w] of a grouped convolution as [h * w, in, out / groups]."""
    out, inside, height, width = weight.shape
    parts = weight.reshape(groups, out // groups, inside, height * width)
    return parts.transpose(3, 0, 2, 1).reshape(height * width, groups * inside, -1).astype(np.int8)


def pack_stream(weights: Array, bits: int) -> npt.NDArray[np.uint8]:
    """Signed weights one after the other in ``bits`` bits each, the first in the lowest bits, for ``compact.c``.

    >>> [hex(byte) for byte in pack_stream(np.array([1, -1, 7]), 4)]
    ['0xf1', '0x7', '0x0', '0x0']
    """
    per_byte = 8 // bits
    padded = np.pad(weights.astype(np.int64), (0, -len(weights) % (4 * per_byte))) & (2**bits - 1)
    shifts = np.arange(per_byte) * bits
    return np.asarray((padded.reshape(-1, per_byte) << shifts).sum(axis=1), np.uint8)


def pairs(values: Array, block: int = 16) -> Words:
    """16-bit numbers, two to a word, padded with zeros to whole blocks."""
    padded = np.pad(values.astype(np.int64), (0, -len(values) % block))
    return np.ascontiguousarray((padded & 0xFFFF).astype("<u2")).view("<u4").astype(np.uint32)
