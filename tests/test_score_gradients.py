"""Scores of gradients against finite differences, enumerated paths and closed forms."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from spikenas.errors import InputError
from spikenas.graph import Conv2d, Edge, Flatten, Graph, Input, Layer, Lif, Linear, Mean, Node, Output
from spikenas.score.grad_norm import grad_norm
from spikenas.score.gradients import loss_gradients
from spikenas.score.jacob_cov import SMALL, jacob_cov
from spikenas.score.score import Needs, Probe
from spikenas.score.scores import PROBE_SCORES, SCORES
from spikenas.score.snip import snip
from spikenas.score.structure_scores import find_score
from spikenas.score.synflow import synflow
from spikenas.snn.network import Network
from spikenas.space.macro import Variant, lower_snasnet
from spikenas.space.space import load_space

GENERATOR = torch.Generator().manual_seed(0)
PROBE = Probe(torch.randn(6, 2, 4, 4, generator=GENERATOR), torch.tensor([0, 1, 2, 0, 1, 2]), seed=5)


def line(*layers: Layer) -> Graph:
    names = [f"n{number}" for number in range(len(layers))]
    nodes = tuple(Node(name, layer) for name, layer in zip(names, layers, strict=True))
    return Graph(2, nodes, tuple(Edge(a, b) for a, b in pairwise(names)))


def smooth() -> Graph:
    """No neuron: a network with true derivatives."""
    return line(Input((2, 4, 4)), Conv2d(3, (2, 2), (2, 2), (0, 0)), Flatten(), Linear(3), Mean(), Output())


def spiking() -> Graph:
    convs = (Conv2d(3, (3, 3)), Lif(0.5, 1.0, 0.5))
    return line(Input((2, 4, 4)), *convs, Flatten(), Linear(4, bias=False), Lif(), Linear(3), Mean(), Output())


def test_gradients_are_those_of_the_loss() -> None:
    graph = smooth()
    (conv, conv_gradient), (fc, fc_gradient) = loss_gradients(graph, PROBE)
    images, labels = PROBE.images.double().numpy(), PROBE.labels.numpy()

    def loss(kernel: np.ndarray, matrix: np.ndarray) -> float:
        patches = images.reshape(6, 2, 2, 2, 2, 2)  # image, channel, block row, row, block column, column
        maps = np.einsum("bchiwj,ocij->bohw", patches, kernel)
        logits = maps.reshape(6, -1) @ matrix.T
        shifted = logits - logits.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(6), labels]))

    kernel, matrix = conv.double().numpy(), fc.double().numpy()
    for array, gradient in ((kernel, conv_gradient), (matrix, fc_gradient)):
        for index in [tuple(0 for _ in array.shape), tuple(n - 1 for n in array.shape)]:
            kept = array[index]
            array[index] = kept + 1e-5
            up = loss(kernel, matrix)
            array[index] = kept - 1e-5
            down = loss(kernel, matrix)
            array[index] = kept
            assert float(gradient[index]) == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)
    pairs = [(conv, conv_gradient), (fc, fc_gradient)]
    assert snip(graph, PROBE) == pytest.approx(sum(np.abs(w.numpy() * g.numpy()).sum() for w, g in pairs), rel=1e-5)
    assert grad_norm(graph, PROBE) == pytest.approx(sum(np.sqrt((g.numpy() ** 2).sum()) for _, g in pairs), rel=1e-5)


def test_gradients_pass_neurons() -> None:
    gradients = loss_gradients(spiking(), PROBE)
    assert len(gradients) == 3
    assert all(bool(gradient.abs().sum() > 0) for _, gradient in gradients)


def test_synflow_by_counting_paths() -> None:
    graph = line(Input((2, 2, 2)), Conv2d(2, (1, 1), (1, 1), (0, 0)), Lif(), Flatten(), Linear(3), Mean(), Output())
    network = Network(graph, seed=5)
    conv = np.abs(network.operator("n1").weight.detach().numpy()[:, :, 0, 0])
    fc = np.abs(network.operator("n4").weight.detach().numpy()).reshape(3, 2, 2, 2)
    # every path: input channel, position, hidden channel, class; each layer's weights together carry all of the flow
    paths = product(range(2), range(2), range(2), range(2), range(3))
    flow = sum(conv[o, i] * fc[k, o, y, x] for i, y, x, o, k in paths)
    assert synflow(graph, PROBE) == pytest.approx(np.log10(2 * flow), rel=1e-6)


def test_synflow_adds_branches() -> None:
    space = load_space("spikenas-bench")
    variant = Variant((2, 4), hidden=8, group=1)
    one, two = (
        lower_snasnet(space.parse(text).cells, 2, variant, (2, 8, 8), 3) for text in ("bench-003000", "bench-303030")
    )
    assert synflow(two, PROBE) > synflow(one, PROBE)


def test_jacob_cov_of_a_linear_network() -> None:
    # one and the same Jacobian for all images: a single eigenvalue, 6, and five that vanish
    expected = -(np.log(6 + SMALL) + 1 / (6 + SMALL) + 5 * (np.log(SMALL) + 1 / SMALL))
    assert jacob_cov(smooth(), PROBE) == pytest.approx(expected, rel=1e-3)


def test_jacob_cov_prefers_different_jacobians() -> None:
    assert jacob_cov(smooth(), PROBE) < jacob_cov(spiking(), PROBE) <= -6.0 + 1e-3


def test_jacob_cov_without_gradient_is_nan() -> None:
    blind = Probe(PROBE.images, PROBE.labels)
    dead = line(Input((2, 4, 4)), Conv2d(1), Flatten(), Linear(3), Mean(), Output())
    assert np.isfinite(jacob_cov(dead, blind))
    one_pixel = line(Input((1, 1, 1)), Flatten(), Linear(3), Mean(), Output())
    # a gradient of one value has no deviation
    assert np.isnan(jacob_cov(one_pixel, Probe(torch.randn(4, 1, 1, 1, generator=GENERATOR), torch.zeros(4).long())))


@pytest.mark.parametrize("name", sorted(PROBE_SCORES))
def test_probe_scores_follow_the_contract(name: str) -> None:
    score = PROBE_SCORES[name]
    space = load_space("embedded")
    graph = space.lower(space.parse("t2-b8-k3s1-4:30s.01.3-pool"), (2, 4, 4), 3)
    state = torch.get_rng_state()
    value = score(graph, PROBE)
    assert score.name == name
    assert score.needs is not Needs.STRUCTURE
    assert value == score(graph, PROBE)
    assert list(score.each([graph, graph], PROBE)) == [value, value]
    assert value != score(graph, Probe(PROBE.images, PROBE.labels, seed=6))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match=f"score '{name}' reads {score.needs}: give it a dataset"):
        score(graph)


def test_all_scores_have_names() -> None:
    assert all(find_score(name) is score for name, score in SCORES.items())
    assert all(score.name == name for name, score in SCORES.items())
    assert {"sahd", "naswot", "synflow", "trainable_depth", "entropy", "parameters"} <= set(SCORES)
