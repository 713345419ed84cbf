"""Division by constants as a multiplication and a shift, exact over the range that the kernels need."""

from __future__ import annotations

import numpy as np

from spikenas.deploy.bounds import INT32_MAX
from spikenas.errors import QuantizeError


def mean_reciprocal(taps: int) -> tuple[int, int]:
    """(reciprocal, shift) with floor(n / (2 taps)) == (n * reciprocal >> 32) >> shift for every n < 2**17 taps.

    >>> mean_reciprocal(9)
    (3817748708, 4)
    """
    shift = 0
    while (2 ** (33 + shift) + 2 * taps - 1) // (2 * taps) < 2**32:
        shift += 1
    reciprocal = -(-(2 ** (32 + shift)) // (2 * taps))
    largest = 2**17 * taps
    if largest * (reciprocal * 2 * taps - 2 ** (32 + shift)) >= 2 ** (32 + shift) or largest > INT32_MAX:
        raise QuantizeError(f"a pooling of {taps} values: the C kernels take the mean of at most 16383")
    return reciprocal, shift


def quotient_reciprocal(divisor: int, limit: int) -> int:
    """m with n // divisor == (n * m) >> 16 for every n < limit."""
    m = -(-(2**16) // divisor)
    numbers = np.arange(limit, dtype=np.int64)
    if ((numbers * m) >> 16 != numbers // divisor).any():
        raise QuantizeError(f"groups of {divisor} in {limit} channels: too many for the C kernels")
    return m
