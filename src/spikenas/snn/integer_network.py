"""Integer models over many images at once: the table of :mod:`spikenas.model` in torch, bit for bit.

Integers travel in floating point, where convolutions are fast. That is exact: :mod:`spikenas.snn.bounds` proves for
each node how large its sums can grow, below 2**24 they are float32, otherwise float64 (below 2**53).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikenas.errors import ModelError
from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, Kind, Lif, Linear, Reset, Vote
from spikenas.model import CURRENT_MAX, CURRENT_MIN, DECAY_ONE, IntegerModel, decay_q, in_accumulator
from spikenas.snn.bounds import reaches
from spikenas.snn.execution import Execution, Watch, channels_last, folded

BATCH_SIZE = 32  # what fits the caches of a CPU
PIXEL_ZERO = 128.0
EXACT_FLOAT32 = 2**24


def predict(
    model: IntegerModel,
    images: npt.NDArray[np.uint8],
    *,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.int32]:
    """Integer outputs [N, classes], equal to :func:`spikenas.reference.run`'s.

    ``images``: uint8 [N, C, H, W], or [N, T, C, H, W] for an Input that is not static.
    ``on_batch`` is told how many images are done. Raises ModelError when the images do not fit the network.
    """
    if images.dtype != np.uint8:
        raise ModelError(f"images are {images.dtype}: an integer network takes uint8 pixels")
    network = IntegerNetwork(model)
    outputs: list[npt.NDArray[np.int32]] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        outputs.append(network.run(torch.from_numpy(batch)).to(torch.int32).numpy())
        if on_batch is not None:
            on_batch(start + len(batch))
    return np.concatenate(outputs)


class IntegerNetwork:
    """An integer model's weights as tensors, ready to run."""

    def __init__(self, model: IntegerModel) -> None:
        self.model = model
        self.graph: Graph = model.graph
        self.execution = Execution(model.graph)
        self.peaks = {name: reach.peak for name, reach in reaches(model).items()}
        self.types = {
            name: torch.float32 if peak < EXACT_FLOAT32 else torch.float64 for name, peak in self.peaks.items()
        }
        self.weights = {
            name: torch.from_numpy(array.astype(np.float64)).to(self.types[name.rpartition(".")[0]])
            for name, array in model.weights.items()
        }

    def run(self, images: Tensor, watch: Watch | None = None) -> Tensor:
        """Outputs [B, classes], the sums over time, as float64 that hold integers; ``images`` uint8."""
        with torch.no_grad():
            return self.execution.run(self, images, watch).double().sum(0)

    def image(self, images: Tensor) -> Tensor:
        return channels_last(images.to(torch.float32) - PIXEL_ZERO)

    def sequence(self, name: str, x: Tensor) -> Tensor:
        """All steps of a neuron; spikes are float32."""
        x = self._neuron_input(name, x)
        spikes = torch.empty_like(x.expand(self.graph.timesteps, *x.shape[1:]))
        v: Tensor | None = None
        for t, fired in enumerate(spikes):
            v = self._fire(name, x[min(t, len(x) - 1)], v, fired)
        return spikes.float()

    def step(self, name: str, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self._neuron_input(name, x[None])[0]
        fired = torch.empty_like(x)
        v = self._fire(name, x, v, fired)
        return fired.float(), v

    def compute(self, name: str, inputs: list[Tensor]) -> Tensor:
        x, layer = inputs[0].to(self.types[name]), self.graph[name]
        match layer:
            case Conv2d() | Linear():
                y = self._weighted_sum(name, layer, x)
            case AvgPool2d():
                y = self._pool(layer, inputs[0], self.graph.kinds[name] is Kind.CURRENT)
            case Add():
                y = sum(inputs[1:], start=x)
            case Flatten():
                y = x.flatten(2)
            case Vote():
                y = x.reshape(*x.shape[:-1], -1, layer.group).sum(-1)
            case _:
                raise NotImplementedError(f"integer network has no rule for {type(layer).__name__}")
        if self.graph.kinds[name] is Kind.CURRENT and not in_accumulator(self.graph, name):
            return self._clamped(name, y).float()
        return y

    def _weighted_sum(self, name: str, layer: Conv2d | Linear, x: Tensor) -> Tensor:
        """``((sum W x + half) >> shift) + bias``."""
        weight, (left, right) = self.weights[f"{name}.weight"], self.model.shifts(name)
        if isinstance(layer, Linear):
            y = functional.linear(x, weight)
        else:
            geometry = (layer.stride, layer.padding, (1, 1), layer.groups)
            y = folded(x, lambda maps: functional.conv2d(maps, weight, None, *geometry))
        if right:
            y.add_(1 << right - 1).mul_(0.5**right).floor_()
        elif left:
            y.mul_(1 << left)
        return y.add_(_per_channel(self.weights[f"{name}.bias"], y)) if layer.bias else y

    def _pool(self, layer: AvgPool2d, x: Tensor, currents: bool) -> Tensor:
        """The window's sum; of currents the mean rounded half up, in float64 so that no quotient is rounded over."""
        window = (layer.kernel_size, layer.stride, layer.padding)
        x = x.double() if currents else x
        total = folded(x, lambda maps: functional.avg_pool2d(maps, *window, divisor_override=1))
        size = layer.kernel_size[0] * layer.kernel_size[1]
        return total.mul_(2).add_(size).div_(2 * size).floor_().float() if currents else total

    def _neuron_input(self, name: str, x: Tensor) -> Tensor:
        layer, (edge,) = self.graph[name], self.graph.sources[name]
        assert isinstance(layer, Lif)
        x = self._clamped(edge.source, x).to(self.types[name])
        if layer.folded_norm:
            x = x * _per_channel(self.weights[f"{name}.sign"], x) + _per_channel(self.weights[f"{name}.bias"], x)
        return x

    def _clamped(self, name: str, value: Tensor) -> Tensor:
        """A node's output within 16 bits; most provably are."""
        return value if self.peaks[name] <= CURRENT_MAX else value.clamp(CURRENT_MIN, CURRENT_MAX)

    def _fire(self, name: str, x: Tensor, v: Tensor | None, fired: Tensor) -> Tensor:
        """``u = clamp(((decay_q v) >> 8) + x); fired = u >= threshold``; the membrane after the reset, in place of v.

        16-bit membranes make products of 23 bits, exact in float32.
        """
        layer = self.graph[name]
        assert isinstance(layer, Lif)
        limit = 2 ** (layer.membrane_bits - 1)
        threshold = _per_channel(self.weights[f"{name}.threshold"], x[None])[0]
        u = x.clone() if v is None else v.mul_(decay_q(layer) / DECAY_ONE).floor_().add_(x)
        u.clamp_(-limit, limit - 1)
        torch.ge(u, threshold, out=fired)
        return u.addcmul_(u if layer.reset is Reset.ZERO else threshold, fired, value=-1)


def _per_channel(array: Tensor, like: Tensor) -> Tensor:
    """[C] to the shape of [T, B, C, ...]."""
    return array.reshape(1, 1, -1, *[1] * (like.dim() - 3))
