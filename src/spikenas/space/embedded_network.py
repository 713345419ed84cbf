"""The genotype of the default space, and the network it stands for."""

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
)
from spikenas.space.cell_space import CellSpace
from spikenas.space.cells import lower_cell
from spikenas.space.genotype import Cell, cell_text
from spikenas.space.operations import CODES, Sharing
from spikenas.space.samples import frames_of, input_of, without_idle_rows

LIF = Lif(decay=0.5, gain=1.0, threshold=1.0, reset=Reset.ZERO, membrane_bits=16)
OUTER_BITS = 8
"""of the stem, which reads the 8-bit image, and of the readout: few weights, and the most sensitive ones"""
SMALL_MAP = 4 * 4
"""a hidden layer reads maps of at most this size whole, larger ones through a 2x2 pooling"""
POOL = "pool"
HALVINGS = STRIDE, AVERAGE = ("", "avg")
"""how a map is halved between stages: by the stride of a convolution, or by an average pooling in front of one"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A cell and the channels it works on."""

    width: int
    cell: Cell

    def __post_init__(self) -> None:
        CellSpace(tuple(CODES)).check(self.cell)

    def __str__(self) -> str:
        return f"{self.width}:{cell_text(self.cell)}"


@dataclass(frozen=True, slots=True)
class EmbeddedGenotype:
    """One network of the space."""

    timesteps: int
    weight_bits: int
    """of all weights but the stem's and the readout's, which have 8"""
    stem_kernel: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head: str = POOL
    """``pool``, or ``hiddenN`` for a hidden layer of N neurons"""
    halving: str = STRIDE
    """one of HALVINGS"""

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(stage.cell for stage in self.stages)

    @property
    def hidden(self) -> int | None:
        """Neurons of the hidden layer, None without one."""
        return None if self.head == POOL else int(self.head.removeprefix("hidden"))

    def __str__(self) -> str:
        stem = f"k{self.stem_kernel}s{self.stem_stride}"
        halving = (self.halving,) if self.halving else ()
        return "-".join(
            (f"t{self.timesteps}", f"b{self.weight_bits}", stem, *halving, *map(str, self.stages), self.head)
        )


def lower_embedded(genotype: EmbeddedGenotype, input_shape: Shape, classes: int) -> Graph:
    """The network: stem, stages joined by Lif, 3x3 convolution and BatchNorm, head.

    Between stages the convolution has a stride of 2, or reads means of 2x2 spikes. Every map is at least 1x1, so any
    image fits; on samples of height 1 windows have one row. Raises GenotypeError when a cell has no path, the input is
    no image, or has another number of frames than the genotype has timesteps.
    """
    layer = input_of(input_shape)
    check_frames(genotype, frames_of(input_shape))
    sharing = Sharing(GraphBuilder())
    add, g = sharing.builder.add, genotype
    kernel, stride, padding = (g.stem_kernel,) * 2, (g.stem_stride,) * 2, (g.stem_kernel // 2,) * 2
    stem = Conv2d(g.stages[0].width, kernel, stride, padding, weight_bits=OUTER_BITS)
    image = add(layer, name="image")
    value = add(BatchNorm2d(), add(stem, image, name="stem_conv"), name="stem_bn")
    size = _shrunk(input_shape[-2:], g.stem_stride)
    for number, stage in enumerate(g.stages, start=1):
        if number > 1:
            spikes, step = sharing.add(LIF, value), (2, 2)
            if g.halving == AVERAGE:
                window, step = _two_by_two(size), (1, 1)
                spikes = _pooled(sharing, spikes, window, f"reduce{number}_pool")
                size = size[0] // window[0], size[1] // window[1]
            else:
                size = _shrunk(size, 2)
            halve = Conv2d(stage.width, stride=step, weight_bits=g.weight_bits)
            value = add(BatchNorm2d(), add(halve, spikes, name=f"reduce{number}_conv"), name=f"reduce{number}_bn")
        value = lower_cell(
            sharing,
            stage.cell,
            value,
            name=f"cell{number}",
            channels=stage.width,
            lif=LIF,
            weight_bits=g.weight_bits,
        )
    features = _head(sharing, sharing.add(LIF, value), genotype, size)
    logits = add(Linear(classes, weight_bits=OUTER_BITS), features, name="readout")
    add(Output(), add(Mean(), logits, name="mean"), name="out")
    return without_idle_rows(sharing.builder.build(g.timesteps))


def check_frames(genotype: EmbeddedGenotype, frames: int | None) -> None:
    """Raise GenotypeError for samples of another number of frames than the genotype has timesteps; None: images."""
    if frames not in (None, genotype.timesteps):
        raise GenotypeError(
            f"{str(genotype)!r}: takes {genotype.timesteps} timesteps, the samples have {frames} frames: write "
            f"t{frames}-..., or give --frames {genotype.timesteps}"
        )


def _head(sharing: Sharing, spikes: str, genotype: EmbeddedGenotype, size: tuple[int, int]) -> str:
    """From the last spikes to the features that the readout weighs."""
    add = sharing.builder.add
    height, width = size
    if genotype.hidden is None:
        return add(Flatten(), _pooled(sharing, spikes, size, "head_pool"), name="flat")
    if height * width > SMALL_MAP:
        spikes = _pooled(sharing, spikes, _two_by_two(size), "head_pool")
    flat = add(Flatten(), spikes, name="flat")
    hidden = Linear(genotype.hidden, bias=False, weight_bits=genotype.weight_bits)
    return sharing.add(LIF, add(hidden, flat, name="hidden"))


def _pooled(sharing: Sharing, spikes: str, window: tuple[int, int], name: str) -> str:
    """The means of ``spikes`` over windows side by side; over one pixel they are the spikes."""
    return spikes if window == (1, 1) else sharing.builder.add(AvgPool2d(window, window), spikes, name=name)


def _two_by_two(size: tuple[int, int]) -> tuple[int, int]:
    """A window of 2x2 pixels, as far as the map has so many."""
    height, width = size
    return min(2, height), min(2, width)


def _shrunk(size: tuple[int, ...], stride: int) -> tuple[int, int]:
    """(height, width) behind a window of odd size k, padded by k // 2: ceil(size / stride)."""
    height, width = size
    return -(-height // stride), -(-width // stride)
