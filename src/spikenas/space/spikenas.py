"""SpikeNAS's space (Putra & Shafique, arXiv 2402.11322): SNASNet's network, each cell searched on its own.

Feed-forward connections only, and an operation set that the analysis of operations may reduce. The text of a
genotype is both cells, one letter per pair of nodes (``operations.CODES``) with a dot between source nodes, and the
second pooling: ``303.30.1+30s.0a.0/p2``.
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
from spikenas.space.genotype import Cell, cell_text, parse_cell
from spikenas.space.macro import POOLINGS, by_classes, check_pooling, lower_snasnet
from spikenas.space.operations import CODES, checked
from spikenas.space.snasnet import DIGITS, VARIANTS

EXAMPLE = "303.30.1+30s.0a.0/p2"


@dataclass(frozen=True, slots=True)
class SpikenasGenotype:
    """The two cells, and the pooling before the fully connected layer."""

    cells: tuple[Cell, Cell]
    second_pooling: int = 2

    def __post_init__(self) -> None:
        check_pooling(self.second_pooling)
        for cell in self.cells:
            CellSpace(tuple(CODES)).check(cell)

    def __str__(self) -> str:
        return f"{'+'.join(map(cell_text, self.cells))}/p{self.second_pooling}"


@dataclass(frozen=True)
class SpikenasSpace(Encoded[SpikenasGenotype]):
    """SpikeNAS's space; every cell has a path from input to output.

    Args:
        operations: a subset of the keys of ``CODES``, by default SNASNet's five.
        variant: one of SNASNet's ``VARIANTS``; None takes the one published for the number of classes.
    """

    operations: tuple[str, ...] = DIGITS
    variant: str | None = None
    name: str = "spikenas"
    summary: str = "SpikeNAS (arXiv 2402.11322): SNASNet with two different feed-forward cells; for GPUs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", checked(self.name, self.operations, CODES))
        by_classes(VARIANTS, self.variant, 10)

    @property
    def cell_space(self) -> CellSpace:
        return CellSpace(self.operations)

    def count(self) -> int:
        return self.cell_space.count() ** 2 * len(POOLINGS)

    def enumerate(self) -> Iterator[SpikenasGenotype]:
        for first in self.cell_space.enumerate():
            for second in self.cell_space.enumerate():
                for pooling in POOLINGS:
                    yield SpikenasGenotype((first, second), pooling)

    def bounds(self) -> Genes:
        return np.array([*map(len, self.cell_space.choices() * 2), len(POOLINGS)], dtype=np.int64)

    def encode(self, genotype: SpikenasGenotype) -> Genes:
        first, second = map(self.cell_space.encode, genotype.cells)
        return np.array([*first, *second, POOLINGS.index(genotype.second_pooling)], dtype=np.int64)

    def decode(self, genes: Genes) -> SpikenasGenotype:
        *cells, pooling = checked_genes(genes, self.bounds())
        half = len(cells) // 2
        first, second = map(self.cell_space.decode, (cells[:half], cells[half:]))
        return SpikenasGenotype((first, second), POOLINGS[pooling])

    def canonical(self, genotype: SpikenasGenotype) -> SpikenasGenotype:
        first, second = genotype.cells
        return SpikenasGenotype((first.canonical, second.canonical), genotype.second_pooling)

    def parse(self, text: str) -> SpikenasGenotype:
        """Read two cells and the pooling. Raises GenotypeError."""
        match = re.fullmatch(r"([^+/]*)\+([^+/]*)/p([24])", text)
        if match is None:
            raise GenotypeError(f"{text!r} is no genotype of space '{self.name}': write one like {EXAMPLE}")
        try:
            first, second = parse_cell(match[1]), parse_cell(match[2])
            self.cell_space.check(first)
            self.cell_space.check(second)
        except GenotypeError as error:
            raise GenotypeError(f"{text!r}: {error}, write one like {EXAMPLE}") from error
        return SpikenasGenotype((first, second), int(match[3]))

    def lower(self, genotype: SpikenasGenotype, input_shape: Shape, classes: int) -> Graph:
        variant = by_classes(VARIANTS, self.variant, classes)
        return lower_snasnet(genotype.cells, genotype.second_pooling, variant, input_shape, classes)

    def smallest(self, input_shape: Shape, classes: int) -> SpikenasGenotype:
        """The genotype with the fewest parameters for this input."""
        cells = self.cell_space.sparsest()
        candidates = (SpikenasGenotype((cell, cell), pooling) for cell in cells for pooling in POOLINGS)
        return fewest_parameters(self, candidates, input_shape, classes)
