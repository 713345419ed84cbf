"""SNASNet's macro-architecture: stem, two cells with a reduction between them, fully connected head.

Facts from Kim et al., ECCV 2022 (arXiv 2201.10355), section 4 and table 1, and their released code: the stem is
Conv2d and BatchNorm2d, computed once because the image is static; before the reduction and before the head the cell's
sum is normalised and fires; the head is a spiking hidden layer and a vote of several outputs per class.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenas.errors import GenotypeError
from spikenas.graph import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Lif,
    Linear,
    Mean,
    Output,
    Reset,
    Shape,
    Vote,
)
from spikenas.space.cells import lower_cell
from spikenas.space.genotype import Cell
from spikenas.space.operations import Sharing
from spikenas.space.samples import frames_of, input_of

TIMESTEPS = 5
POOLINGS = (2, 4)
LIF = Lif(decay=0.25, gain=0.75, threshold=1.0, reset=Reset.ZERO)
"""tau = 4/3: decay 1 - 1/tau, gain 1/tau"""


@dataclass(frozen=True, slots=True)
class Variant:
    """The sizes that change with the dataset."""

    widths: tuple[int, int]
    """channels of the first and the second cell"""
    hidden: int
    """neurons of the hidden layer"""
    group: int
    """outputs that vote for one class"""
    stem_stride: int = 1


def check_pooling(second_pooling: int) -> None:
    """Raise GenotypeError when it is not one of ``POOLINGS``."""
    if second_pooling not in POOLINGS:
        raise GenotypeError(f"second pooling {second_pooling} is neither 2 nor 4")


def by_classes(variants: dict[str, Variant], name: str | None, classes: int) -> Variant:
    """The variant called ``name``; without a name the one published for that many classes or the next more."""
    if name is None:
        name = "cifar10" if classes <= 10 else "cifar100" if classes <= 100 else "tiny-imagenet"
    if name not in variants:
        raise GenotypeError(f"variant {name!r} is not one of {', '.join(variants)}")
    return variants[name]


def lower_snasnet(
    cells: tuple[Cell, Cell], second_pooling: int, variant: Variant, input_shape: Shape, classes: int
) -> Graph:
    """The whole network: 5 timesteps for an image, as many as there are frames otherwise.

    Raises GenotypeError when a cell has no path or the image is too small for the poolings.
    """
    layer = input_of(input_shape)
    _check_size(layer.shape, variant.stem_stride, second_pooling)
    sharing = Sharing(GraphBuilder())
    add = sharing.builder.add
    first, second = variant.widths
    image = add(layer, name="image")
    stem = add(Conv2d(first, stride=(variant.stem_stride,) * 2), image, name="stem_conv")
    cell = lower_cell(
        sharing, cells[0], add(BatchNorm2d(), stem, name="stem_bn"), name="cell1", channels=first, lif=LIF
    )
    spikes = sharing.add(LIF, add(BatchNorm2d(), cell, name="cell1_out"))
    reduced = add(BatchNorm2d(), add(Conv2d(second), spikes, name="reduce_conv"), name="reduce_bn")
    pooled = add(AvgPool2d((2, 2), (2, 2)), reduced, name="reduce_pool")
    cell = lower_cell(sharing, cells[1], pooled, name="cell2", channels=second, lif=LIF)
    spikes = sharing.add(LIF, add(BatchNorm2d(), cell, name="cell2_out"))
    pooled = add(AvgPool2d((second_pooling,) * 2, (second_pooling,) * 2), spikes, name="head_pool")
    hidden = add(Linear(variant.hidden, bias=False), add(Flatten(), pooled, name="flat"), name="hidden")
    votes = add(Linear(classes * variant.group), sharing.add(LIF, hidden), name="readout")
    mean = add(Mean(), add(Vote(variant.group), votes, name="vote"), name="mean")
    add(Output(), mean, name="out")
    return sharing.builder.build(frames_of(input_shape) or TIMESTEPS)


def _check_size(input_shape: Shape, stem_stride: int, second_pooling: int) -> None:
    least = 2 * stem_stride * second_pooling - (stem_stride - 1)
    if min(input_shape[1:]) < least:
        raise GenotypeError(
            f"input {'x'.join(map(str, input_shape))}: second pooling {second_pooling} needs images "
            f"(channels, height, width) of at least {least}x{least}"
        )
