"""SpikeNAS-Bench (Sun et al., IEEE TAI 2025): the 15,625 forward cells that were all trained on CIFAR-10.

SNASNet's network with halved widths and other operations: skip, or a neuron of threshold 0.5, 1.0 or 1.5 before a
3x3 convolution. The text of a genotype is ``bench-`` and the table's digit of each pair of nodes,
(0,1) (0,2) (0,3) (1,2) (1,3) (2,3): ``bench-414410`` is row 1234 of the table.

The table holds genotypes with dead connections, so ``parse`` and ``from_arch_id`` keep them; ``canonical`` drops
them. One difference is left: in the trained networks a convolution that nothing feeds still adds its BatchNorm's
bias, a constant per channel. The 341 cells without a path all tested at 10.0%, chance; ``lower`` refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikenas.errors import GenotypeError
from spikenas.graph import Graph, Shape
from spikenas.space.cell_space import CellSpace
from spikenas.space.encoding import Encoded, Genes, checked_genes, fewest_parameters
from spikenas.space.genotype import Cell, pairs
from spikenas.space.macro import Variant, by_classes, lower_snasnet
from spikenas.space.operations import checked, spiking

DIGITS = ("none", "skip", "lif_conv3x3_th0.5", "lif_conv3x3_th1.0", "lif_conv3x3_th1.5")
TABLE_SIZE = len(DIGITS) ** len(pairs(4))
SECOND_POOLING = 2
EXAMPLE = "bench-340231"
VARIANTS: dict[str, Variant] = {
    "cifar10": Variant((128, 256), hidden=1024, group=10),
    "cifar100": Variant((128, 256), hidden=1024, group=5),
    "tiny-imagenet": Variant((128, 256), hidden=4096, group=5, stem_stride=2),
}


@dataclass(frozen=True, slots=True)
class BenchGenotype:
    """The cell, used at both widths."""

    cell: Cell

    def __post_init__(self) -> None:
        CellSpace(DIGITS).check(self.cell)

    @property
    def cells(self) -> tuple[Cell, Cell]:
        return self.cell, self.cell

    @property
    def digits(self) -> tuple[int, ...]:
        """The table's ``ops``, one per pair of nodes."""
        return tuple(DIGITS.index(self.cell.operation(*pair)) for pair in pairs(4))

    @property
    def arch_id(self) -> int:
        """The table's row: the sum of digit k times 5 to the k."""
        return sum(digit * 5**place for place, digit in enumerate(self.digits))

    def __str__(self) -> str:
        return f"bench-{''.join(map(str, self.digits))}"


def from_digits(digits: tuple[int, ...]) -> BenchGenotype:
    """The genotype with the table's ``ops``, dead connections kept."""
    return BenchGenotype(Cell.of({pair: DIGITS[digit] for pair, digit in zip(pairs(4), digits, strict=True)}))


def from_arch_id(arch_id: int) -> BenchGenotype:
    """The genotype of a row of the table, dead connections kept.

    >>> str(from_arch_id(1234)), from_arch_id(1234).arch_id
    ('bench-414410', 1234)
    """
    if not 0 <= arch_id < TABLE_SIZE:
        raise GenotypeError(f"arch_id {arch_id}: SpikeNAS-Bench has rows 0..{TABLE_SIZE - 1}")
    return from_digits(tuple(arch_id // 5**place % 5 for place in range(len(pairs(4)))))


@dataclass(frozen=True)
class BenchSpace(Encoded[BenchGenotype]):
    """SpikeNAS-Bench's space: canonical cells with a path; the table's other rows by :func:`from_arch_id`.

    Args:
        operations: a subset of ``DIGITS``.
        variant: one of ``VARIANTS``; None takes the one trained for the number of classes.
    """

    operations: tuple[str, ...] = DIGITS
    variant: str | None = None
    name: str = "spikenas-bench"
    summary: str = "SpikeNAS-Bench (IEEE TAI 2025): the cells of the table of 15,625 trained networks; for GPUs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", checked(self.name, self.operations, DIGITS))
        by_classes(VARIANTS, self.variant, 10)

    @property
    def cell_space(self) -> CellSpace:
        return CellSpace(self.operations)

    def count(self) -> int:
        return self.cell_space.count()

    def enumerate(self) -> Iterator[BenchGenotype]:
        return map(BenchGenotype, self.cell_space.enumerate())

    def bounds(self) -> Genes:
        return np.array([*map(len, self.cell_space.choices())], dtype=np.int64)

    def encode(self, genotype: BenchGenotype) -> Genes:
        return np.array(self.cell_space.encode(genotype.cell), dtype=np.int64)

    def decode(self, genes: Genes) -> BenchGenotype:
        return BenchGenotype(self.cell_space.decode(checked_genes(genes, self.bounds())))

    def canonical(self, genotype: BenchGenotype) -> BenchGenotype:
        return BenchGenotype(genotype.cell.canonical)

    def parse(self, text: str) -> BenchGenotype:
        """Read ``bench-`` and six digits 0..4. Raises GenotypeError."""
        match = re.fullmatch(r"bench-([0-4]{6})", text)
        if match is None:
            raise GenotypeError(f"{text!r} is no genotype of space '{self.name}': write one like {EXAMPLE}")
        genotype = from_digits(tuple(map(int, match[1])))
        try:
            self.cell_space.check(genotype.cell)
        except GenotypeError as error:
            raise GenotypeError(f"{text!r}: {error}, write one like {EXAMPLE}") from error
        return genotype

    def lower(self, genotype: BenchGenotype, input_shape: Shape, classes: int) -> Graph:
        variant = by_classes(VARIANTS, self.variant, classes)
        return lower_snasnet(genotype.cells, SECOND_POOLING, variant, input_shape, classes)

    def smallest(self, input_shape: Shape, classes: int) -> BenchGenotype:
        """The genotype with the fewest parameters for this input."""
        return fewest_parameters(self, map(BenchGenotype, self.cell_space.sparsest()), input_shape, classes)


def parameter_count(genotype: BenchGenotype) -> int:
    """Parameters of the canonical network on CIFAR-10, as its graph counts them; defined for every row."""
    return table_parameter_count(BenchGenotype(genotype.cell.canonical))


def table_parameter_count(genotype: BenchGenotype) -> int:
    """The table's ``params``: on CIFAR-10, with the convolutions on dead connections.

    >>> table_parameter_count(from_arch_id(0)), table_parameter_count(from_arch_id(1234))
    (17179620, 19393764)
    """
    first, second = VARIANTS["cifar10"].widths
    stem = 3 * first * 9 + 2 * first
    reduction = 2 * first + first * second * 9 + 2 * second
    head = 2 * second + second * 8 * 8 * 1024 + (1024 + 1) * 100
    convolution = sum(9 * width * width + 2 * width for width in (first, second))
    return stem + reduction + head + convolution * sum(spiking(e.operation) for e in genotype.cell.connections)
