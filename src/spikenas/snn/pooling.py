"""Average pooling of a network's values, in one pass over memory where the kernels know the window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenas.graph import AvgPool2d
from spikenas.snn.execution import folded
from spikenas.snn.junction_cpu import Long, Pointer, kernel_of, threads_for
from spikenas.snn.junction_kernels import kernels_for


def pool(x: Tensor, layer: AvgPool2d) -> Tensor:
    """The means of ``x`` [T, B, C, H, W] over the layer's windows; zeros of the padding count.

    Windows of stride 1 about each pixel take a fifth of torch's time, forward and backward (``kernels/pooling.c``).
    """
    size = layer.kernel_size[0]
    centred = (size % 2 == 1, layer.kernel_size == (size, size), layer.padding == (size // 2, size // 2))
    compiled = x.device.type == "cpu" and kernels_for(x) is not None
    if all(centred) and layer.stride == (1, 1) and compiled:
        means: Tensor = _WindowMeans.apply(x.permute(0, 1, 3, 4, 2), size)  # type: ignore[no-untyped-call]
        return means.permute(0, 1, 4, 2, 3)
    window = (layer.kernel_size, layer.stride, layer.padding)
    return folded(x, lambda maps: functional.avg_pool2d(maps, *window))


class _WindowMeans(torch.autograd.Function):
    """Of ``x`` [T, B, H, W, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _means(x, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _means(grad, ctx.size), None


def _means(x: Tensor, size: int) -> Tensor:
    x = x.contiguous()
    means = torch.empty_like(x)
    steps, batch, *sides = x.shape
    sizes = (Long(number) for number in (steps * batch, *sides, size))
    kernel_of(x).window_means(Pointer(x.data_ptr()), Pointer(means.data_ptr()), *sizes, threads_for(x, 1))
    return means
