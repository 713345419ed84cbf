"""How far the sums of a group's coarser layers are shifted to the left, so that its finer ones keep their bits.

Currents that meet share one scale. At the coarsest scale among them, that of a layer of few bits, the others would
lose what makes them fine; at the finest, the weights of the coarse layer would not fit its bits, but its sum can be
shifted to the left: its weights then count 2**left units each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FEW = 2000  # combinations that are all tried; of more, those are that some steps lead to
WORTH = 0.999  # a shift must make the sums better by more than a hair


def best_lefts(wanted: Sequence[Floats], most: Sequence[int], noises: Sequence[float]) -> list[int]:
    """For each layer its shift, at most ``most``, where together they err least.

    ``wanted``: per channel the finest scale at which each layer fits by itself. With shifts ``left`` the group's
    scale is ``s = max(wanted / 2**left)``, and a layer's weights count ``s 2**left``, at least ``wanted``. ``noises``:
    how many such units (standard deviation) the rounding of its weights puts into a sum. A neuron near its threshold
    fires or not by such errors, in proportion to them; minimized is their sum over layers and channels.

    >>> best_lefts([np.array([0.01]), np.array([0.17])], [0, 4], [1.0, 5.0])
    [0, 4]
    """
    lefts = [0] * len(wanted)
    best = _error(wanted, lefts, noises)
    if prod(limit + 1 for limit in most) <= FEW:
        every = map(list, product(*(range(limit + 1) for limit in most)))
        error, found = min((_error(wanted, each, noises), each) for each in every)
        return found if error < WORTH * best else lefts
    while True:
        # One layer alone may not make the scale finer: all that stand in its way move at once.
        steps = [_raised(wanted, lefts, most), *_single_steps(lefts, most)]
        error, step = min((_error(wanted, step, noises), step) for step in steps)
        if error >= WORTH * best:
            return lefts
        best, lefts = error, step


def _raised(wanted: Sequence[Floats], lefts: Sequence[int], most: Sequence[int]) -> list[int]:
    """Every layer that is the coarsest in some channel shifted by one more, where it may be."""
    scale = _scale(wanted, lefts)
    return [
        min(limit, left + bool((array / 2.0**left >= scale).any()))
        for array, left, limit in zip(wanted, lefts, most, strict=True)
    ]


def _single_steps(lefts: Sequence[int], most: Sequence[int]) -> list[list[int]]:
    steps = [[*lefts[:i], lefts[i] + step, *lefts[i + 1 :]] for i in range(len(lefts)) for step in (-1, 1)]
    return [step for step in steps if all(0 <= left <= limit for left, limit in zip(step, most, strict=True))]


def _scale(wanted: Sequence[Floats], lefts: Sequence[int]) -> Floats:
    scale: Floats = np.max(np.broadcast_arrays(*(a / 2.0**left for a, left in zip(wanted, lefts, strict=True))), axis=0)
    return scale


def _error(wanted: Sequence[Floats], lefts: Sequence[int], noises: Sequence[float]) -> float:
    units = sum(noise * 2.0**left for left, noise in zip(lefts, noises, strict=True))
    return float(_scale(wanted, lefts).sum() * units)
