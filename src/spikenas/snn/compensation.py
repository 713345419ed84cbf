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
    left = weight[:, order]
    for j in range(rounded):
        wrong = left[:, j] - np.clip(np.rint(left[:, j]), -limit, limit)
        left[:, j + 1 :] -= np.outer(wrong / factor[j, j], factor[j, j + 1 :])
    result = np.empty_like(left)
    result[:, order] = left
    return result
