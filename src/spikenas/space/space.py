"""What a search space is, and the spaces there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from spikenas.errors import GenotypeError
from spikenas.graph import Graph, Shape
from spikenas.space.embedded import EmbeddedSpace
from spikenas.space.encoding import Genes
from spikenas.space.snasnet import SnasnetSpace
from spikenas.space.spikenas import SpikenasSpace
from spikenas.space.spikenas_bench import BenchSpace

G = TypeVar("G")


class Space(Protocol[G]):
    """A set of genotypes.

    Genotypes are frozen, hashable, print as short text and have ``cells``. ``sample``, ``mutate``, ``crossover``,
    ``decode`` and ``enumerate`` give canonical ones; ``parse`` gives what is written, dead connections included.

    >>> space = load_space("embedded")
    >>> genotype = space.parse("t4-b8-k3s1-16:30s.01.0-32:003.00.0-pool")
    >>> str(genotype), space.lower(genotype, (1, 8, 8), 10).parameter_count
    ('t4-b8-k3s1-16:30s.01.0-32:003.00.0-pool', 17082)
    """

    @property
    def name(self) -> str:
        """The key in ``SPACES``."""

    @property
    def summary(self) -> str:
        """One line for people."""

    @property
    def operations(self) -> tuple[str, ...]:
        """What may be on a connection."""

    def count(self) -> int:
        """Number of canonical genotypes."""

    def enumerate(self) -> Iterator[G]:
        """Each of them once, always in the same order."""

    def sample(self, rng: np.random.Generator) -> G:
        """A random genotype."""

    def mutate(self, genotype: G, rng: np.random.Generator) -> G:
        """A neighbour that differs from ``genotype``, unless the space has only one."""

    def crossover(self, first: G, second: G, rng: np.random.Generator) -> G:
        """A mixture of two genotypes."""

    def canonical(self, genotype: G) -> G:
        """The same function without dead connections; equal functions compare equal."""

    def parse(self, text: str) -> G:
        """The genotype that ``text`` names. Raises GenotypeError with an example of a good one."""

    def format(self, genotype: G) -> str:
        """``str(genotype)``, which ``parse`` reads back."""

    def lower(self, genotype: G, input_shape: Shape, classes: int) -> Graph:
        """Its network for images (C, H, W) or frames (T, C, H, W). Raises GenotypeError when there is none."""

    def for_frames(self, frames: int | None) -> Space[G]:
        """The part of the space whose networks take samples of so many frames; None: images, which all take."""

    def smallest(self, input_shape: Shape, classes: int) -> G:
        """The genotype with the fewest parameters for this input."""

    def bounds(self) -> Genes:
        """Number of choices of each gene, shape (genes,)."""

    def encode(self, genotype: G) -> Genes:
        """Integers with ``0 <= genes < bounds()``, shape (genes,). Raises GenotypeError outside the space."""

    def decode(self, genes: Genes) -> G:
        """A genotype from any such vector."""


SPACES: dict[str, Callable[..., Space[Any]]] = {
    "embedded": EmbeddedSpace,
    "spikenas": SpikenasSpace,
    "spikenas-bench": BenchSpace,
    "snasnet": SnasnetSpace,
    "snasnet-forward": partial(SnasnetSpace, backward=False),
}


SEARCHED = {"embedded": ("none", "skip", "lif_conv1x1", "lif_conv3x3")}
"""What is searched of a space unless one says otherwise: its other operations make networks that score higher and learn
less (docs/benchmarks.md), which is what SpikeNAS leaves operations out for."""


def searched_operations(space: str, given: Sequence[str] | None = None) -> tuple[str, ...] | None:
    """The operations to search a space with: those given, ``all`` of them for that word, else what is worth it.

    None stands for all; :func:`load_space` refuses what the space has not.

    >>> searched_operations("embedded")
    ('none', 'skip', 'lif_conv1x1', 'lif_conv3x3')
    >>> searched_operations("embedded", ["skip"]), searched_operations("embedded", ["all"])
    (('skip',), None)
    """
    if given is None:
        return SEARCHED.get(space)
    return None if tuple(given) == ("all",) else tuple(given)


def load_space(name: str, operations: Sequence[str] | None = None) -> Space[Any]:
    """The space called ``name``, with its own operations or some of them.

    Raises GenotypeError when the space or an operation is unknown.

    >>> load_space("spikenas", operations=("skip", "none", "lif_conv3x3")).operations
    ('none', 'skip', 'lif_conv3x3')
    """
    if name not in SPACES:
        raise GenotypeError(f"space {name!r} is unknown: choose from {', '.join(SPACES)}")
    return SPACES[name]() if operations is None else SPACES[name](operations=tuple(operations))
