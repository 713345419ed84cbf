"""SNASNet's space (Kim et al., ECCV 2022, arXiv 2201.10355): one cell used twice, forward or with feedback.

The text of a genotype is SNASNet's own connection matrix, row = source and column = target, with digits
0 none, 1 skip, 2 lif_conv1x1, 3 lif_conv3x3, 4 avgpool3x3, and the second pooling: ``0303 0030 2002 0200/p4``.
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
from spikenas.space.genotype import Cell, live_pairs
from spikenas.space.macro import POOLINGS, Variant, by_classes, check_pooling, lower_snasnet
from spikenas.space.operations import checked

DIGITS = ("none", "skip", "lif_conv1x1", "lif_conv3x3", "avgpool3x3")
VARIANTS: dict[str, Variant] = {
    "cifar10": Variant((256, 512), hidden=1024, group=10),
    "cifar100": Variant((128, 256), hidden=1024, group=5),
    "tiny-imagenet": Variant((128, 256), hidden=4096, group=5, stem_stride=2),
}


@dataclass(frozen=True, slots=True)
class SnasnetGenotype:
    """The cell, used at both widths, and the pooling before the fully connected layer."""

    cell: Cell
    second_pooling: int = 2

    def __post_init__(self) -> None:
        check_pooling(self.second_pooling)
        CellSpace(DIGITS, backward=True, direct=True).check(self.cell)

    @property
    def cells(self) -> tuple[Cell, Cell]:
        return self.cell, self.cell

    def __str__(self) -> str:
        rows = ("".join(str(DIGITS.index(self.cell.operation(s, t))) for t in range(4)) for s in range(4))
        return f"{' '.join(rows)}/p{self.second_pooling}"


@dataclass(frozen=True)
class SnasnetSpace(Encoded[SnasnetGenotype]):
    """SNASNet's space.

    A pair of nodes is connected in one direction, input and output always directly. A node that only feedback
    enters counts as dead: the graph has no sum of nothing but the past (SNASNet's generator can draw such cells).

    Args:
        operations: a subset of ``DIGITS``.
        backward: whether there are feedback connections.
        variant: one of ``VARIANTS``; None takes the one published for the number of classes.
    """

    operations: tuple[str, ...] = DIGITS
    backward: bool = True
    variant: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", checked(self.name, self.operations, DIGITS))
        _ = self.cell_space
        by_classes(VARIANTS, self.variant, 10)

    @property
    def name(self) -> str:
        return "snasnet" if self.backward else "snasnet-forward"

    @property
    def summary(self) -> str:
        feedback = ", temporal feedback" if self.backward else ", feed-forward only"
        return f"SNASNet (ECCV 2022): one cell used twice{feedback}; for GPUs"

    @property
    def example(self) -> str:
        """A good genotype, for messages."""
        return "0303 0030 2002 0200/p4" if self.backward else "0303 0033 0002 0000/p4"

    @property
    def cell_space(self) -> CellSpace:
        return CellSpace(self.operations, backward=self.backward, direct=True)

    def count(self) -> int:
        return self.cell_space.count() * len(POOLINGS)

    def enumerate(self) -> Iterator[SnasnetGenotype]:
        for cell in self.cell_space.enumerate():
            for pooling in POOLINGS:
                yield SnasnetGenotype(cell, pooling)

    def bounds(self) -> Genes:
        return np.array([*map(len, self.cell_space.choices()), len(POOLINGS)], dtype=np.int64)

    def encode(self, genotype: SnasnetGenotype) -> Genes:
        pooling = POOLINGS.index(genotype.second_pooling)
        return np.array([*self.cell_space.encode(genotype.cell), pooling], dtype=np.int64)

    def decode(self, genes: Genes) -> SnasnetGenotype:
        *cell, pooling = checked_genes(genes, self.bounds())
        return SnasnetGenotype(self.cell_space.decode(cell), POOLINGS[pooling])

    def canonical(self, genotype: SnasnetGenotype) -> SnasnetGenotype:
        return SnasnetGenotype(genotype.cell.canonical, genotype.second_pooling)

    def parse(self, text: str) -> SnasnetGenotype:
        """Read a matrix; without ``/p`` the second pooling is 2, as in SNASNet. Raises GenotypeError."""
        match = re.fullmatch(r"([0-4]{4}) ([0-4]{4}) ([0-4]{4}) ([0-4]{4})(?:/p(\d))?", text)
        if match is None:
            raise GenotypeError(f"{text!r} is no genotype of space '{self.name}': write one like {self.example}")
        *rows, pooling = match.groups(default="2")
        try:
            check_pooling(int(pooling))
            operations = {(s, t): DIGITS[int(digit)] for s, row in enumerate(rows) for t, digit in enumerate(row)}
            cell = Cell.of(operations)
            self.cell_space.check(cell)
        except GenotypeError as error:
            raise GenotypeError(f"{text!r}: {error}, write one like {self.example}") from error
        _refuse_past_only(text, cell)
        return SnasnetGenotype(cell, int(pooling))

    def lower(self, genotype: SnasnetGenotype, input_shape: Shape, classes: int) -> Graph:
        variant = by_classes(VARIANTS, self.variant, classes)
        return lower_snasnet(genotype.cells, genotype.second_pooling, variant, input_shape, classes)

    def smallest(self, input_shape: Shape, classes: int) -> SnasnetGenotype:
        """The genotype with the fewest parameters for this input."""
        candidates = (SnasnetGenotype(cell, p) for cell in self.cell_space.sparsest() for p in POOLINGS)
        return fewest_parameters(self, candidates, input_shape, classes)


def _refuse_past_only(text: str, cell: Cell) -> None:
    lost = live_pairs(cell.joined, cell.nodes, past=True) - live_pairs(cell.joined, cell.nodes)
    if lost:
        node = min(target for source, target in lost if source > target)
        raise GenotypeError(f"{text!r}: only feedback enters node {node}, connect it from a lower node as well")
