"""The passes of a junction on a CPU, by ``kernels/junction.c``."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from spikenas.snn.junction_kernels import Firing, Gradients, Terms
from spikenas.snn.kernels import library_for

SMALL = 2**16
"""values below which threads cost more than they bring"""
Pointer, Long, Float, Double, Int = (
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_float,
    ctypes.c_double,
    ctypes.c_int32,
)


def moments(x: Tensor, centre: Tensor) -> Tensor:
    channels = x.shape[-1]
    rows, threads = x.numel() // channels, threads_for(x, 1)
    out = torch.empty(2, channels, dtype=torch.float64)
    partial = torch.empty(threads, 2, channels, dtype=torch.float64)
    kernel_of(x).moments(
        _pointer(x), _pointer(centre), Long(rows), Long(channels), _pointer(out), _pointer(partial), threads
    )
    return out


def forward(terms: Terms, firing: Firing | None, total: Tensor | None, spikes: Tensor) -> Tensor:
    call = _call(terms, firing)
    call.sum, call.spikes = None if total is None else total.data_ptr(), spikes.data_ptr()
    x = terms.xs[0]
    kernel_of(x).forward(ctypes.byref(call), _terms(terms), threads_for(x, call.steps))
    return torch.tensor(float(call.count), dtype=torch.float64)


def backward(
    terms: Terms, firing: Firing | None, given: Gradients, grad: Tensor, *, learns_decay: bool
) -> tuple[Tensor, Tensor | None]:
    call, count = _call(terms, firing), len(terms.xs)
    threads = threads_for(terms.xs[0], call.steps)
    call.grad_sum, call.grad_spikes = (None if g is None else g.data_ptr() for g in (given.total, given.spikes))
    call.grad_count, call.wants_grad_decay, call.grad = given.count, learns_decay, grad.data_ptr()
    partial = torch.empty(threads, count, 2, call.channels, dtype=torch.float64)
    sums = torch.zeros(count, 2, call.channels, dtype=torch.float64)
    kernel_of(grad).backward(ctypes.byref(call), _terms(terms, sums), _pointer(partial), threads)
    return sums, torch.tensor(call.grad_decay, dtype=torch.float32) if learns_decay else None


def term_gradient(grad: Tensor, x: Tensor, dx: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> None:
    channels = x.shape[-1]
    sizes = (Long(len(x)), Long(x[0].numel() // channels), Long(channels))
    kernel_of(x).term_gradient(
        *(_pointer(grad), Long(len(grad)), _pointer(x), _pointer(dx), *sizes),
        *(_pointer(factor) for factor in (scale, shift, slope)),
        threads_for(x, len(grad)),
    )


def kernel_of(x: Tensor) -> ctypes.CDLL:
    """The kernels for values like those of ``x``, where there are any."""
    found = library_for(x.dtype)
    assert found is not None, "ask kernels.library_for() first"
    return found


def threads_for(x: Tensor, timesteps: int) -> int:
    """Threads that pay for ``x`` [T or 1, ...], each of whose values is used in so many timesteps."""
    return 1 if x[0].numel() * max(len(x), timesteps) < SMALL else torch.get_num_threads()


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


def _call(terms: Terms, firing: Firing | None) -> _Junction:
    call = _Junction(
        terms=len(terms.xs), rows=terms.rows, channels=terms.channels, steps=terms.steps, sum_steps=terms.steps
    )
    if firing is not None:
        call.fires, call.as_rates, call.reset_to_zero = True, firing.as_rates, firing.to_zero
        call.steps, call.decay, call.threshold = firing.timesteps, firing.decay, firing.threshold
        call.slope_a, call.slope_b = firing.slope_a, firing.slope_b
    return call


def _terms(terms: Terms, sums: Tensor | None = None) -> Any:
    """The terms of a call, which hold addresses only; with ``sums`` [terms, 2, C] those of the norms are wanted."""
    found = (_Term * len(terms.xs))()
    for place, (term, x, scale) in enumerate(zip(found, terms.xs, terms.scales, strict=True)):
        term.x, term.steps = x.data_ptr(), len(x)
        if scale is not None:
            term.scale, term.shift = (factor.data_ptr() for factor in scale)
        if sums is not None and (mean := terms.means[place]) is not None:
            term.mean, term.sums = mean.data_ptr(), sums[place].data_ptr()
    return found


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return Pointer(x.data_ptr())
