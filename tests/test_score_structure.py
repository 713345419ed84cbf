"""Scores of structure against hand-computed numbers, simulation, and the array forms."""

from __future__ import annotations

from itertools import pairwise
from math import log, log2
from time import perf_counter

import numpy as np
import pytest

from spikenas.cost.cost import estimate
from spikenas.cost.target import TARGETS
from spikenas.errors import GenotypeError
from spikenas.graph import Conv2d, Edge, Flatten, Graph, Input, Layer, Lif, Linear, Mean, Node, Output, Reset
from spikenas.score.bulk import live_edges, screen
from spikenas.score.entropy import entropy
from spikenas.score.gaussian_lif import ALPHA, respond
from spikenas.score.size import flops, parameters, synops
from spikenas.score.structure import spiking_depth
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.table import digits
from spikenas.score.trainable_depth import coarse_depth, gradient_flow, isometry, trainable_depth
from spikenas.space.space import load_space
from spikenas.space.spikenas_bench import BenchSpace, from_arch_id, from_digits

SPACE = BenchSpace()
LIF = Lif(decay=0.25, gain=0.75, threshold=1.0)


def bench(digit_string: str) -> Graph:
    return SPACE.lower(SPACE.canonical(from_digits(tuple(map(int, digit_string)))), (3, 32, 32), 10)


def chain() -> Graph:
    """Image 1x4x4, conv to 2 channels, neuron, flat, 10 outputs; 3 steps."""
    layers: tuple[Layer, ...] = (Input((1, 4, 4)), Conv2d(2), Lif(), Flatten(), Linear(10), Mean(), Output())
    names = ("image", "conv", "lif", "flat", "fc", "mean", "out")
    edges = tuple(Edge(a, b) for a, b in pairwise(names))
    return Graph(3, tuple(Node(name, layer) for name, layer in zip(names, layers, strict=True)), edges)


def test_size_by_hand() -> None:
    graph = chain()
    assert parameters(graph) == 18 + 320 + 10
    assert flops(graph) == 18 * 16 + 3 * 320  # the convolution sees a static image, once
    assert synops(graph) == 3 * 320


# --- one neuron ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize(("threshold", "variance"), [(0.5, 1.0), (1.0, 0.25), (1.5, 2.0)])
def test_neuron_against_samples(threshold: float, variance: float, reset: Reset) -> None:
    lif = Lif(0.25, 0.75, threshold, reset)
    x = np.random.default_rng(0).normal(0, np.sqrt(variance), 400_000)
    v, spikes, slopes = np.zeros_like(x), [], []
    for _ in range(5):
        u = 0.25 * v + 0.75 * x
        s = (u >= threshold) * 1.0
        spikes.append(s)
        slopes.append(ALPHA / 2 / (1 + (np.pi / 2 * ALPHA * (u - threshold)) ** 2))
        v = u * (1 - s) if reset is Reset.ZERO else u - threshold * s
    rate = np.mean(spikes)
    # each unit gradient on a spike, followed back through time on its own, variances added up
    total = np.zeros_like(x)
    for t in range(5):
        back = slopes[t].copy()
        total += back**2
        for earlier in range(t - 1, -1, -1):
            back = back * 0.25 * (1 - spikes[earlier] if reset is Reset.ZERO else 1.0)
            total += back**2
    counts = np.bincount(np.sum(spikes, axis=0).astype(int), minlength=6) / len(x)
    response = respond(lif, variance, 5)
    assert response.rate == pytest.approx(rate, rel=0.02)
    assert response.entropy_bits == pytest.approx(-sum(p * log2(p) for p in counts if p), rel=0.02)


def test_gradient_gain_of_one_step_by_quadrature() -> None:
    x = np.linspace(-8, 8, 200_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    slope = 1 / (1 + (np.pi * (0.75 * x - 1.0)) ** 2)
    rate = np.trapezoid(density * (0.75 * x >= 1.0), x)
    chi = 0.75**2 * np.trapezoid(density * slope**2, x) / (rate * (1 - rate))
    assert respond(LIF, 1.0, 1).gradient_gain == pytest.approx(chi, rel=1e-3)


def test_a_neuron_that_never_fires() -> None:
    silent = respond(Lif(0.25, 0.75, 100.0), 1.0, 5)
    assert (silent.rate, silent.entropy_bits, silent.gradient_gain) == (0.0, 0.0, float("inf"))
    assert isometry(Lif(0.25, 0.75, 100.0), 1.0, 5) == 0.0
    assert isometry(LIF, 0.0, 5) == 0.0


# --- trainable depth ----------------------------------------------------------------------------------------


def q(threshold: float, variance: float) -> float:
    chi = respond(Lif(0.25, 0.75, threshold), variance, 5).gradient_gain
    return min(chi, 1 / chi)


def test_trainable_depth_by_hand() -> None:
    # one skip: no spiking layer in the first cell, the reduction in front of the second
    assert trainable_depth(bench("001000")) == pytest.approx(1.0, abs=1e-6)
    # one convolution, threshold 0.5: 1 in the first cell; in the second, behind a 2x2 pooling, 1 + q * 1
    assert trainable_depth(bench("002000")) == pytest.approx(1 + 1 + q(0.5, 0.25), abs=1e-5)
    # in series, thresholds 1.5 then 1.0: the current at the inner node comes from one BatchNorm2d, variance 1
    first = 1 + q(1.0, 1.0) * 1
    second = 1 + q(1.0, 1.0) * (1 + q(1.5, 0.25) * 1)
    assert trainable_depth(bench("400030")) == pytest.approx(first + second, abs=1e-5)
    # beside a skip of the input the inner node's variance is 2, and 1.25 in the second cell
    first = 1 + q(1.0, 1.0 + 1.0) * 1
    second = 1 + q(1.0, 1.0 + 0.25) * (1 + q(1.5, 0.25))
    assert trainable_depth(bench("410030")) > first + second - 1  # node 1 has no skip: the same series as above
    assert trainable_depth(bench("210003")) > 0
    assert trainable_depth(bench("010003")) == pytest.approx(1 + 1 + q(1.0, 0.25), abs=1e-5)


def test_sum_of_branches_raises_the_variance() -> None:
    flows = gradient_flow(bench("310303"))  # node 2: a skip of node 0 and a convolution of node 1
    assert flows["cell1_n2"].variance == 2.0
    assert flows["cell2_n2"].variance == 1.25
    inner = 1 + q(1.0, 1.0) * 1  # node 2 at depth 2
    depth = 1 + q(1.0, 2.0) * inner
    assert flows["cell1_e23_bn"].depth == pytest.approx(depth)


def test_paths_only_break_ties() -> None:
    one, two = trainable_depth(bench("300030")), trainable_depth(bench("303030"))
    assert 0 < two - one < 1e-5


def test_coarse_depth_rounds() -> None:
    for digit_string in ("001000", "002000", "400030", "303030"):
        fine, coarse = trainable_depth(bench(digit_string)), coarse_depth(bench(digit_string))
        assert coarse * 2 == round(coarse * 2)
        assert abs(coarse - fine) <= 0.25 + 1e-5


def test_trainable_depth_of_other_spaces() -> None:
    embedded = load_space("embedded")
    shallow = embedded.lower(embedded.parse("t4-b8-k3s1-16:00s.00.0-pool"), (1, 8, 8), 10)
    deep = embedded.lower(embedded.parse("t4-b8-k3s1-16:300.30.3-pool"), (1, 8, 8), 10)
    assert trainable_depth(shallow) == 0.0
    assert 1.0 < trainable_depth(deep) <= 3.0 + 1e-5
    snasnet = load_space("snasnet")
    feedback = snasnet.lower(snasnet.parse("0303 0030 2002 0200"), (3, 32, 32), 10)
    assert trainable_depth(feedback) > trainable_depth(shallow)


# --- entropy ------------------------------------------------------------------------------------------------


def test_entropy_by_hand() -> None:
    graph = chain()
    share = respond(Lif(), 1.0, 3).entropy_bits / log2(4)
    assert entropy(graph) == pytest.approx(log(9) + log(share) + log(32))


def test_entropy_adds_branches() -> None:
    one, two = entropy(bench("003000")), entropy(bench("303030"))
    assert two > one > entropy(bench("001000"))


# --- arrays -------------------------------------------------------------------------------------------------


def test_arrays_equal_graphs() -> None:
    ids = np.random.default_rng(0).choice(15_625, 120, replace=False).astype(np.int64)
    screened = screen(digits(ids))
    target = next(iter(TARGETS.values()))
    for place, arch_id in enumerate(ids.tolist()):
        genotype = SPACE.canonical(from_arch_id(arch_id))
        assert screened.alive[place] == genotype.cell.is_live
        if not genotype.cell.is_live:
            assert screened.parameters[place] == 0
            assert np.isnan(screened.trainable_depth[place])
            continue
        graph = SPACE.lower(genotype, (3, 32, 32), 10)
        cost = estimate(graph, target)
        assert screened.parameters[place] == graph.parameter_count
        assert screened.synops[place] == pytest.approx(cost.synops)
        assert screened.neuron_updates[place] == sum(layer.neuron_updates for layer in cost.layers)
        assert screened.spiking_depth[place] == spiking_depth(graph)
        assert screened.trainable_depth[place] == pytest.approx(trainable_depth(graph), abs=1e-12)


def test_live_edges_equal_canonical_cells() -> None:
    ops = digits(np.arange(15_625))
    live = live_edges(ops)
    for arch_id in range(0, 15_625, 7):
        expected = SPACE.canonical(from_arch_id(arch_id)).digits
        assert np.where(live[arch_id], ops[arch_id], 0).tolist() == list(expected)


@pytest.mark.parametrize("ops", [np.zeros((2, 5), np.uint8), np.zeros((2, 6), np.int64), np.full((1, 6), 5, np.uint8)])
def test_arrays_of_another_form(ops: np.ndarray) -> None:
    with pytest.raises(GenotypeError, match=r"give uint8 \[N, 6\] of 0..4"):
        screen(ops)


def test_names() -> None:
    graph = chain()
    for name, score in STRUCTURE_SCORES.items():
        assert score.name == name
        assert score(graph) == next(score.each([graph], None))


def test_the_whole_space_is_screened_in_less_than_a_second() -> None:
    ops = digits(np.arange(15_625))
    screen(ops[:10])
    seconds = []
    for _ in range(3):
        begun = perf_counter()
        screen(ops)
        seconds.append(perf_counter() - begun)
    assert min(seconds) < 1.0
