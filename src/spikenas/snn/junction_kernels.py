"""What a junction asks of a device: four passes over memory, on a CPU in C, on a GPU in Triton.

Tensors are channels last and contiguous, [T or 1, B, ..., C], in float32 or bfloat16; the passes compute in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Protocol, Self

import torch
from torch import Tensor

from spikenas.graph import Lif, Reset
from spikenas.snn import kernels
from spikenas.snn.neuron import ALPHA

Scale = tuple[Tensor, Tensor]
"""what a BatchNorm multiplies by and then adds, [C] each, in float32"""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What flows in: ``xs``, each scaled by its own of ``scales`` if there is one. Those of one step stay the same.

    ``means`` [C] are what the norms of those that have one subtract.
    """

    xs: Sequence[Tensor]
    scales: Sequence[Scale | None]
    means: Sequence[Tensor | None]

    @property
    def steps(self) -> int:
        """Of their sum."""
        return max(len(x) for x in self.xs)

    @property
    def channels(self) -> int:
        return self.xs[0].shape[-1]

    @property
    def rows(self) -> int:
        return self.xs[0][0].numel() // self.channels


@dataclass(frozen=True, slots=True)
class Firing:
    """A neuron whose membrane is kept over its gain (:mod:`spikenas.snn.neuron`).

    A spike's gradient at a distance d from the threshold is 1 / (slope_a + slope_b d**2). ``as_rates``: what it passes
    on is the mean of its spikes over all timesteps.
    """

    timesteps: int
    decay: float
    threshold: float
    slope_a: float
    slope_b: float
    to_zero: bool
    as_rates: bool

    @classmethod
    def of(cls, lif: Lif, decay: float, timesteps: int, as_rates: bool) -> Self:
        a = 2.0 / (ALPHA * lif.gain)
        b = (pi * ALPHA / 2.0 * lif.gain) ** 2 * a
        return cls(timesteps, decay, lif.threshold / lif.gain, a, b, lif.reset is Reset.ZERO, as_rates)


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """What comes back: to the sum from its other readers and to the spikes, None where nothing does; to the count."""

    total: Tensor | None
    spikes: Tensor | None
    count: float


class Kernels(Protocol):
    """The four passes. Sums by channel come in float64."""

    def moments(self, x: Tensor, centre: Tensor) -> Tensor:
        """Sums and sums of squares of ``x`` - ``centre`` [C], [2, C]."""

    def forward(self, terms: Terms, firing: Firing | None, total: Tensor | None, spikes: Tensor) -> Tensor:
        """Fill ``total`` [steps of the sum, ...], where it is wanted, and ``spikes``; their number, 0-dimensional."""

    def backward(
        self, terms: Terms, firing: Firing | None, given: Gradients, grad: Tensor, *, learns_decay: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Fill ``grad``, that of the sum, from what is ``given``.

        Gives for each term that has a mean the sums by channel of ``grad`` and of its product with x - mean, [terms, 2,
        C], and the gradient of the decay where it is learned.
        """

    def term_gradient(self, grad: Tensor, x: Tensor, dx: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> None:
        """Fill ``dx``, which may be ``grad``: scale grad + shift + slope x, grad summed over time where x is static."""


def kernels_for(x: Tensor) -> Kernels | None:
    """The kernels for tensors like ``x``; None where torch's own operations have to do."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        return None
    if x.device.type == "cpu" and kernels.library_for(x.dtype) is not None:
        from spikenas.snn import junction_cpu

        return junction_cpu
    if x.device.type == "cuda" and kernels.has_triton():
        from spikenas.snn import junction_gpu

        return junction_gpu
    return None
