"""The neuron against spikingjelly, the network against the reference, layer by layer."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, random_images, random_model
from torch import Tensor

from spikenas import reference
from spikenas.errors import GraphError, MissingTool, ModelError
from spikenas.graph import (
    Add,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
)
from spikenas.snn import neuron
from spikenas.snn.network import Network, from_model, load_weights, named_parameters, normalize, to_model
from spikenas.snn.neuron import FusedLif, SpikingJellyLif, fused, step

LIFS = [
    Lif(decay, gain, 0.7, reset)
    for reset in Reset
    for decay, gain in ((0.5, 0.5), (0.25, 0.75), (1.0, 1.0), (0.9, 1.3))
]
STEPS = 5


def currents(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def spikes_and_gradient(x: Tensor, run: Any) -> tuple[Tensor, Tensor]:
    """A run's spikes, and the gradient at ``x`` of a fixed weighting of them."""
    x.grad = None
    spikes = run(x)
    (spikes * currents(tuple(spikes.shape), seed=1).detach()).sum().backward()
    assert x.grad is not None
    return spikes.detach(), x.grad.clone()


def steps_one_by_one(layer: Lif) -> Any:
    def run(x: Tensor) -> Tensor:
        v, spikes = None, []
        for t in range(STEPS):
            s, v = step(x[min(t, len(x) - 1)], v, layer)
            spikes.append(s)
        return torch.stack(spikes)

    return run


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("layer", LIFS)
def test_fused_neuron_equals_spikingjelly_and_single_steps(layer: Lif, static: bool) -> None:
    pytest.importorskip("spikingjelly")
    x = currents((1 if static else STEPS, 3, 4, 6, 6))
    spikes, gradient = spikes_and_gradient(x, lambda x: FusedLif(layer).sequence(x, STEPS))
    assert 0.05 < spikes.mean() < 0.95
    for other in (lambda x: SpikingJellyLif(layer).sequence(x, STEPS), steps_one_by_one(layer)):
        other_spikes, other_gradient = spikes_and_gradient(x, other)
        assert torch.equal(spikes, other_spikes)
        torch.testing.assert_close(gradient, other_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", LIFS[::3])
def test_spikingjelly_steps_one_by_one(layer: Lif) -> None:
    pytest.importorskip("spikingjelly")
    x, node, v, spikes = currents((STEPS, 2, 7)), SpikingJellyLif(layer), None, []
    for t in range(STEPS):
        s, v = node.step(x[t], v)
        spikes.append(s)
    assert torch.equal(torch.stack(spikes), fused(x, layer, STEPS))


def test_surrogate_gradient_by_hand() -> None:
    # u = (0.5, 0.25 + 1.0), threshold 1, h(u) = 1/2 / (1 + (pi/2 (u - 1))^2); v(0) reaches u(1) through the leak
    x = torch.tensor([[0.5], [1.0]], requires_grad=True)
    fused(x, Lif(decay=0.5), 2).sum().backward()
    h0, h1 = (0.5 / (1 + (np.pi / 2 * (u - 1.0)) ** 2) for u in (0.5, 1.25))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.flatten().numpy(), [h0 + 0.5 * h1, h1], rtol=1e-6)
    # after a spike the zeroed membrane passes nothing back
    x = torch.tensor([[1.5], [1.0]], requires_grad=True)
    fused(x, Lif(decay=0.5), 2).sum().backward()
    h0, h1 = (0.5 / (1 + (np.pi / 2 * (u - 1.0)) ** 2) for u in (1.5, 1.0))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.flatten().numpy(), [h0, h1], rtol=1e-6)


def test_memory_layout_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = LIFS[1], currents((STEPS, 2, 3, 5, 4))
    expected = spikes_and_gradient(x, lambda x: fused(x, layer, STEPS))
    last = x.detach().permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3).requires_grad_()
    monkeypatch.setattr(neuron, "CHUNK", 7)
    for other in (x, last):
        spikes, gradient = spikes_and_gradient(other, lambda x: fused(x, layer, STEPS))
        assert torch.equal(spikes, expected[0])
        assert torch.equal(gradient, expected[1])
    assert fused(last, layer, STEPS).stride() == last.stride()
    with torch.no_grad():
        assert torch.equal(fused(x, layer, STEPS), expected[0])


def test_a_static_current_is_not_copied_over_time() -> None:
    x = currents((1, 2, 3))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        saved: list[Tensor] = []
        fused(x, LIFS[0], STEPS)
    assert [tuple(tensor.shape) for tensor in saved] == [(STEPS, 6)]  # u, and nothing else


def test_what_spikingjelly_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="needs a decay above 0"):
        SpikingJellyLif(Lif(decay=0.0))
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based", None)
    with pytest.raises(MissingTool, match=r"pip install 'spikenas\[spikingjelly\]'"):
        SpikingJellyLif(Lif())
    with pytest.raises(ModelError, match="neuron 'norse' is unknown"):
        Network(random_graph(0), neuron="norse")


# --- networks ---------------------------------------------------------------------------------------------


def follow(network: Network, trace: reference.Trace, images: np.ndarray[Any, Any]) -> Counter[str]:
    """Feed every node the reference's inputs and compare its output: one flipped spike cannot cascade.

    Returns how many spikes differ by Lif node; those are looked at by margin.
    """
    seen: Counter[str] = Counter()
    flips: Counter[str] = Counter()

    def watch(name: str, value: Tensor) -> Tensor:
        expected = torch.from_numpy(trace.values[name][seen[name] : seen[name] + len(value)]).float()
        seen[name] += len(value)
        if isinstance(network.graph[name], Lif):
            flips[name] += int((value != expected).sum())
        else:
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4, msg=f"node {name}")
        return expected

    with torch.no_grad():
        network.steps(normalize(torch.from_numpy(images)), watch)
    assert all(seen[name] == len(trace.values[name]) for name in seen)
    return flips


def least_margin(graph: Graph, name: str, trace: reference.Trace) -> float:
    """How near the reference's membranes of a Lif come to the threshold."""
    lif = graph[name]
    assert isinstance(lif, Lif)
    (edge,) = graph.sources[name]
    x = trace.values[edge.source]
    v, least = np.zeros_like(x[0]), np.inf
    for t in range(graph.timesteps):
        u = lif.decay * v + lif.gain * x[min(t, len(x) - 1)]
        least = min(least, float(np.abs(u - lif.threshold).min()))
        s = u >= lif.threshold
        v = np.where(s, 0.0, u) if lif.reset is Reset.ZERO else u - s * lif.threshold
    return least


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_layer_agrees_with_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    model, images = random_model(graph, seed), random_images(graph, 3, seed)
    trace = reference.run(model, images)
    network = from_model(model).eval()
    flips = follow(network, trace, images)
    for name, count in flips.items():
        assert count == 0 or least_margin(graph, name, trace) < 1e-4, name
    with torch.no_grad():
        traced = network.trace(normalize(torch.from_numpy(images)))
    assert {name: tuple(value.shape) for name, value in traced.items()} == {
        name: value.shape for name, value in trace.values.items()
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_parameters_are_counted_alike_and_weights_go_round(seed: int) -> None:
    graph = random_graph(seed)
    network = Network(graph, seed=seed % 1000)
    assert sum(p.numel() for p in network.parameters()) == graph.parameter_count
    assert {name: tuple(p.shape) for name, p in named_parameters(network).items()} == graph.parameter_shapes
    model = random_model(graph, seed)
    again = to_model(from_model(model))
    assert again.weights.keys() == model.weights.keys()
    assert all(np.array_equal(again.weights[name], array) for name, array in model.weights.items())


@pytest.mark.parametrize("seed", [3, 5, 8, 13])
def test_spikingjelly_network_agrees(seed: int) -> None:
    pytest.importorskip("spikingjelly")
    graph = random_graph(seed, static=True)
    model, images = random_model(graph, seed), normalize(torch.from_numpy(random_images(graph, 3, seed)))
    ours, theirs = from_model(model).eval(), from_model(model, neuron="spikingjelly").eval()
    mine, other = ours.trace(images), theirs.trace(images)
    wrong = [name for name in mine if not torch.allclose(mine[name], other[name], rtol=1e-4, atol=1e-4)]
    assert wrong == []
    for network in (ours, theirs):
        network(images).square().sum().backward()
    for name, parameter in named_parameters(ours).items():
        gradient, expected = parameter.grad, named_parameters(theirs)[name].grad
        if gradient is None or expected is None:  # the weights of a delayed edge in a single step
            assert (gradient, expected, graph.timesteps) == (None, None, 1)
            continue
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * (1 + float(expected.abs().max())))


def tiny(timesteps: int = 4) -> Graph:
    layers = (Input((1, 8, 8)), Conv2d(4), Lif(), Flatten(), Linear(10), Mean(), Output())
    names = ("image", "conv", "lif", "flat", "fc", "mean", "out")
    edges = tuple(Edge(source, target) for source, target in pairwise(names))
    return Graph(timesteps, tuple(map(Node, names, layers)), edges)


def test_the_static_stem_is_computed_once() -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    network = Network(tiny(), seed=0)
    network.steps(torch.zeros(2, 1, 8, 8), lambda name, value: shapes.update({name: tuple(value.shape)}))
    assert shapes["conv"] == (1, 2, 4, 8, 8)
    assert shapes["lif"] == (4, 2, 4, 8, 8)


def test_counts_and_rates_by_hand() -> None:
    network = Network(tiny(), seed=0).eval()
    conv = network.operator("conv")
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1] = 1.0  # channel 0 copies the image
    images = torch.zeros(2, 1, 8, 8)
    images[0, 0, 0, 0] = 1.0  # fires at all 4 steps
    images[1, 0, 3, 3] = 0.75  # u = 0.75, 1.125 (fires), 0.75, 1.125 (fires)
    images[1, 0, 3, 4] = 0.5  # u = 0.5, 0.75, 0.875, 0.9375: never
    _, counts = network.forward_with_counts(images)
    assert counts == {"lif": 6}
    logits, rates = network.forward_with_rates(images)
    assert rates["lif"].item() == pytest.approx(6 / (4 * 2 * 256))
    assert torch.equal(logits, network(images))
    assert torch.allclose(network.steps(images).mean(0), logits)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_counts_equal_the_trace_also_in_loops(seed: int) -> None:
    graph = random_graph(seed, feedback=True)
    images = normalize(torch.from_numpy(random_images(graph, 2, seed)))
    network = from_model(random_model(graph, seed)).eval()
    with torch.no_grad():
        trace = network.trace(images)
        _, counts = network.forward_with_counts(images)
        _, rates = network.forward_with_rates(images)
    for name, count in counts.items():
        assert count == int(trace[name].sum())
        assert rates[name].item() == pytest.approx(float(trace[name].mean()), abs=1e-6)


def test_a_delayed_edge_without_a_loop_runs_at_once_and_right() -> None:
    builder = GraphBuilder()
    first = builder.add(Lif(threshold=0.4), builder.add(Input((1, 2, 2))), name="first")
    conv = builder.add(Conv2d(1, (1, 1), padding=(0, 0)), first, name="conv")
    total = builder.add(Add(), conv, name="total")
    builder.feedback(first, total)
    builder.add(Output(), builder.add(Mean(), builder.add(Flatten(), total)))
    graph = builder.build(4)
    model = random_model(graph, 0)
    images = random_images(graph, 5, 1)
    trace = reference.run(model, images)
    assert trace.values["first"].std() > 0
    with torch.no_grad():
        outputs = from_model(model).eval().trace(normalize(torch.from_numpy(images)))
    np.testing.assert_allclose(outputs["total"].numpy(), trace.values["total"], atol=1e-6)


def test_same_seed_same_weights_and_global_random_state_untouched() -> None:
    graph = random_graph(2)
    before = torch.get_rng_state()
    networks = [Network(graph, seed=seed, dropout=0.5) for seed in (1, 1, 2)]
    images = normalize(torch.from_numpy(random_images(graph, 4, 0)))
    outputs = [network.train()(images).detach() for network in networks]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_dropout_masks_features_for_all_steps_alike() -> None:
    network = Network(tiny(), dropout=0.5, seed=0).train()
    entered: list[Tensor] = []
    network.operator("fc").register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    network.steps(torch.ones(3, 1, 8, 8), lambda name, value: torch.ones_like(value) if name == "flat" else None)
    (features,) = entered
    assert set(features.unique().tolist()) == {0.0, 2.0}
    assert all(torch.equal(features[0], later) for later in features[1:])
    assert 0.4 < (features > 0).float().mean() < 0.6


def test_foreign_weights_and_images_are_refused() -> None:
    with pytest.raises(ModelError, match="the model's graph is not the network's"):
        load_weights(Network(tiny()), random_model(tiny(5), 0))
    with pytest.raises(ModelError, match=r"images are \(1, 9, 9\): the network takes \(1, 8, 8\)"):
        Network(tiny())(torch.zeros(2, 1, 9, 9))


def test_training_mode_uses_batch_statistics_and_keeps_running_ones() -> None:
    graph = random_graph(4, static=True)
    network = Network(graph, seed=0).train()
    before = to_model(network)
    network(normalize(torch.from_numpy(random_images(graph, 8, 0))))
    after = to_model(network)
    moved = {name for name in before.weights if not np.array_equal(before.weights[name], after.weights[name])}
    assert moved
    assert all(name.endswith(("running_mean", "running_var")) for name in moved)
