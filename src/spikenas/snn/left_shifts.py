"""How far the sums of a group's coarser layers are shifted to the left, so that its finer ones keep their bits.

Currents that meet share one scale. At the coarsest scale among them, that of a layer of few bits, the others would
lose what makes them fine; at the finest, the weights of the coarse layer would not fit its bits, but its sum can be
shifted to the left: its weights then count 2**left units each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
WORTH = 0.99  # a shift must make the layers finer by more than a hair


def best_lefts(wanted: Sequence[Floats], most: Sequence[int]) -> list[int]:
    """For each layer its shift, at most ``most``, where together they are least coarse.

    ``wanted``: per channel the finest scale at which each layer fits by itself. With shifts ``left`` the group's
    scale is ``s = max(wanted / 2**left)`` and a layer's weights count ``s 2**left``, at least ``wanted``; minimized is
    the sum over layers of ``(s 2**left / wanted)**2``, averaged over channels.

    >>> best_lefts([np.array([0.01]), np.array([0.17])], [0, 4])
    [0, 4]
    """
    lefts = _guess(wanted, most)
    if _coarseness(wanted, lefts) > WORTH * _coarseness(wanted, [0] * len(lefts)):
        lefts = [0] * len(lefts)
    while True:
        steps = [[*lefts[:i], lefts[i] + step, *lefts[i + 1 :]] for i in range(len(lefts)) for step in (-1, 1)]
        steps = [step for step in steps if all(0 <= left <= limit for left, limit in zip(step, most, strict=True))]
        better = min(steps, key=lambda step: _coarseness(wanted, step), default=lefts)
        if _coarseness(wanted, better) >= WORTH * _coarseness(wanted, lefts):
            return lefts
        lefts = better


def _guess(wanted: Sequence[Floats], most: Sequence[int]) -> list[int]:
    """Each layer shifted by what it is coarser than the finest, on (geometric) average."""
    levels = [float(np.log2(array[array > 0]).mean()) if (array > 0).any() else np.inf for array in wanted]
    finest = min(levels, default=0.0)
    return [
        0 if np.isinf(level) else min(limit, max(0, round(level - finest)))
        for level, limit in zip(levels, most, strict=True)
    ]


def _coarseness(wanted: Sequence[Floats], lefts: Sequence[int]) -> float:
    scale = np.max(np.broadcast_arrays(*(a / 2.0**left for a, left in zip(wanted, lefts, strict=True))), axis=0)
    total = 0.0
    for array, left in zip(wanted, lefts, strict=True):
        used = np.broadcast_to(array, scale.shape) > 0
        total += float(((scale * 2.0**left / np.where(used, array, 1.0))[used] ** 2).sum())
    return total
