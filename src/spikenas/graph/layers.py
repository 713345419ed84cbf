"""The closed vocabulary of layers: frozen values, each defined by its equation, and what their outputs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Reset(StrEnum):
    """What a spike does to the membrane."""

    ZERO = "zero"
    SUBTRACT = "subtract"


@dataclass(frozen=True, slots=True)
class Input:
    """The sample: a static image (C, H, W), or one frame of an event stream when ``static`` is false.

    ``mirrored``: an inference shows the static image, then, from rest, its mirror image, left for right; the Mean is
    over the steps of both.
    """

    shape: Shape
    static: bool = True
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Cross-correlation, (C, H, W) -> (out_channels, H', W'), H' = (H + 2 padding - kernel) // stride + 1."""

    out_channels: int
    kernel_size: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    weight_bits: int = 8


@dataclass(frozen=True, slots=True)
class BatchNorm2d:
    """y = weight * (x - running_mean) / sqrt(running_var + eps) + bias, per channel."""

    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class Lif:
    """The leaky integrate-and-fire neuron of the module's docstring; ``decay=1, gain=1`` is the IF neuron.

    ``folded_norm`` stands only in integer graphs: a BatchNorm2d in front of the neuron has become a sign and a
    bias per channel, ``x = sign * x + bias`` (see :mod:`spikenas.model`).
    """

    decay: float = 0.5
    gain: float = 1.0
    threshold: float = 1.0
    reset: Reset = Reset.ZERO
    membrane_bits: int = 16
    folded_norm: bool = False


@dataclass(frozen=True, slots=True)
class AvgPool2d:
    """Mean over windows; padded zeros count as values (torch's count_include_pad)."""

    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, slots=True)
class Linear:
    """y = weight @ x (+ bias), (N,) -> (out_features,)."""

    out_features: int
    bias: bool = True
    weight_bits: int = 8


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of all incoming edges; the one layer with several inputs, and the only one a delayed edge may enter."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """(C, H, W) -> (C * H * W,), channels slowest as in torch."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The mean of each run of ``group`` neighbouring features, (N,) -> (N // group,)."""

    group: int


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over all timesteps, of all views; it stands before the Output, and nowhere else."""


@dataclass(frozen=True, slots=True)
class Output:
    """The end of the graph: one value per class."""


Layer = Input | Conv2d | BatchNorm2d | Lif | AvgPool2d | Linear | Add | Flatten | Vote | Mean | Output
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (Input, Conv2d, BatchNorm2d, Lif, AvgPool2d, Linear, Add, Flatten, Vote, Mean, Output)
}


class Kind(StrEnum):
    """What a layer's output is made of; decides how it is stored and how it becomes integer."""

    IMAGE = "image"  # the input sample, 8 bits a value
    SPIKES = "spikes"  # 0 or 1
    COUNTS = "counts"  # sums of a few spikes
    CURRENT = "current"  # real values: what neurons integrate, and logits
