"""Average pooling in one pass against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikenas.graph import AvgPool2d
from spikenas.snn.execution import folded
from spikenas.snn.junction_kernels import kernels_for
from spikenas.snn.pooling import pool

SHAPES = [(2, 3, 5, 8, 8), (1, 4, 24, 32, 32), (3, 1, 1, 1, 1), (2, 2, 3, 2, 7), (1, 2, 16, 4, 1)]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_windows_of_stride_1_forward_and_backward(shape: tuple[int, ...], size: int, kind: torch.dtype) -> None:
    x, grad = torch.randn(2, *shape, generator=torch.Generator().manual_seed(size)).to(kind)
    if kernels_for(x) is None:
        pytest.skip("needs a C compiler")
    layer, mine, theirs = AvgPool2d((size, size), (1, 1), (size // 2, size // 2)), x.clone(), x.float()
    mine.requires_grad_(), theirs.requires_grad_()
    ours, wanted = pool(mine, layer), folded(theirs, lambda maps: functional.avg_pool2d(maps, size, 1, size // 2))
    ours.backward(grad)
    wanted.backward(grad.float())
    assert mine.grad is not None
    assert theirs.grad is not None
    exact = {"rtol": 0.0, "atol": 1e-6} if kind is torch.float32 else {"rtol": 2.0**-8, "atol": 1e-6}
    torch.testing.assert_close(ours.float(), wanted, **exact)
    torch.testing.assert_close(mine.grad.float(), theirs.grad, **exact)


def test_other_windows_are_torchs() -> None:
    x = torch.randn(2, 3, 4, 8, 8)
    for layer in (AvgPool2d((2, 2), (2, 2)), AvgPool2d((3, 3), (2, 2), (1, 1)), AvgPool2d((3, 1), (1, 1), (1, 0))):
        window = (layer.kernel_size, layer.stride, layer.padding)
        assert torch.equal(pool(x, layer), functional.avg_pool2d(x.flatten(0, 1), *window).unflatten(0, (2, 3)))
