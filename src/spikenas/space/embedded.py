"""The default space: networks of a few KB to a few MB, with everything that costs memory in the genotype.

A stem convolution (its stride sets the map size, hence RAM), one to four stages with a cell and a width each, halved
in size from one to the next, and a head: global average pooling, or a spiking hidden layer. The text of a genotype
reads in that order: ``t4-b8-k3s1-16:30s.01.0-32:003.00.0-pool`` is 4 timesteps, 8-bit weights, a 3x3 stem of stride
1, a stage of 16 channels with the cell ``30s.01.0`` (letters: ``operations.CODES``), a stage of 32, pooling;
``hidden64`` in place of ``pool`` is a hidden layer of 64 neurons. With ``avg`` behind the stem maps are halved by an
average pooling instead of a stride.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import TypeVar

import numpy as np

from spikenas.errors import GenotypeError
from spikenas.graph import Graph, Shape
from spikenas.space.cell_space import CellSpace
from spikenas.space.embedded_network import (
    HALVINGS,
    POOL,
    STRIDE,
    EmbeddedGenotype,
    Stage,
    check_frames,
    lower_embedded,
)
from spikenas.space.encoding import Encoded, Genes, checked_genes, fewest_parameters
from spikenas.space.genotype import parse_cell
from spikenas.space.operations import CODES, checked

T = TypeVar("T", int, str)
Ints = tuple[int, ...]
Texts = tuple[str, ...]
Frame = tuple[Ints, Ints, Ints, Ints, Texts, Texts]
EXAMPLE = "t4-b8-k3s1-16:30s.01.0-32:003.00.0-pool"
GENOTYPE = re.compile(
    r"t([1-9]\d*)-b([1-9]\d*)-k([1-9]\d*)s([1-9]\d*)(?:-(?P<halving>avg))?"
    r"(?P<stages>(?:-[1-9]\d*:[^-:]+)+)-(?P<head>pool|hidden[1-9]\d*)"
)
HEAD_GENE, FRAME_GENES = 4, 7
"""where the head's gene is, and how many there are before the stages'"""


@dataclass(frozen=True)
class EmbeddedSpace(Encoded[EmbeddedGenotype]):
    """The default space. Every field is the list of choices of one thing; shorten a list to narrow the space.

    ``frames``: of the samples that it is for, see :meth:`for_frames`; None for images.
    """

    operations: tuple[str, ...] = field(default_factory=lambda: tuple(CODES))
    timesteps: tuple[int, ...] = tuple(range(1, 9))
    weight_bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    stem_kernels: tuple[int, ...] = (3, 5)
    stem_strides: tuple[int, ...] = (1, 2, 4)
    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    heads: Texts = (POOL, "hidden32", "hidden64", "hidden128", "hidden256")
    halvings: Texts = HALVINGS
    max_stages: int = 4
    frames: int | None = None
    name: str = "embedded"
    summary: str = "one to four stages for microcontrollers: 4 KB to 4 MB of flash, 4 KB to 1 MB of RAM"

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", checked(self.name, self.operations, CODES))

    @property
    def cell_space(self) -> CellSpace:
        return CellSpace(self.operations)

    def count(self) -> int:
        stage = len(self.widths) * self.cell_space.count()
        numbers = range(1, self.max_stages + 1)
        return sum(prod([stage] * number) * prod(map(len, self._frame(number))) for number in numbers)

    def enumerate(self) -> Iterator[EmbeddedGenotype]:
        """Every genotype, fewest stages first; there are about 9e28 unless the space was narrowed."""
        for stages in range(1, self.max_stages + 1):
            for chosen in self._stages(stages):
                for steps, bits, kernel, stride, head, halving in product(*self._frame(stages)):
                    yield EmbeddedGenotype(steps, bits, kernel, stride, chosen, head, halving)

    def bounds(self) -> Genes:
        stage = [len(self.widths), *map(len, self.cell_space.choices())]
        return np.array(
            [*map(len, self._frame(self.max_stages)), self.max_stages, *stage * self.max_stages], dtype=np.int64
        )

    def encode(self, genotype: EmbeddedGenotype) -> Genes:
        g = genotype
        genes = [
            _index("timesteps", self.timesteps, g.timesteps),
            _index("weight bits", self.weight_bits, g.weight_bits),
            _index("stem kernel", self.stem_kernels, g.stem_kernel),
            _index("stem stride", self.stem_strides, g.stem_stride),
            _index("head", self.heads, g.head),
            _index("halving", self.halvings, g.halving),
            _index("number of stages", tuple(range(1, self.max_stages + 1)), len(g.stages)),
        ]
        # genes of stages beyond the last repeat it, so that a crossover that adds a stage adds a sensible one
        padded = g.stages + g.stages[-1:] * (self.max_stages - len(g.stages))
        for stage in padded:
            genes += [_index("width", self.widths, stage.width), *self.cell_space.encode(stage.cell)]
        return np.array(genes, dtype=np.int64)

    def decode(self, genes: Genes) -> EmbeddedGenotype:
        values = checked_genes(genes, self.bounds())
        steps, bits, kernel, stride, head, halving, last, *rest = values
        size = len(rest) // self.max_stages
        parts = (rest[start : start + size] for start in range(0, size * (last + 1), size))
        stages = tuple(Stage(self.widths[part[0]], self.cell_space.decode(part[1:])) for part in parts)
        return EmbeddedGenotype(
            self.timesteps[steps],
            self.weight_bits[bits],
            self.stem_kernels[kernel],
            self.stem_strides[stride],
            stages,
            self.heads[head],
            self.halvings[halving if last else 0],
        )

    def sample(self, rng: np.random.Generator) -> EmbeddedGenotype:
        """A random genotype: the first width log-uniform, widths never shrinking, half of the heads pooling."""
        genes = rng.integers(0, self.bounds())
        if POOL in self.heads and rng.random() < 0.5:
            genes[HEAD_GENE] = self.heads.index(POOL)
        size = (len(genes) - FRAME_GENES) // self.max_stages
        for place in range(FRAME_GENES + size, len(genes), size):
            genes[place] = min(genes[place - size] + rng.integers(0, 4), len(self.widths) - 1)
        return self.decode(genes)

    def canonical(self, genotype: EmbeddedGenotype) -> EmbeddedGenotype:
        stages = tuple(Stage(stage.width, stage.cell.canonical) for stage in genotype.stages)
        halving = genotype.halving if len(stages) > 1 else self.halvings[0]
        return replace(genotype, stages=stages, halving=halving)

    def parse(self, text: str) -> EmbeddedGenotype:
        """Read a genotype as in the module's docstring. Raises GenotypeError."""
        match = GENOTYPE.fullmatch(text)
        if match is None:
            raise GenotypeError(f"{text!r} is no genotype of space '{self.name}': write one like {EXAMPLE}")
        steps, bits, kernel, stride = map(int, match.groups()[:4])
        try:
            written = (part.split(":") for part in match["stages"].removeprefix("-").split("-"))
            stages = tuple(Stage(int(width), parse_cell(cell)) for width, cell in written)
            genotype = EmbeddedGenotype(steps, bits, kernel, stride, stages, match["head"], match["halving"] or STRIDE)
            if self.frames in (None, steps):
                self.encode(genotype)
        except GenotypeError as error:
            raise GenotypeError(f"{text!r}: {error}, write one like {EXAMPLE}") from error
        check_frames(genotype, self.frames)
        return genotype

    def lower(self, genotype: EmbeddedGenotype, input_shape: Shape, classes: int) -> Graph:
        return lower_embedded(genotype, input_shape, classes)

    def for_frames(self, frames: int | None) -> EmbeddedSpace:
        return self if frames is None else replace(self, timesteps=(frames,), frames=frames)

    def smallest(self, input_shape: Shape, classes: int) -> EmbeddedGenotype:
        """The genotype with the fewest parameters for this input, at the fewest bits, steps and map size."""
        frame = min(self.timesteps), min(self.weight_bits), min(self.stem_kernels), max(self.stem_strides)
        candidates = (
            EmbeddedGenotype(*frame, (Stage(min(self.widths), cell),), head, self.halvings[0])
            for cell in self.cell_space.sparsest()
            for head in self.heads
        )
        return fewest_parameters(self, candidates, input_shape, classes)

    def _frame(self, stages: int) -> Frame:
        """The choices of everything but so many stages; between one stage and nothing there is nothing to halve."""
        halvings = self.halvings if stages > 1 else self.halvings[:1]
        return self.timesteps, self.weight_bits, self.stem_kernels, self.stem_strides, self.heads, halvings

    def _stages(self, stages: int) -> Iterator[tuple[Stage, ...]]:
        if stages == 0:
            yield ()
            return
        for before in self._stages(stages - 1):
            for width in self.widths:
                for cell in self.cell_space.enumerate():
                    yield (*before, Stage(width, cell))


def _index(what: str, choices: tuple[T, ...], value: T) -> int:
    if value not in choices:
        raise GenotypeError(f"{what} {value} is not one of {', '.join(map(str, choices))}")
    return choices.index(value)
