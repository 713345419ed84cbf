"""Rounding weights so that their errors cancel in the sums that they form.

Rounded to the nearest integers, weights err independently, and the errors of weights that meet the same spikes add up.
Here they are rounded one after the other, and what one is off is made up for by those still to come, as well as they
can on what the layer sees (optimal brain quantization in the order of GPTQ, Frantar et al., arXiv 2210.17323): with H
the mean products of inputs and U'U the Cholesky factors of its inverse, U an upper triangle,

    w[k] -= (w[j] - round(w[j])) U[j, k] / U[j, j]  for all k > j.

Inputs that say most come first, the bias, which meets a 1 and is hardly rounded, last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DAMPING = 0.01
"""share of each input's mean square that is added to it, as if it had as much noise"""
BLOCK = 32
"""inputs whose errors are passed on to those behind them at once"""


def compensated(weight: Floats, products: Floats, limit: int, rounded: int) -> Floats:
    """Weights [out, n], in units of their integers, changed so that the nearest integers of the first ``rounded`` err
    least together. What follows those, a bias, is real.

    ``products`` [n, n]: mean products of the inputs. Integers end at ``limit``.
    """
    squares = np.where(np.diag(products) > 0, np.diag(products), 1.0)
    order = np.append(np.argsort(-squares[:rounded], kind="stable"), np.arange(rounded, len(squares)))
    damped = products[np.ix_(order, order)]
    np.fill_diagonal(damped, (1 + DAMPING) * squares[order])
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    factor /= np.diag(factor)[:, None]
    left = weight[:, order]
    for start in range(0, rounded, BLOCK):
        end = min(start + BLOCK, rounded)
        wrong = np.zeros((len(left), end - start))
        for j in range(start, end):
            wrong[:, j - start] = left[:, j] - np.clip(np.rint(left[:, j]), -limit, limit)
            left[:, j + 1 : end] -= np.outer(wrong[:, j - start], factor[j, j + 1 : end])
        left[:, end:] -= wrong @ factor[start:end, end:]
    result = np.empty_like(left)
    result[:, order] = left
    return result


def best_steps(weight: Floats, products: Floats, limit: int, rounded: int, steps: Floats) -> Floats:
    """Of ``steps`` [choices, out] for each row that one with which its integers err least together.

    ``weight`` [out, n] in real units, all else as for :func:`compensated`.
    """
    choices = np.where(steps > 0, steps, 1.0)[:, :, None]
    units = (weight / choices).reshape(-1, weight.shape[1])
    whole = compensated(units, products, limit, rounded)
    whole[:, :rounded] = np.clip(np.rint(whole[:, :rounded]), -limit, limit)
    wrong = whole.reshape(len(steps), *weight.shape) * choices - weight
    errors = np.einsum("coi,coi->co", wrong @ products, wrong)
    best: Floats = steps[errors.argmin(axis=0), np.arange(len(weight))]
    return best
