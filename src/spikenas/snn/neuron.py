"""The leaky integrate-and-fire neuron of :class:`spikenas.graph.Lif`, over a whole sequence at once.

``x`` and the spikes are [T, B, ...]; an ``x`` of [1, B, ...] is the same current at every step and is never copied.
Membranes start at 0. Internally ``u / gain`` is kept, which obeys the same equation with ``threshold / gain``.

The gradient is the surrogate of Fang et al. (ICCV 2021, the arc tangent of spikingjelly) with alpha = 1,
``ds/du = (alpha / 2) / (1 + (pi / 2 * alpha * (u - threshold))**2)``; the reset is constant to it (``detach_reset``),
as in SNASNet. Theirs, alpha = 2, is half as wide, and networks of few neurons learn less by it (docs/benchmarks.md).

>>> fused(torch.tensor([[0.6], [0.6], [0.6]]), Lif(decay=0.5), timesteps=3).flatten().tolist()
[0.0, 0.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import pi
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spikenas.errors import GraphError, MissingTool
from spikenas.graph import Lif, Reset

ALPHA = 1.0
LEAST_DECAY = 1 / 256
"""of a learned leak at its start, and its distance from 1: a sigmoid reaches neither end"""
CHUNK = 2**17  # neurons handled together on a CPU: their few floats each stay in the second-level cache


def fused(x: Tensor, layer: Lif, timesteps: int) -> Tensor:
    """Spikes [T, B, ...] for currents [T or 1, B, ...], in the memory layout of ``x``."""
    flat, restore = _in_memory_order(x)
    spikes: Tensor = _FusedLif.apply(flat, layer, timesteps)  # type: ignore[no-untyped-call]
    return restore(spikes)


def step(x: Tensor, v: Tensor | None, layer: Lif, decay: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One step [B, ...]: spikes and the membrane (over gain) after the reset; ``v`` is None before the first.

    ``decay`` (0-dimensional) stands for the layer's own where it is learned.
    """
    threshold = layer.threshold / layer.gain
    u = x if v is None else x + v * (layer.decay if decay is None else decay)
    s: Tensor = _Fire.apply(u, threshold, layer.gain)  # type: ignore[no-untyped-call]
    fired = s.detach()
    return s, u - u * fired if layer.reset is Reset.ZERO else u - fired * threshold


class Neuron(Protocol):
    """How a network runs a Lif: all steps at once, or one by one where there is feedback."""

    def sequence(self, x: Tensor, timesteps: int) -> Tensor: ...
    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]: ...


class FusedLif(nn.Module):
    """This module's own neuron; with ``learn_decay`` its leak is a parameter, kept in 0..1 by a sigmoid (PLIF)."""

    def __init__(self, layer: Lif, learn_decay: bool = False) -> None:
        super().__init__()
        self.layer = layer
        start = min(max(layer.decay, LEAST_DECAY), 1.0 - LEAST_DECAY)
        self.decay_logit = nn.Parameter(torch.logit(torch.tensor(start))) if learn_decay else None

    @property
    def decay(self) -> Tensor | None:
        """The learned leak, 0-dimensional; None where the layer's own holds."""
        return None if self.decay_logit is None else torch.sigmoid(self.decay_logit)

    def learned_layer(self) -> Lif:
        """The layer with what was learned, in the 256ths that integer networks compute with."""
        decay = self.decay
        return self.layer if decay is None else replace(self.layer, decay=round(decay.item() * 256) / 256)

    def sequence(self, x: Tensor, timesteps: int) -> Tensor:
        if self.decay_logit is None:
            return fused(x, self.layer, timesteps)
        v, spikes = None, []
        for t in range(timesteps):
            s, v = self.step(x[t if len(x) > 1 else 0], v)
            spikes.append(s)
        return torch.stack(spikes)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return step(x, v, self.layer, self.decay)


class SpikingJellyLif(nn.Module):
    """spikingjelly's LIFNode (IFNode without a leak) with the same semantics.

    Raises MissingTool without the package, GraphError for ``decay=0``, which its LIFNode refuses.
    """

    def __init__(self, layer: Lif) -> None:
        super().__init__()
        self.layer = layer
        self.node: Any = _spikingjelly_node(layer)

    def sequence(self, x: Tensor, timesteps: int) -> Tensor:
        self.node.reset()
        x = x * self.layer.gain
        spikes: Tensor = self.node(x.expand(timesteps, *x.shape[1:]))
        return spikes

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        self.node.reset()
        if v is not None:
            self.node.v = v
        spikes: Tensor = self.node((x * self.layer.gain)[None])[0]
        return spikes, self.node.v


class Rectifier(nn.Module):
    """No neuron, but what stands in its place in a network of real values: ``max(x, 0)``, at each step anew."""

    def __init__(self, layer: Lif) -> None:
        super().__init__()

    def sequence(self, x: Tensor, timesteps: int) -> Tensor:
        return torch.relu(x)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.relu(x), x


NEURONS: Mapping[str, Callable[[Lif], FusedLif | SpikingJellyLif | Rectifier]] = {
    "fused": FusedLif,
    "rectifier": Rectifier,
    "spikingjelly": SpikingJellyLif,
}


def _spikingjelly_node(layer: Lif) -> Any:
    try:
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError as error:
        raise MissingTool(
            "neuron 'spikingjelly' needs that package: pip install 'spikenas[spikingjelly]', or use neuron 'fused'"
        ) from error
    if layer.decay == 0.0:
        raise GraphError("decay 0: spikingjelly's LIFNode needs a decay above 0; use neuron 'fused'")
    common = {
        "v_threshold": layer.threshold,
        "v_reset": 0.0 if layer.reset is Reset.ZERO else None,
        "surrogate_function": surrogate.ATan(alpha=ALPHA),
        "detach_reset": True,
        "step_mode": "m",
    }
    if layer.decay == 1.0:
        return neuron.IFNode(**common)
    return neuron.LIFNode(tau=1.0 / (1.0 - layer.decay), decay_input=False, **common)


class _FusedLif(torch.autograd.Function):
    """All steps of a memory-contiguous [T or 1, ...] forward, and back through time by hand.

    Only ``u`` is kept for the way back: 4 bytes a neuron and step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Lif, timesteps: int) -> Tensor:
        steps = x.reshape(len(x), -1)
        count = steps.shape[1]
        spikes = steps.new_empty(timesteps, count)
        keep = ctx.needs_input_grad[0]
        u = steps.new_empty(timesteps if keep else 1, count)
        for part in _parts(count, x.device):
            _forward_part(steps[:, part], u[:, part], spikes[:, part], layer)
        ctx.layer, ctx.shape = layer, x.shape
        ctx.save_for_backward(u if keep else None)
        return spikes.view(timesteps, *x.shape[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        gradient = gradient.reshape(u.shape)
        out = u.new_empty(ctx.shape[0], u.shape[1])
        for part in _parts(u.shape[1], u.device):
            _backward_part(gradient[:, part], u[:, part], out[:, part], ctx.layer)
        return out.view(ctx.shape), None, None


def _forward_part(x: Tensor, u: Tensor, spikes: Tensor, layer: Lif) -> None:
    threshold = layer.threshold / layer.gain
    v = torch.empty_like(x[0])
    for t in range(len(spikes)):
        now = u[t if len(u) > 1 else 0]
        if t == 0:
            now.copy_(x[0])
        else:
            torch.add(x[t if len(x) > 1 else 0], v, alpha=layer.decay, out=now)
        torch.ge(now, threshold, out=spikes[t])
        if layer.reset is Reset.ZERO:
            torch.addcmul(now, now, spikes[t], value=-1, out=v)
        else:
            torch.add(now, spikes[t], alpha=-threshold, out=v)


def _backward_part(gradient: Tensor, u: Tensor, out: Tensor, layer: Lif) -> None:
    """``D[t] = gradient[t] * ds/du + decay * D[t+1] * (1 - s[t])``, D being the gradient of x; summed if x is static.

    ds/d(u/gain) = 1 / (a + b (threshold/gain - u/gain)**2), with a = 2 / (alpha gain), b = (pi alpha / 2)**2 gain**2 a.
    """
    a = 2.0 / (ALPHA * layer.gain)
    b = (pi * ALPHA / 2.0 * layer.gain) ** 2 * a
    threshold, constant = u.new_tensor(layer.threshold / layer.gain), u.new_tensor(a)
    distance, later = torch.empty_like(u[0]), torch.empty_like(u[0])
    static = len(out) < len(u)
    now = torch.empty_like(u[0])
    for t in reversed(range(len(u))):
        last = t == len(u) - 1
        torch.sub(threshold, u[t], out=distance)
        if not last and layer.reset is Reset.ZERO:  # zero where distance <= 0, that is where it fired
            torch.ops.aten.threshold_backward.grad_input(now, distance, 0, grad_input=later)
        elif not last:
            later.copy_(now)
        if not static:
            now = out[t]
        torch.div(gradient[t], torch.addcmul(constant, distance, distance, value=b, out=distance), out=now)
        if not last:
            now.add_(later, alpha=layer.decay)
        if static:
            out[0].copy_(now) if last else out[0].add_(now)


class _Fire(torch.autograd.Function):
    """The same spike and surrogate for one step; ``u`` and ``threshold`` are over gain."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, gain: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.threshold, ctx.gain = threshold, gain
        return (u >= threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        distance = (u - ctx.threshold) * ctx.gain
        slope = ALPHA / 2.0 * ctx.gain / (1.0 + (pi / 2.0 * ALPHA * distance) ** 2)
        return gradient * slope, None, None


def _parts(count: int, device: torch.device) -> list[slice]:
    size = CHUNK if device.type == "cpu" else max(count, 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _in_memory_order(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``x`` permuted so that it is contiguous, and the way back: channels-last maps stay channels-last."""
    if x.dim() == 5 and not x.is_contiguous() and x.permute(0, 1, 3, 4, 2).is_contiguous():
        return x.permute(0, 1, 3, 4, 2), lambda y: y.permute(0, 1, 4, 2, 3)
    return x.contiguous(), lambda y: y
