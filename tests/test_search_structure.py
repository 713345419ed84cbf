from __future__ import annotations

from math import log2, sqrt

import numpy as np
import pytest

from spikenas.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Lif,
    Linear,
    Mean,
    Output,
)
from spikenas.score.structure import capacity, noise, reach, spiking_depth, structure_score, work
from spikenas.space.space import load_space
from spikenas.space.spikenas_bench import BenchSpace, from_digits


def chain(*channels: int, timesteps: int = 4, bits: int = 8) -> Graph:
    """An 8x8 image, convolutions of the given widths with neurons behind them, a readout of the pooled spikes."""
    builder = GraphBuilder()
    last = builder.add(Input((1, 8, 8)), name="image")
    for width in channels:
        last = builder.add(Lif(), builder.add(Conv2d(width, weight_bits=bits), last))
    flat = builder.add(Flatten(), builder.add(AvgPool2d((8, 8), (8, 8)), last))
    builder.add(Output(), builder.add(Mean(), builder.add(Linear(10), flat)), name="out")
    return builder.build(timesteps)


def test_depth_of_a_chain_leaves_out_the_layer_that_sees_the_image() -> None:
    assert [spiking_depth(chain(*[8] * layers)) for layers in (1, 2, 5)] == [1, 2, 5]


def test_depth_follows_the_deepest_branch_and_no_delayed_edge() -> None:
    builder = GraphBuilder()
    image = builder.add(Input((1, 8, 8)))
    first = builder.add(Conv2d(4), image)
    deep = builder.add(Conv2d(4), builder.add(Lif(), first))  # 1
    deep = builder.add(Conv2d(4), builder.add(Lif(), deep))  # 2
    currents = builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)), deep)
    deeper_without_spikes = builder.add(Conv2d(4), currents)  # fed by currents: still 2
    total = builder.add(Add(), first, deeper_without_spikes, name="sum")
    flat = builder.add(Flatten(), builder.add(Lif(), total))
    builder.add(Output(), builder.add(Mean(), builder.add(Linear(10), flat)))  # 3, through Flatten
    assert spiking_depth(builder.build(4)) == 3
    looped = builder.build(4)
    feedback = Edge(deep, "sum", delay=1)
    assert spiking_depth(Graph(4, looped.nodes, (*looped.edges, feedback))) == 3


@pytest.mark.parametrize(
    ("digits", "depth"),
    [
        # Edges 01 02 03 12 13 23; two cells, and outside them the reduction, the hidden layer and the readout.
        ((0, 0, 1, 0, 0, 0), 3),  # skip only
        ((0, 0, 2, 0, 0, 0), 3 + 2 * 1),
        ((4, 0, 0, 3, 0, 2), 3 + 2 * 3),  # 0-1-2-3
        ((4, 0, 2, 1, 0, 2), 3 + 2 * 2),  # the longest path has a skip in it
        ((4, 4, 4, 0, 0, 0), 3 + 2 * 1),  # dead ends do not count
    ],
)
def test_depth_on_the_benchmark_network(digits: tuple[int, ...], depth: int) -> None:
    assert spiking_depth(BenchSpace().lower(from_digits(digits), (3, 32, 32), 10)) == depth


def test_noise_and_work_by_hand() -> None:
    graph = chain(4, 16, timesteps=3, bits=6)
    # Two layers of neurons, the second read by a pooling, one 6-bit layer fed by spikes, and the 8-bit readout.
    assert noise(graph) == pytest.approx(1 / sqrt(4 * 8) + 1 / sqrt(64 * 16 * 8) + 0.8 / 4**6 + 0.8 / 4**8)
    # Means of 2x2 alone read the first stage: four of its neurons vote together, and 64 of the last, for the readout.
    averaging = load_space("embedded").parse("t2-b4-k3s1-avg-4:003.00.0-8:003.00.0-pool")
    layers = 1 / sqrt(4 * 16), 1 / sqrt(4 * 4 * 16), 1 / sqrt(8 * 8), 1 / sqrt(64 * 8 * 8)
    rounded = 3 * 0.8 / 4**4 + 0.8 / 4**8
    assert noise(load_space("embedded").lower(averaging, (1, 16, 16), 10)) == pytest.approx(sum(layers) + rounded)
    # The first layer sees the image: once. 36 weights on 64 pixels; 576 on 64, thrice; the readout thrice.
    assert work(graph) == 36 * 64 + 3 * 4 * 16 * 9 * 64 + 3 * 160


def test_capacity_and_reach_by_hand() -> None:
    # One octave, the readout does not count; a 64th of all weights is spare, at least one.
    assert capacity(chain(4, 16)) == pytest.approx(log2((36 + 576) * (1 + 1 / 64)))
    assert capacity(chain(1, 2)) == pytest.approx(log2(9 + 18 + 1))
    pyramid = load_space("embedded").lower(load_space("embedded").parse(PYRAMID), (3, 32, 32), 10)
    first, second, third = 3 * 9 * 8, 8 * 16 * 9, 16 * 32 * 9 + 32 * 32 * 9
    spare = (first + second + third) / 64
    assert capacity(pyramid) == pytest.approx(sum(log2(octave + spare) for octave in (first, second, third)) / 3)
    wide = load_space("embedded").lower(load_space("embedded").parse("t2-b8-k5s1-8:005.00.0-pool"), (1, 8, 8), 10)
    assert capacity(wide) == pytest.approx(log2(9 * (8 + 64) * (1 + 1 / 64)))  # of 25 weights a window nine count
    assert reach(chain(4, 4)) == 5 / 8
    assert reach(chain(*[4] * 5)) == 1
    # 3x3 windows 1, 1, 2 and 4 pixels apart: 1 + 2 (1 + 1 + 2 + 4)
    assert reach(pyramid) == 17 / 32


PYRAMID = "t2-b8-k3s1-8:00s.00.0-16:00s.00.0-32:003.00.0-pool"


def test_score_by_hand() -> None:
    graph = chain(4, 16, timesteps=2)
    depth = (1 - 1 / sqrt(4 * 9)) + (1 - 1 / sqrt(16))
    expected = log2((36 + 576) * (1 + 1 / 64)) + 2 * log2(1 + depth) + 2 * log2(5 / 8) - 2 * log2(0.1 + noise(graph))
    assert structure_score(graph) == pytest.approx(expected - 2 / 2 - 2 / 16 - log2(1 + work(graph) / 2**26) / 2)


def test_score_prefers_what_it_says() -> None:
    score = structure_score
    assert score(chain(32, 32)) > score(chain(16, 16))  # capacity
    thin, wide = chain(*[4] * 20), chain(16, 16)
    assert thin.parameter_count > wide.parameter_count
    assert score(thin) < score(wide)  # but not of thin layers
    assert score(chain(16, 16, timesteps=4)) > max(score(chain(16, 16, timesteps=t)) for t in (1, 2, 8))
    assert score(chain(16, 16, bits=8)) > score(chain(16, 16, bits=3))


def test_score_prefers_pyramids_that_train_well_to_what_earlier_scores_liked() -> None:
    """Validation accuracies after 36,000 images of CIFAR-10, all of 190 to 256 KB."""
    trained = {
        "t2-b8-k3s1-48:00s.00.0-64:30s.si.3-96:003.00.0-pool": 0.545,
        "t3-b8-k5s1-96:001.00.0-96:00d.00.0-48:50d.0s.0-pool": 0.545,
        "t2-b8-k5s4-96:501.0a.0-pool": 0.476,  # wide, at one small scale
        "t2-b8-k3s1-12:d0d.0i.0-16:305.10.5-64:515.i1.a-pool": 0.456,  # thin and deep
        "t8-b8-k5s1-24:005.00.0-hidden32": 0.430,  # sees little of the image
    }
    space = load_space("embedded")
    scores = [structure_score(space.lower(space.parse(genotype), (3, 32, 32), 10)) for genotype in trained]
    assert min(scores[:2]) > max(scores[2:])


def test_every_space_has_finite_scores() -> None:
    rng = np.random.default_rng(0)
    for name in ("embedded", "spikenas", "snasnet", "spikenas-bench"):
        space = load_space(name)
        for _ in range(10):
            graph = space.lower(space.sample(rng), (3, 32, 32), 10)
            assert np.isfinite(structure_score(graph))
            assert 1 <= spiking_depth(graph) <= 30
