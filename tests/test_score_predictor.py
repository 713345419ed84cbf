"""The predictor against a Gaussian process written out with scikit-learn, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.kernel_ridge import KernelRidge

from spikenas.errors import InputError
from spikenas.score.features import FEATURES, features
from spikenas.score.predictor import Described, describe, fit
from spikenas.score.structure import spiking_depth
from spikenas.score.trainable_depth import trainable_depth
from spikenas.space.space import load_space
from spikenas.space.spikenas_bench import BenchSpace


def made_up(count: int, seed: int) -> Described:
    rng = np.random.default_rng(seed)
    return Described(rng.normal(size=(count, 4)), rng.integers(0, 3, (count, 5)))


def alike(a: Described, b: Described) -> np.ndarray:
    """The kernel of the predictor's docstring, pair by pair."""
    kernel = np.zeros((len(a), len(b)))
    for i, j in np.ndindex(kernel.shape):
        x, y = a.features[i], b.features[j]
        share = np.mean(a.genes[i] != b.genes[j])
        kernel[i, j] = x[:2] @ y[:2] / 2 + np.exp(-((x - y) ** 2).sum() / 32) + np.exp(-3 * share) / 2
    return kernel


def test_equals_a_gaussian_process() -> None:
    trained, others = made_up(20, 0), made_up(30, 1)
    accuracies = np.random.default_rng(2).integers(50, 60, 20) / 100  # some are equal
    predictor = fit(trained, accuracies, others)
    center, scale = others.features.mean(0), others.features.std(0)
    trained, scaled = (Described((n.features - center) / scale, n.genes) for n in (trained, others))
    ranks = stats.zscore(stats.rankdata(accuracies))
    kernel = alike(trained, trained)
    # its mean is what kernel ridge regression predicts
    ridge = KernelRidge(alpha=0.5, kernel="precomputed").fit(kernel, ranks)
    assert predictor.predict(others) == pytest.approx(ridge.predict(alike(scaled, trained)), abs=1e-8)
    residuals = []
    for left in range(20):
        kept = np.delete(np.arange(20), left)
        ridge = KernelRidge(alpha=0.5, kernel="precomputed").fit(kernel[np.ix_(kept, kept)], ranks[kept])
        residuals.append(ranks[left] - ridge.predict(kernel[left : left + 1, kept])[0])
    assert predictor.resolution == pytest.approx(np.sqrt(np.mean(np.square(residuals))))


def test_ranks_are_rounded_predictions() -> None:
    trained, others = made_up(20, 0), made_up(30, 1)
    predictor = fit(trained, np.linspace(0, 1, 20), others)
    ratio = predictor.rank(others) / predictor.resolution
    assert ratio == pytest.approx(np.rint(ratio), abs=1e-9)
    assert np.abs(predictor.rank(others) - predictor.predict(others)).max() <= predictor.resolution / 2 + 1e-12


def test_learns_what_the_prior_does_not_know() -> None:
    rng = np.random.default_rng(3)
    networks = Described(rng.normal(size=(400, 4)), rng.integers(0, 3, (400, 5)))
    truth = networks.features[:, 2] + 0.5 * (networks.genes[:, 0] == 1)
    predictor = fit(networks.take(np.arange(80)), truth[:80], networks)
    rest = np.arange(80, 400)
    assert stats.kendalltau(predictor.predict(networks.take(rest)), truth[rest]).statistic > 0.6
    assert abs(stats.kendalltau(networks.features[rest, 0], truth[rest]).statistic) < 0.15


def test_equal_accuracies_teach_nothing() -> None:
    networks = made_up(5, 0)
    assert not fit(networks, np.full(5, 0.5), networks).predict(networks).any()


def test_refusals() -> None:
    networks = made_up(5, 0)
    with pytest.raises(InputError, match="2 networks, 2 accuracies: give one each, at least 3"):
        fit(networks.take(np.arange(2)), np.ones(2), networks)
    with pytest.raises(InputError, match="5 networks, 4 accuracies"):
        fit(networks, np.ones(4), networks)
    with pytest.raises(InputError, match="not a number"):
        fit(networks, np.array([1, 2, 3, 4, np.nan]), networks)


def test_features_of_a_cell_by_hand() -> None:
    space = BenchSpace()
    graph = space.lower(space.canonical(space.parse("bench-302310")), (3, 32, 32), 10)
    values = dict(zip(FEATURES, features(graph), strict=True))
    assert values["spiking_depth"] == spiking_depth(graph) == 5
    assert values["trainable_depth"] == pytest.approx(trainable_depth(graph), abs=1e-5)
    assert values["coarse_depth"] in (2.0, 2.5, 3.0)
    # per cell edges 01 and 03, with different thresholds at node 0; the reduction; readers of neurons only
    assert values["convolutions"] == 5
    assert values["neurons"] == 2 * 2 + 3  # behind each cell one, and the hidden layer's
    assert values["joins"] == 2
    assert values["most_readers"] == 1
    assert values["largest_variance"] == 1.0


def test_describe_any_space() -> None:
    space = load_space("embedded")
    rng = np.random.default_rng(0)
    genotypes = [space.sample(rng) for _ in range(5)]
    networks = describe(space, genotypes, (1, 8, 8), 10)
    assert networks.features.shape == (5, len(FEATURES))
    assert networks.genes.shape == (5, len(space.bounds()))
    assert np.isfinite(networks.features).all()
    assert len(networks.take(np.array([0, 3]))) == 2
