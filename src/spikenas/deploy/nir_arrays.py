"""What the arrays of a NIR node reveal: pairs of numbers, groups in a dense kernel, what an identity stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.deploy.nir_file import NirNode
from spikenas.graph import Pair

Array = npt.NDArray[Any]


def stands_for_add(node: NirNode) -> bool:
    """Whether an Add was written as this identity."""
    if node.stated.get("stands_for") != "add" or node.kind not in ("Linear", "Conv2d"):
        return False
    matrix = node.array("weight")
    return (
        bool((matrix.reshape(matrix.shape[:2]) == np.eye(len(matrix))).all())
        if matrix.size == len(matrix) ** 2
        else False
    )


def pair(node: NirNode, field: str) -> Pair:
    """Two whole numbers; one counts twice. Raises ValueError on more."""
    numbers = [int(number) for number in np.atleast_1d(node.array(field))]
    first, second = numbers * 2 if len(numbers) == 1 else numbers
    return first, second


def dilated(kernel: Array, dilation: Pair) -> Array:
    """The kernel with zeros between its entries, which is what a dilation means."""
    if dilation == (1, 1):
        return kernel
    height, width = ((size - 1) * step + 1 for size, step in zip(kernel.shape[2:], dilation, strict=True))
    if max(height, width) > 1024:
        raise ValueError(f"dilation {dilation} makes the kernel {height}x{width}")
    wide = np.zeros((*kernel.shape[:2], height, width))
    wide[:, :, :: dilation[0], :: dilation[1]] = kernel
    return wide


def diagonal(kernel: Array) -> Array | None:
    """The diagonal of a 1x1 kernel that has nothing beside it."""
    matrix = kernel[:, :, 0, 0]
    square = kernel.shape[2:] == (1, 1) and matrix.shape[0] == matrix.shape[1]
    return np.diag(matrix) if square and (matrix == np.diag(np.diag(matrix))).all() else None


def sparse(kernel: Array, groups: int, wanted: int) -> tuple[int, Array]:
    """(groups, kernel): in ``wanted`` groups, or depthwise, where a dense kernel is zero everywhere else."""
    outs, ins = kernel.shape[:2]
    for candidate in (wanted, ins if outs == ins else 1):
        if groups == 1 < candidate and outs % candidate == 0 and ins % candidate == 0:
            rows, columns = outs // candidate, ins // candidate
            blocks = kernel.reshape(candidate, rows, candidate, columns, *kernel.shape[2:])
            inside = blocks[np.arange(candidate), :, np.arange(candidate)]
            if np.count_nonzero(inside) == np.count_nonzero(kernel):
                return candidate, inside.reshape(outs, columns, *kernel.shape[2:])
    return groups, kernel


def votes(matrix: Array, group: int) -> bool:
    """Whether each output is the mean of ``group`` neighbours."""
    wanted = np.kron(np.eye(matrix.shape[0]), np.full((1, group), 1 / group))
    return matrix.shape == wanted.shape and np.allclose(matrix, wanted)
