"""The one neuron in both languages: NIR's constants of continuous time, and the Lif's of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isclose, isfinite
from typing import Any

import numpy as np

from spikenas.errors import GraphError
from spikenas.graph import Lif, Reset

DT = 1e-4
"""seconds a step; what spikingjelly, snntorch, norse and sinabs take when nobody says otherwise"""


@dataclass(frozen=True, slots=True)
class Continuous:
    """``tau`` in seconds (None: no leak, NIR's IF); ``r`` and ``threshold`` as NIR defines them."""

    tau: float | None
    r: float
    threshold: float


def to_continuous(lif: Lif, dt: float) -> Continuous:
    """NIR's constants of ``lif``.

    Simulators know two gains, 1 and 1 - decay (for IF: 1). Any other moves into the threshold: ``u / gain`` obeys
    the same equation with ``threshold / gain``.
    """
    natural = lif.gain == 1 or (lif.decay < 1 and isclose(lif.gain, 1 - lif.decay, rel_tol=1e-9))
    gain, threshold = (lif.gain, lif.threshold) if natural else (1.0, lif.threshold / lif.gain)
    just_below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    if lif.decay == 1:
        return Continuous(None, gain / dt, just_below)
    tau = dt / (1 - lif.decay)
    return Continuous(tau, 1.0 if gain != 1 else tau / dt, just_below)


def to_lif(name: str, neuron: Continuous, dt: float, at_threshold: bool, stated: Mapping[str, Any]) -> Lif:
    """The Lif of one step of ``dt``.

    ``stated`` is the node's metadata: a decay, gain or threshold there is taken, exact as it is, when the node's
    arrays agree. Raises GraphError when a step is longer than the time constant.
    """
    tau = neuron.tau
    if tau is not None and (not isfinite(tau) or tau < dt * (1 - 1e-6)):
        raise GraphError(f"node '{name}': tau is {tau:g} s, shorter than a step of {dt:g} s: give a smaller dt")
    decay = 1.0 if tau is None else _plain(max(1 - dt / tau, 0.0))
    gain = neuron.r * dt if tau is None else neuron.r * dt / tau
    threshold = neuron.threshold
    if not at_threshold:
        threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    known = Lif(
        decay, _plain(gain), threshold, Reset(stated.get("reset", "zero")), int(stated.get("membrane_bits", 16))
    )
    decay, gain, threshold = (float(stated.get(key, getattr(known, key))) for key in ("decay", "gain", "threshold"))
    original = replace(known, decay=decay, gain=gain, threshold=threshold)
    return original if _agree(original, neuron, dt) else known


def _agree(lif: Lif, neuron: Continuous, dt: float) -> bool:
    """Whether ``lif``, whose constants may be anything, is what the arrays say."""
    if not (0 <= lif.decay <= 1 and lif.gain > 0 and all(map(isfinite, (lif.decay, lif.gain, lif.threshold)))):
        return False
    said = to_continuous(lif, dt)
    if (said.tau is None) != (neuron.tau is None):
        return False
    pairs = [(said.r, neuron.r), (said.threshold, neuron.threshold), (said.tau or 0.0, neuron.tau or 0.0)]
    return all(isclose(a, b, rel_tol=1e-6) for a, b in pairs)


def _plain(value: float) -> float:
    """Without the last digits of a division: 0.5 for the 0.49999998 that a float32 tau leaves."""
    short = round(value, 6)
    return short if abs(value - short) < 1e-7 else value
