"""Currents, their BatchNorms, their sum and the neuron that integrates it, in one pass over memory.

What lies between two convolutions of a spiking network moves memory rather than computes, and torch moves it once for
each operation. ``kernels/junction.c`` does all of it at once, forward, and backward through time by hand; without a C
compiler, on a GPU, or in a feedback loop the same operations run one by one (:mod:`spikenas.snn.neuron` and torch's
own BatchNorm2d), which the tests hold against this.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from torch import Tensor, nn

from spikenas.graph import Lif, Reset
from spikenas.snn.kernels import library
from spikenas.snn.neuron import ALPHA

SMALL = 2**16
"""values below which threads cost more than they bring"""
Pointer, Long, Float, Double, Int = (
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_float,
    ctypes.c_double,
    ctypes.c_int32,
)


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


def available(x: Tensor) -> bool:
    """Whether :func:`join` can run on tensors like ``x``."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and _library(x.dtype) is not None


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


class _Term(ctypes.Structure):
    _fields_ = (
        *(("x", Pointer), ("steps", Long), ("scale", Pointer), ("shift", Pointer)),
        *(("mean", Pointer), ("sums", Pointer)),
    )


class _Junction(ctypes.Structure):
    _fields_ = (
        *(("terms", Long), ("rows", Long), ("channels", Long), ("steps", Long), ("sum_steps", Long)),
        *(("decay", Float), ("threshold", Float), ("slope_a", Float), ("slope_b", Float)),
        *(("reset_to_zero", Int), ("fires", Int), ("as_rates", Int)),
        *(("sum", Pointer), ("spikes", Pointer), ("count", Long)),
        *(("grad_sum", Pointer), ("grad_spikes", Pointer), ("grad_count", Float)),
        *(("wants_grad_decay", Int), ("grad_decay", Double), ("grad", Pointer)),
    )


class _Join(torch.autograd.Function):
    """``xs`` are channels last: [T or 1, B, ..., C], contiguous. Gives the sum, the spikes and how many they are."""

    @staticmethod
    def forward(ctx: Any, setting: _Setting, count: int, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        xs, parameters = tensors[:count], tensors[count:]
        call = _call(setting, xs, parameters)
        summed = xs[0].new_empty(call.sum_steps if setting.total else 0, *xs[0].shape[1:])
        spikes = xs[0].new_empty(setting.steps_out, *xs[0].shape[1:])
        call.sum, call.spikes = _address(summed) if setting.total else None, _address(spikes)
        scales = _scales(setting, parameters)  # held until the kernel, which has only their addresses, is done
        kernel_of(xs[0]).forward(ctypes.byref(call), _terms(setting, xs, scales), threads_for(xs[0], setting.timesteps))
        ctx.setting, ctx.count = setting, count
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return summed, spikes, torch.tensor(float(call.count), dtype=torch.float64)

    @staticmethod
    def backward(
        ctx: Any, grad_sum: Tensor | None, grad_spikes: Tensor | None, grad_count: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        setting: _Setting = ctx.setting
        xs, parameters = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        x, scales = xs[0], _scales(setting, parameters)
        kernel, threads, call = kernel_of(x), threads_for(x, setting.timesteps), _call(setting, xs, parameters)
        if grad_count is not None and grad_spikes is None:
            grad_spikes = x.new_zeros(setting.steps_out, *x.shape[1:])
        given = [None if g is None else g.to(x.dtype).contiguous() for g in (grad_sum, grad_spikes)]
        call.grad_sum, call.grad_spikes = (None if g is None else _address(g) for g in given)
        call.grad_count = 0.0 if grad_count is None else float(grad_count)
        call.wants_grad_decay = setting.learns_decay
        grad = x.new_empty(call.sum_steps, *x.shape[1:])
        call.grad = _address(grad)
        partial = torch.empty(threads, len(xs), 2, call.channels, dtype=torch.float64)
        sums = torch.zeros(len(xs), 2, call.channels, dtype=torch.float64)
        kernel.backward(ctypes.byref(call), _terms(setting, xs, scales, sums), _pointer(partial), threads)
        grads: list[Tensor] = []
        affine: list[Tensor] = []
        for x, norm, scale, found in zip(xs, setting.norms, scales, sums, strict=True):
            if norm is None or scale is None:
                grads.append(grad if len(x) == len(grad) else grad.sum(0, keepdim=True))
                continue
            affine += [(found[1] * norm.inverse).float(), found[0].float()]
            shift, slope = _corrections(norm, scale[0], found)
            dx = grad if len(xs) == 1 and len(x) == len(grad) else torch.empty_like(x)
            sizes = (Long(call.rows), Long(call.channels))
            factors = (_pointer(scale[0]), _pointer(shift), _pointer(slope))
            kernel.term_gradient(
                _pointer(grad), Long(len(grad)), _pointer(x), _pointer(dx), Long(len(x)), *sizes, *factors, threads
            )
            grads.append(dx)
        learned = [torch.tensor(call.grad_decay, dtype=torch.float32)] if setting.learns_decay else []
        return None, None, *grads, *affine, *learned


def _statistics(x: Tensor, norm: nn.BatchNorm2d) -> _Statistics:
    """Of the batch in training mode, updating the running ones; else the running ones."""
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None
    assert running_var is not None
    if not norm.training:
        return _Statistics(running_mean.clone(), torch.rsqrt(running_var + norm.eps), 0)
    channels = x.shape[-1]
    rows, threads = x.numel() // channels, threads_for(x, 1)
    out = torch.empty(2, channels, dtype=torch.float64)
    partial = torch.empty(threads, 2, channels, dtype=torch.float64)
    centre = running_mean.contiguous()
    kernel_of(x).moments(
        _pointer(x.detach()), _pointer(centre), Long(rows), Long(channels), _pointer(out), _pointer(partial), threads
    )
    first, second = out / rows
    mean, var = centre.double() + first, (second - first * first).clamp_min_(0.0)
    with torch.no_grad():
        momentum = norm.momentum if norm.momentum is not None else 0.1
        running_mean.lerp_(mean.float(), momentum)
        running_var.lerp_((var * (rows / max(1, rows - 1))).float(), momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return _Statistics(mean.float(), torch.rsqrt(var + norm.eps).float(), rows)


def _scales(setting: _Setting, parameters: Sequence[Tensor]) -> list[tuple[Tensor, Tensor] | None]:
    """Scale and shift of each current's norm."""
    pairs = iter(zip(parameters[::2], parameters[1::2], strict=False))
    scales: list[tuple[Tensor, Tensor] | None] = []
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


def _call(setting: _Setting, xs: Sequence[Tensor], parameters: Sequence[Tensor]) -> _Junction:
    lif, x = setting.lif, xs[0]
    channels = x.shape[-1]
    call = _Junction(
        terms=len(xs),
        rows=x[0].numel() // channels,
        channels=channels,
        steps=setting.timesteps,
        sum_steps=max(len(x) for x in xs),
        fires=lif is not None,
        as_rates=setting.as_rates,
    )
    if lif is not None:
        call.decay = parameters[-1].item() if setting.learns_decay else lif.decay
        call.threshold = lif.threshold / lif.gain
        call.slope_a = 2.0 / (ALPHA * lif.gain)
        call.slope_b = (pi * ALPHA / 2.0 * lif.gain) ** 2 * call.slope_a
        call.reset_to_zero = lif.reset is Reset.ZERO
    return call


def _terms(
    setting: _Setting, xs: Sequence[Tensor], scales: Sequence[tuple[Tensor, Tensor] | None], sums: Tensor | None = None
) -> Any:
    """The terms of a call; with ``sums`` [terms, 2, C] those of the norms are wanted."""
    terms = (_Term * len(xs))()
    for place, (term, x, norm, scale) in enumerate(zip(terms, xs, setting.norms, scales, strict=True)):
        term.x, term.steps = _address(x), len(x)
        if norm is not None and scale is not None:
            term.scale, term.shift = map(_address, scale)
            if sums is not None:
                term.mean, term.sums = _address(norm.mean), _address(sums[place])
    return terms


def _library(kind: torch.dtype) -> ctypes.CDLL | None:
    return library("bf16" if kind is torch.bfloat16 else "float")


def kernel_of(x: Tensor) -> ctypes.CDLL:
    """The kernels for values like those of ``x``, where they are :func:`available`."""
    found = _library(x.dtype)
    assert found is not None, "ask available() first"
    return found


def threads_for(x: Tensor, timesteps: int) -> int:
    """Threads that pay for ``x`` [T or 1, ...], each of whose values is used in so many timesteps."""
    return 1 if x[0].numel() * max(len(x), timesteps) < SMALL else torch.get_num_threads()


def _address(x: Tensor) -> int:
    return x.data_ptr()


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return Pointer(x.data_ptr())


def _channels_last(x: Tensor) -> Tensor:
    return (x.permute(0, 1, 3, 4, 2) if x.dim() == 5 else x).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 2, 3)


def _same(x: Tensor) -> Tensor:
    return x
