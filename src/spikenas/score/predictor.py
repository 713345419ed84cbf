"""Learns from the networks that a study has trained which of the others would be better.

A Gaussian process (Rasmussen and Williams, MIT Press 2006, chapter 2) on ranks of accuracy. What it sees of a network
are F features x (:mod:`spikenas.score.features`), standardised over all candidates, the first two of which are
training-free scores, and G genes g of its space. Two networks are alike by::

    k = (x_0 x'_0 + x_1 x'_1) / 2 + exp(-|x - x'|^2 / (8 F)) + exp(-3 d(g, g') / G) / 2,   noise 0.5

d counting the genes that differ. So it starts from the training-free score, bends it as far as accuracies demand, and
learns what is peculiar to single genes last. The constants are round numbers, not fitted; which terms there are was
decided on SpikeNAS-Bench, CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError
from spikenas.graph import Shape
from spikenas.score.features import features
from spikenas.space.space import Space

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NOISE = 0.5
LEAST = 3
"""Trained networks below which nothing can be learned."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """N networks: ``features`` [N, F] and ``genes`` [N, G]."""

    features: Floats
    genes: Ints

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: npt.NDArray[Any]) -> Described:
        """Those of ``rows``."""
        return Described(self.features[rows], self.genes[rows])


def describe(space: Space[Any], genotypes: Sequence[Any], input_shape: Shape, classes: int) -> Described:
    """What the predictor sees of ``genotypes``. Raises GenotypeError when one has no network."""
    graphs = [space.lower(genotype, input_shape, classes) for genotype in genotypes]
    genes = [space.encode(genotype) for genotype in genotypes]
    return Described(np.stack([features(graph) for graph in graphs]), np.stack(genes))


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A fitted predictor; made by :func:`fit`.

    ``resolution`` is its error on networks it has not seen, found by leaving out each of those it has, in units of
    what :meth:`predict` returns.
    """

    center: Floats
    scale: Floats
    trained: Described
    weights: Floats
    resolution: float

    def predict(self, networks: Described) -> Floats:
        """Expected rank [N] in units of the trained networks' deviation from their mean; higher is better."""
        scaled = Described((networks.features - self.center) / self.scale, networks.genes)
        values: Floats = _kernel(scaled, self.trained) @ self.weights
        return values

    def rank(self, networks: Described) -> Floats:
        """The same, rounded to the resolution: what is nearer cannot be told apart and is declared a tie."""
        values: Floats = np.floor(self.predict(networks) / self.resolution + 0.5) * self.resolution
        return values


def fit(networks: Described, accuracies: Floats, pool: Described) -> Predictor:
    """Learn from trained ``networks`` and their ``accuracies`` [n]; ``pool`` are the candidates, trained or not.

    Raises InputError when fewer than three networks were trained or a number is missing.

    >>> line = Described(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), np.array([[0], [1], [2], [3]]))
    >>> predictor = fit(line, np.array([0.1, 0.4, 0.6, 0.9]), line)
    >>> bool(np.all(np.diff(predictor.predict(line)) > 0))
    True
    """
    if len(accuracies) < LEAST or len(networks) != len(accuracies):
        raise InputError(f"{len(networks)} networks, {len(accuracies)} accuracies: give one each, at least {LEAST}")
    if not all(np.isfinite(values).all() for values in (networks.features, accuracies, pool.features)):
        raise InputError("a feature or an accuracy is not a number: leave that network out")
    center, scale = pool.features.mean(axis=0), pool.features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    trained = Described((networks.features - center) / scale, networks.genes)
    inverse = np.linalg.inv(_kernel(trained, trained) + NOISE * np.eye(len(trained)))
    weights = inverse @ _ranks(accuracies)
    left_out = weights / np.diag(inverse)  # the residual of each when it is left out (ibid., equation 5.12)
    return Predictor(center, scale, trained, weights, float(np.sqrt(np.mean(left_out**2))))


def _kernel(a: Described, b: Described) -> Floats:
    x, y = a.features, b.features
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2.0 * x @ y.T
    prior = x[:, :2] @ y[:, :2].T / 2
    different = np.zeros((len(a), len(b)))
    for one, other in zip(a.genes.T, b.genes.T, strict=True):
        different += one[:, None] != other[None, :]
    genes, count = a.genes.shape[1], x.shape[1]
    kernel: Floats = prior + np.exp(-np.maximum(squares, 0.0) / (8 * count)) + np.exp(-3 * different / genes) / 2
    return kernel


def _ranks(accuracies: Floats) -> Floats:
    """Ranks with mean 0 and deviation 1, ties sharing theirs."""
    below = (accuracies[:, None] > accuracies).sum(axis=1) + (accuracies[:, None] == accuracies).sum(axis=1) / 2
    ranks: Floats = below - below.mean()
    deviation = ranks.std()
    return ranks / deviation if deviation > 0 else ranks
