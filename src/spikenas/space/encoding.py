"""Genotypes as short integer vectors, and the one mechanism of sampling, mutation and crossover built on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikenas.errors import GenotypeError
from spikenas.graph import Graph, Shape

G = TypeVar("G")
Genes = NDArray[np.int64]

ATTEMPTS = 64
"""Mutations tried before a genotype is returned unchanged: many genes sit on connections that are dead."""


class Encoded(ABC, Generic[G]):
    """A space whose genotypes are vectors with ``0 <= genes < bounds()``.

    ``decode`` takes every such vector to a canonical genotype, so what is built on it never leaves the space.
    """

    @abstractmethod
    def bounds(self) -> Genes:
        """Number of choices of each gene, shape (genes,)."""

    @abstractmethod
    def encode(self, genotype: G) -> Genes:
        """A vector that ``decode`` takes to ``canonical(genotype)``, shape (genes,)."""

    @abstractmethod
    def decode(self, genes: Genes) -> G:
        """The canonical genotype of a vector; where the vector leaves a cell without a path, one is added."""

    @abstractmethod
    def lower(self, genotype: G, input_shape: Shape, classes: int) -> Graph:
        """The network of ``genotype`` for images (C, H, W) or frames (T, C, H, W). Raises GenotypeError."""

    def for_frames(self, frames: int | None) -> Self:
        """The space for samples of so many frames, None for images: here itself, as a network has a step a frame."""
        return self

    def format(self, genotype: G) -> str:
        """The text that ``parse`` reads back."""
        return str(genotype)

    def sample(self, rng: np.random.Generator) -> G:
        """A random canonical genotype."""
        return self.decode(rng.integers(0, self.bounds()))

    def mutate(self, genotype: G, rng: np.random.Generator) -> G:
        """Another canonical genotype: one gene changed, every other with probability 1 / genes.

        Returns the genotype itself only when no change is found, as in a space with one member.
        """
        genes, bounds = self.encode(genotype), self.bounds()
        for _ in range(ATTEMPTS):
            hit = rng.random(len(genes)) < 1 / len(genes)
            hit[rng.integers(len(genes))] = True
            step = rng.integers(1, np.maximum(bounds, 2))
            child = self.decode(np.where(hit, (genes + step) % bounds, genes))
            if child != genotype:
                return child
        return self.decode(genes)

    def crossover(self, first: G, second: G, rng: np.random.Generator) -> G:
        """A canonical genotype with each gene from either parent (uniform crossover)."""
        take = rng.integers(0, 2, len(self.bounds())) == 1
        return self.decode(np.where(take, self.encode(first), self.encode(second)))


def checked_genes(genes: Genes, bounds: Genes) -> list[int]:
    """``genes`` as plain integers. Raises GenotypeError when they are not within ``bounds``."""
    vector = np.asarray(genes)
    if vector.shape != bounds.shape or vector.dtype.kind not in "iu":
        raise GenotypeError(f"genes of shape {vector.shape}, type {vector.dtype}: give {len(bounds)} integers")
    wrong = np.flatnonzero((vector < 0) | (vector >= bounds))
    if len(wrong):
        place = int(wrong[0])
        raise GenotypeError(f"gene {place} is {vector[place]}: it must lie in 0..{bounds[place] - 1}")
    values: list[int] = vector.tolist()
    return values


def fewest_parameters(space: Encoded[G], candidates: Iterable[G], input_shape: Shape, classes: int) -> G:
    """The first of those candidates that have the fewest parameters on this input.

    Raises GenotypeError when none of them can be built for it.
    """
    best: tuple[int, G] | None = None
    refusal: GenotypeError | None = None
    for genotype in candidates:
        try:
            count = space.lower(genotype, input_shape, classes).parameter_count
        except GenotypeError as error:
            refusal = error
            continue
        if best is None or count < best[0]:
            best = count, genotype
    if best is None:
        raise refusal or GenotypeError("no candidates: a space has at least one genotype")
    return best[1]
