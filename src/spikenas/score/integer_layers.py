"""Convolutions of spikes in exact integers, by the fastest means the machine has.

Random weights are drawn on a grid of 255 levels. Spikes are 0 or 1, so every sum is an integer that float32 holds
exactly: one and the same result from int8 matrix units, from plain float arithmetic, and for any number of threads.
Maps are [B, H, W, C] in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenas.graph import Conv2d

LEVELS = 127
INT8_MM_ROWS = 17
"""``torch._int_mm`` refuses fewer rows."""


def convolution(weight: Tensor, layer: Conv2d, shape: tuple[int, int, int, int]) -> Callable[[Tensor], Tensor]:
    """A function from uint8 [B, H, W, C] to float32 [B, H', W', C'], whole numbers.

    ``weight`` is int8 [C', C / groups, k, k]; ``shape`` is that of most maps it will be given, [B, H, W, C].
    """
    return _onednn(weight, layer, shape) if has_int8(weight.device) else float_convolution(weight, layer)


def float_convolution(weight: Tensor, layer: Conv2d) -> Callable[[Tensor], Tensor]:
    """The same in float32, for any values."""
    kernel = weight.to(torch.float32)

    def apply(maps: Tensor) -> Tensor:
        images = maps.permute(0, 3, 1, 2).to(torch.float32)
        result = functional.conv2d(images, kernel, None, layer.stride, layer.padding, groups=layer.groups)
        return result.permute(0, 2, 3, 1).contiguous()

    return apply


def multiply(features: Tensor, weight: Tensor) -> Tensor:
    """float32 [B, M], whole numbers, from uint8 [B, N] up to 127 and int8 ``weight`` [M, N]."""
    if features.device.type == "cpu" and len(features) >= INT8_MM_ROWS:
        product: Tensor = torch._int_mm(features.view(torch.int8), weight.T)
        return product.to(torch.float32)
    return features.to(torch.float32) @ weight.to(torch.float32).T


@lru_cache(maxsize=4)
def has_int8(device: torch.device) -> bool:
    """Whether torch's int8 convolution is there and right: it is oneDNN's, x86 only, and no public interface."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    spikes = torch.randint(0, 2, (2, 5, 5, 32), generator=generator, dtype=torch.uint8)
    weight = torch.randint(-LEVELS, LEVELS + 1, (32, 32, 3, 3), generator=generator, dtype=torch.int8)
    try:
        result = _onednn(weight, Conv2d(32), (2, 5, 5, 32))(spikes)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    images = spikes.permute(0, 3, 1, 2).to(torch.float32)
    expected = functional.conv2d(images, weight.to(torch.float32), padding=1)
    return torch.equal(result, expected.permute(0, 2, 3, 1))


def _onednn(weight: Tensor, layer: Conv2d, shape: tuple[int, int, int, int]) -> Callable[[Tensor], Tensor]:
    operators: Any = torch.ops.onednn
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)
    sizes = (list(layer.stride), list(layer.padding), [1, 1], layer.groups)
    batch, height, width, channels = shape
    packed = operators.qconv_prepack(weight, ones, 1.0, 0, *sizes, [batch, channels, height, width])

    def apply(maps: Tensor) -> Tensor:
        result: Tensor = operators.qconv2d_pointwise(
            *(maps.permute(0, 3, 1, 2), 1.0, 0, packed, ones, zeros, None),
            *(*sizes, 1.0, 0, torch.float32, "none", [], ""),
        )
        return result.permute(0, 2, 3, 1).contiguous()

    return apply
