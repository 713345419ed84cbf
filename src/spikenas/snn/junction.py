"""Currents, their BatchNorms, their sum and the neuron that integrates it, in one pass over memory.

What lies between two convolutions of a spiking network moves memory rather than computes, and torch moves it once for
each operation. A junction does all of it at once, forward, and backward through time by hand
(:mod:`spikenas.snn.junction_kernels`); without a C compiler or Triton, or in a feedback loop, the same operations run
one by one (:mod:`spikenas.snn.neuron` and torch's own BatchNorm2d), which the tests hold against this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikenas.graph import Lif
from spikenas.snn.junction_kernels import Firing, Gradients, Kernels, Scale, Terms, kernels_for


@dataclass(frozen=True, slots=True, eq=False)
class Current:
    """What flows into a junction: ``x`` [T or 1, B, C, H, W] or [T or 1, B, C], and the BatchNorm it passes, if any."""

    x: Tensor
    norm: nn.BatchNorm2d | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Junction:
    """``total``: the sum [T or 1, B, ...], None if not asked for; ``spikes`` [T, B, ...], None without a neuron.

    ``count``: the number of spikes, exact, differentiable, 0-dimensional in float64.
    """

    total: Tensor | None
    spikes: Tensor | None
    count: Tensor | None


def join(
    currents: Sequence[Current],
    timesteps: int,
    lif: Lif | None,
    *,
    decay: Tensor | None = None,
    total: bool = False,
    as_rates: bool = False,
) -> Junction:
    """Add up ``currents`` behind their norms and let ``lif`` integrate the sum.

    A norm in training mode uses the batch's statistics and updates its running ones, as torch's does. ``decay`` (0
    dimensional) stands for the neuron's own where it is learned. ``total`` asks for the sum as well. ``as_rates``:
    currents of one step become their neuron's mean spikes over all ``timesteps``, [1, B, ...].
    """
    kind = torch.bfloat16 if any(c.x.dtype is torch.bfloat16 for c in currents) else currents[0].x.dtype
    xs = [_channels_last(c.x.to(kind)) for c in currents]
    norms = [_statistics(x, c.norm) if c.norm is not None else None for x, c in zip(xs, currents, strict=True)]
    affine = [p for c in currents if c.norm is not None for p in (c.norm.weight, c.norm.bias)]
    learned = [] if decay is None else [decay]
    total = total or lif is None
    setting = _Setting(timesteps, lif, tuple(norms), total, len(learned) > 0, as_rates and lif is not None)
    summed, spikes, count = _Join.apply(setting, len(xs), *xs, *affine, *learned)  # type: ignore[no-untyped-call]
    restore = _channels_first if currents[0].x.dim() == 5 else _same
    if lif is None:
        return Junction(restore(summed), None, None)
    return Junction(restore(summed) if total else None, restore(spikes), count)


@dataclass(frozen=True, slots=True, eq=False)
class _Statistics:
    """Of one BatchNorm: what it subtracts and multiplies by, [C] each, in float32."""

    mean: Tensor
    inverse: Tensor
    rows: int
    """over which they were taken; 0 for running statistics, which are constants"""


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    timesteps: int
    lif: Lif | None
    norms: tuple[_Statistics | None, ...]
    total: bool
    learns_decay: bool
    as_rates: bool

    @property
    def steps_out(self) -> int:
        """Of what the neuron passes on."""
        return 0 if self.lif is None else 1 if self.as_rates else self.timesteps

    def terms(self, xs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Terms:
        means = [None if norm is None else norm.mean for norm in self.norms]
        return Terms(xs, _scales(self, parameters), means)

    def firing(self, parameters: Sequence[Tensor]) -> Firing | None:
        if self.lif is None:
            return None
        decay = parameters[-1].item() if self.learns_decay else self.lif.decay
        return Firing.of(self.lif, decay, self.timesteps, self.as_rates)


class _Join(torch.autograd.Function):
    """``xs`` are channels last: [T or 1, B, ..., C], contiguous. Gives the sum, the spikes and how many they are."""

    @staticmethod
    def forward(ctx: Any, setting: _Setting, count: int, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        xs, parameters = tensors[:count], tensors[count:]
        terms = setting.terms(xs, parameters)
        summed = xs[0].new_empty(terms.steps if setting.total else 0, *xs[0].shape[1:])
        spikes = xs[0].new_empty(setting.steps_out, *xs[0].shape[1:])
        fired = _kernels(xs[0]).forward(terms, setting.firing(parameters), summed if setting.total else None, spikes)
        ctx.setting, ctx.count = setting, count
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return summed, spikes, fired

    @staticmethod
    def backward(
        ctx: Any, grad_sum: Tensor | None, grad_spikes: Tensor | None, grad_count: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        setting: _Setting = ctx.setting
        xs, parameters = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        x, terms = xs[0], setting.terms(xs, parameters)
        kernels = _kernels(x)
        if grad_count is not None and grad_spikes is None:
            grad_spikes = x.new_zeros(setting.steps_out, *x.shape[1:])
        of_sum, of_spikes = (None if g is None else g.to(x.dtype).contiguous() for g in (grad_sum, grad_spikes))
        given = Gradients(of_sum, of_spikes, 0.0 if grad_count is None else float(grad_count))
        grad = x.new_empty(terms.steps, *x.shape[1:])
        firing = setting.firing(parameters)
        sums, grad_decay = kernels.backward(terms, firing, given, grad, learns_decay=setting.learns_decay)
        grads: list[Tensor] = []
        affine: list[Tensor] = []
        for x, norm, scale, found in zip(xs, setting.norms, terms.scales, sums, strict=True):
            if norm is None or scale is None:
                grads.append(grad if len(x) == len(grad) else grad.sum(0, keepdim=True))
                continue
            affine += [(found[1] * norm.inverse).float(), found[0].float()]
            dx = grad if len(xs) == 1 and len(x) == len(grad) else torch.empty_like(x)
            kernels.term_gradient(grad, x, dx, scale[0], *_corrections(norm, scale[0], found))
            grads.append(dx)
        learned = [] if grad_decay is None else [grad_decay]
        return None, None, *grads, *affine, *learned


def _kernels(x: Tensor) -> Kernels:
    found = kernels_for(x)
    assert found is not None, "ask for kernels_for() first"
    return found


def _statistics(x: Tensor, norm: nn.BatchNorm2d) -> _Statistics:
    """Of the batch in training mode, updating the running ones; else the running ones."""
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None
    assert running_var is not None
    if not norm.training:
        return _Statistics(running_mean.clone(), torch.rsqrt(running_var + norm.eps), 0)
    rows, centre = x.numel() // x.shape[-1], running_mean.contiguous()
    first, second = _kernels(x).moments(x.detach(), centre) / rows
    mean, var = centre.double() + first, (second - first * first).clamp_min_(0.0)
    with torch.no_grad():
        momentum = norm.momentum if norm.momentum is not None else 0.1
        running_mean.lerp_(mean.float(), momentum)
        running_var.lerp_((var * (rows / max(1, rows - 1))).float(), momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return _Statistics(mean.float(), torch.rsqrt(var + norm.eps).float(), rows)


def _scales(setting: _Setting, parameters: Sequence[Tensor]) -> list[Scale | None]:
    """Scale and shift of each current's norm."""
    pairs = iter(zip(parameters[::2], parameters[1::2], strict=False))
    scales: list[Scale | None] = []
    for norm in setting.norms:
        if norm is None:
            scales.append(None)
        else:
            weight, bias = next(pairs)
            scale = weight.detach() * norm.inverse
            scales.append((scale, bias.detach() - norm.mean * scale))
    return scales


def _corrections(norm: _Statistics, scale: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """What the batch's statistics add to the gradient ``scale * g``: a constant and a multiple of x.

    dx = scale (g - mean(g) - xhat mean(g xhat)), xhat = (x - mean) inverse (Ioffe and Szegedy, arXiv 1502.03167).
    """
    if not norm.rows:
        return torch.zeros_like(scale), torch.zeros_like(scale)
    slope = -scale * norm.inverse.square() * (sums[1] / norm.rows)
    shift = -scale * (sums[0] / norm.rows) - slope * norm.mean
    return shift.float(), slope.float()


def _channels_last(x: Tensor) -> Tensor:
    return (x.permute(0, 1, 3, 4, 2) if x.dim() == 5 else x).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 2, 3)


def _same(x: Tensor) -> Tensor:
    return x
