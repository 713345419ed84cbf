"""How differently a network's spikes code different images: kernels over a batch, and their log determinant.

A neuron layer's spikes at one step are binary codes x_i of N bits, one per image i. With |x| the number of ones, the
Hamming distance needs one Gram matrix: d_ij = |x_i| + |x_j| - 2 x_i . x_j, all of it in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]
EPSILON = 1e-3
CHUNK = 2**16
"""Bits multiplied at once where integers are not, well below the 2^24 at which float32 begins to round."""


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """All pairwise Hamming distances of a batch: ``distances`` [B, B], ``ones`` [B] per image, ``bits`` N."""

    distances: Matrix
    ones: Matrix
    bits: int


def codes(spikes: Tensor) -> Codes:
    """Distances between the rows of ``spikes``, int8 or uint8 [B, N] of zeros and ones."""
    gram = gram_matrix(spikes)
    ones = np.diagonal(gram).copy()
    return Codes(ones[:, None] + ones[None, :] - 2.0 * gram, ones, spikes.shape[1])


def gram_matrix(spikes: Tensor) -> Matrix:
    """``spikes @ spikes.T``, exactly, as float64 [B, B]."""
    spikes = spikes.view(torch.int8)
    if spikes.device.type == "cpu" and spikes.shape[0] > 16:
        product: Tensor = torch._int_mm(spikes, spikes.T)
        return product.numpy().astype(np.float64)
    total = np.zeros((len(spikes), len(spikes)))
    for start in range(0, spikes.shape[1], CHUNK):
        values = spikes[:, start : start + CHUNK].to(torch.float32)
        total += (values @ values.T).cpu().numpy()
    return total


def sahd_kernel(code: Codes) -> Matrix:
    """Kim et al.'s sparsity-aware kernel (ECCV 2022, arXiv 2201.10355, section 4.2), as their code computes it.

    Codes of few ones are near each other by chance, so distances are divided by the one expected of independent
    codes with the same rates r_i: ``K_ij = N - 0.5 d_ij / (N (r_i (1 - r_j) + (1 - r_i) r_j) + 0.001)``.
    """
    rates = code.ones / code.bits
    expected = code.bits * (rates[:, None] * (1.0 - rates) + (1.0 - rates[:, None]) * rates)
    return code.bits - 0.5 / (expected + EPSILON) * code.distances


def hamming_kernel(code: Codes) -> Matrix:
    """Mellor et al.'s kernel (ICML 2021, arXiv 2006.04647, equation 2): ``K_ij = N - d_ij``."""
    return code.bits - code.distances


def log_determinant(kernel: Matrix) -> float:
    """log |det K|, NaN for a kernel that holds no numbers: the more the codes differ, the larger it is."""
    if not np.isfinite(kernel).all():
        return float("nan")
    return float(np.linalg.slogdet(kernel)[1])
