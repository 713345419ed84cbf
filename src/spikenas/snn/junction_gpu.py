"""The passes of a junction on a GPU, by ``kernels/junction_triton.py``.

Sums by channel are taken by each program on its own and added up in float64.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from spikenas.snn.junction_kernels import Firing, Gradients, Terms

TILE, DEEP_TILE, DEEP = 1024, 512, 6
"""values of a tile; of one whose membranes of more than DEEP timesteps are to stay in registers"""
WIDEST = 128
"""channels of a tile"""
PROGRAMS = 8
"""for each multiprocessor, that sum by channel"""


def moments(x: Tensor, centre: Tensor) -> Tensor:
    channels = x.shape[-1]
    rows = x.numel() // channels
    tile, columns = _tile(channels)
    programs = _programs(x, rows, tile, columns)
    partial = x.new_empty(programs, 2, channels, dtype=torch.float32)
    _triton().moments[(programs, columns)](x, centre, partial, rows, channels, *tile)
    return partial.sum(0, dtype=torch.float64)


def forward(terms: Terms, firing: Firing | None, total: Tensor | None, spikes: Tensor) -> Tensor:
    x = terms.xs[0]
    tile, columns = _tile(terms.channels)
    grid = (_ceil(terms.rows, tile[0]), columns)
    counts = torch.empty(grid, dtype=torch.int32, device=x.device)
    _triton().forward[grid](
        *_inputs(terms),
        x if total is None else total,
        *(spikes, counts, *_numbers(firing)[:2], terms.rows, terms.channels, x[0].numel()),
        **_shape(terms, firing),
        KEEPS_TOTAL=total is not None,
        BR=tile[0],
        BC=tile[1],
    )
    return counts.sum(dtype=torch.float64)


def backward(
    terms: Terms, firing: Firing | None, given: Gradients, grad: Tensor, *, learns_decay: bool
) -> tuple[Tensor, Tensor | None]:
    x, count = terms.xs[0], len(terms.xs)
    firing = None if given.spikes is None else firing
    shape = _shape(terms, firing)
    tile, columns = _tile(terms.channels, shape["STEPS"])
    programs = _programs(x, terms.rows, tile, columns)
    partial = x.new_empty(programs, count + 1, terms.channels, dtype=torch.float32)
    decays = x.new_zeros(programs, columns, dtype=torch.float32)
    _triton().backward[(programs, columns)](
        *_inputs(terms),
        tuple(partial if mean is None else mean for mean in terms.means),
        *(x if g is None else g for g in (given.total, given.spikes)),
        *(grad, partial, decays, *_numbers(firing), given.count, terms.rows, terms.channels, x[0].numel()),
        **shape,
        HAS_GRAD_TOTAL=given.total is not None,
        LEARNS_DECAY=learns_decay and firing is not None,
        BR=tile[0],
        BC=tile[1],
    )
    found = partial.sum(0, dtype=torch.float64)
    sums = torch.stack((found[:1].expand(count, -1), found[1:]), 1)
    return sums, decays.sum() if learns_decay else None


def term_gradient(grad: Tensor, x: Tensor, dx: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> None:
    channels = x.shape[-1]
    added = len(grad) if len(x) == 1 else 1
    rows = x.numel() // channels
    tile, columns = _tile(channels)
    _triton().term_gradient[(_ceil(rows, tile[0]), columns)](
        *(grad, x, dx, scale, shift, slope, rows, channels, x[0].numel()), ADDED=added, BR=tile[0], BC=tile[1]
    )


@cache
def _triton() -> Any:
    """The kernels; their module needs Triton, this one does not."""
    return import_module("spikenas.snn.kernels.junction_triton")


def _ceil(value: int, by: int) -> int:
    return -(-value // by)


def _tile(channels: int, steps: int = 1) -> tuple[tuple[int, int], int]:
    """Rows and channels of a tile, and how many tiles the channels take."""
    width = min(1 << (channels - 1).bit_length(), WIDEST)
    return ((TILE if steps <= DEEP else DEEP_TILE) // width, width), _ceil(channels, width)


def _programs(x: Tensor, rows: int, tile: tuple[int, int], columns: int) -> int:
    wanted = PROGRAMS * _multiprocessors(x.device) // columns
    return max(1, min(wanted, _ceil(rows, tile[0])))


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _inputs(terms: Terms) -> tuple[tuple[Tensor, ...], ...]:
    """Currents, scales and shifts; a current stands where it has none."""
    pairs = [(x, x) if scale is None else scale for x, scale in zip(terms.xs, terms.scales, strict=True)]
    return tuple(terms.xs), tuple(scale for scale, _ in pairs), tuple(shift for _, shift in pairs)


def _numbers(firing: Firing | None) -> tuple[float, float, float, float]:
    return (0.0, 0.0, 1.0, 0.0) if firing is None else (firing.decay, firing.threshold, firing.slope_a, firing.slope_b)


def _shape(terms: Terms, firing: Firing | None) -> dict[str, int]:
    """What a kernel is compiled for."""
    return {
        "TERMS": len(terms.xs),
        "MOVING": sum(1 << place for place, x in enumerate(terms.xs) if len(x) > 1),
        "NORMED": sum(1 << place for place, scale in enumerate(terms.scales) if scale is not None),
        "STEPS": terms.steps if firing is None else firing.timesteps,
        "SUM_STEPS": terms.steps,
        "FIRES": firing is not None,
        "TO_ZERO": firing is not None and firing.to_zero,
        "AS_RATES": firing is not None and firing.as_rates,
    }
