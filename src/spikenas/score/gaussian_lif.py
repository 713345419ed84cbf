"""What one neuron does to a Gaussian current, before any training: the mean field of spiking networks.

A BatchNorm behind every convolution fixes the variance of the currents whatever the images and weights are, so a
neuron's behaviour at initialization follows from its own constants. The current is held for all steps, as direct
coding of a still image does::

    x ~ N(0, variance);  u_t = decay v_{t-1} + gain x,  s_t = [u_t >= threshold],  v_t = the reset
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spikenas.graph import Lif, Reset

Floats = npt.NDArray[np.float64]

ALPHA = 2.0
"""Of the surrogate gradient (spikingjelly's arc tangent) that SpikeNAS-Bench was trained with; ours is wider."""
REACH = 9.0
POINTS = 18_001


@dataclass(frozen=True, slots=True)
class Response:
    """``rate``: spikes per step. ``entropy_bits``: of the number of spikes. ``gradient_gain``: see the function."""

    rate: float
    entropy_bits: float
    gradient_gain: float


@lru_cache(maxsize=4096)
def respond(lif: Lif, variance: float, timesteps: int) -> Response:
    """The neuron's mean response to currents x ~ N(0, variance), by quadrature over x.

    ``gradient_gain`` is the factor on the gradient's variance through neuron, convolution and BatchNorm2d, chi_1 of
    mean-field theory (Schoenholz et al., ICLR 2017, arXiv 1611.01232, section 4), here for a neuron with a memory:
    independent unit gradients arrive at all s_t and go back through the surrogate g (the reset is constant to it)::

        b_t = g(u_t - threshold)^2 + decay^2 k_t b_{t+1},  k_t = 1 - s_t (reset "zero") or 1 ("subtract")
        chi = gain^2 E[mean_t b_t] / (p (1 - p)),  p = E[mean_t s_t]

    It is infinite where the neuron never fires.

    >>> response = respond(Lif(decay=0.25, gain=0.75), 1.0, 5)
    >>> round(response.rate, 3), round(response.gradient_gain, 2)
    (0.115, 0.86)
    """
    z = np.linspace(-REACH, REACH, POINTS)
    weight = np.exp(-0.5 * z * z)
    weight /= weight.sum()
    membranes, spikes = _simulate(lif, np.sqrt(variance) * z, timesteps)
    rate = float(weight @ spikes.mean(axis=0))
    shares = np.bincount(spikes.sum(axis=0), weights=weight, minlength=timesteps + 1)
    entropy = float(-sum(share * np.log2(share) for share in shares if share > 0))
    if rate <= 0.0:
        return Response(0.0, 0.0, float("inf"))
    gradients = _backward(lif, membranes, spikes)
    return Response(rate, entropy, lif.gain**2 * float(weight @ gradients) / (rate * (1.0 - rate)))


def _simulate(lif: Lif, x: Floats, timesteps: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Membranes before the reset and spikes, both [T, len(x)]."""
    v = np.zeros_like(x)
    membranes, spikes = np.empty((timesteps, len(x))), np.empty((timesteps, len(x)), np.int64)
    for t in range(timesteps):
        u = lif.decay * v + lif.gain * x
        s = u >= lif.threshold
        v = np.where(s, 0.0, u) if lif.reset is Reset.ZERO else u - lif.threshold * s
        membranes[t], spikes[t] = u, s
    return membranes, spikes


def _backward(lif: Lif, membranes: Floats, spikes: npt.NDArray[np.int64]) -> Floats:
    """The mean over steps of b_t, [len(x)]."""
    slopes = 0.5 * ALPHA / (1.0 + (0.5 * np.pi * ALPHA * (membranes - lif.threshold)) ** 2)
    b = np.zeros(membranes.shape[1])
    total = np.zeros_like(b)
    for s, slope in zip(reversed(spikes), reversed(slopes), strict=True):
        kept = 1.0 - s if lif.reset is Reset.ZERO else 1.0
        b = slope**2 + lif.decay**2 * kept * b
        total += b
    return total / len(spikes)
