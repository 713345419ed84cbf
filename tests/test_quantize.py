"""Integers: exact where floats are exact, close where they are not, and the fast path bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, random_images, random_integer_model, random_model
from torch import Tensor

from spikenas import reference
from spikenas.errors import ModelError, QuantizeError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Kind,
    Layer,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
)
from spikenas.model import CURRENT_MAX, IntegerModel, Model
from spikenas.snn.bounds import reaches
from spikenas.snn.integer_network import IntegerNetwork, predict
from spikenas.snn.network import from_model, normalize
from spikenas.snn.quantize import quantize
from spikenas.snn.scales import tied_groups

ONE = Conv2d(1, (1, 1), padding=(0, 0))
SEEDS = st.integers(0, 2**32)


def chain(*layers: tuple[str, Layer], timesteps: int = 2) -> Graph:
    names = [name for name, _ in layers]
    edges = tuple(Edge(source, target) for source, target in pairwise(names))
    return Graph(timesteps, tuple(Node(name, layer) for name, layer in layers), edges)


def tail(classes: int = 2) -> tuple[tuple[str, Layer], ...]:
    return (("flat", Flatten()), ("fc", Linear(classes)), ("mean", Mean()), ("out", Output()))


def model(graph: Graph, **arrays: Any) -> Model:
    return Model(graph, {name.replace("__", "."): np.array(value, np.float32) for name, value in arrays.items()})


def at_bits(graph: Graph, bits: int) -> Graph:
    nodes = tuple(
        Node(n.name, replace(n.layer, weight_bits=bits)) if isinstance(n.layer, Conv2d | Linear) else n
        for n in graph.nodes
    )
    return Graph(graph.timesteps, nodes, graph.edges)


# --- by hand ----------------------------------------------------------------------------------------------


def two_neurons(**fields: Any) -> Graph:
    """image 1x1 -> lif -> conv with 2 channels -> lif -> fc."""
    return chain(
        ("image", Input((1, 1, 1))),
        ("lif1", Lif(threshold=0.25)),
        ("conv", Conv2d(2, (1, 1), padding=(0, 0), **fields)),
        ("lif2", Lif(gain=0.5, threshold=1.0)),
        *tail(),
    )


def test_weights_thresholds_and_scales_by_hand() -> None:
    weights = {"conv__weight": [[[[1.27]]], [[[-0.5]]]], "conv__bias": [0.1, 0.2]}
    fc = {"fc__weight": [[2.54, -1.0], [0.02, 0.01]], "fc__bias": [0.1, -0.1]}
    integer = quantize(model(two_neurons(bias=True), **weights, **fc))
    w = integer.weights
    assert w["lif1.threshold"].tolist() == [32]  # 0.25 * 128 pixels
    assert w["conv.weight"].ravel().tolist() == [127, -127]  # scales 0.01 and 0.5 / 127
    assert w["conv.bias"].tolist() == [10, 51]  # 0.1 / 0.01, 0.2 / 0.003937 = 50.8
    assert w["lif2.threshold"].tolist() == [200, 508]  # 1 / 0.5 / 0.01 and 1 / 0.5 / 0.003937 = 508
    assert w["fc.weight"].tolist() == [[127, -50], [1, 0]]  # one scale, 0.02, for both classes; 0.5 rounds to even
    assert w["fc.bias"].tolist() == [5, -5]
    assert integer.output_scale == pytest.approx(0.02 / 2)  # sums over 2 steps stand for their mean
    assert {int(w[f"{name}.shift"]) for name in ("conv", "fc")} == {0}


def test_exact_quotients_are_not_rounded_up() -> None:
    for numerator in range(1, 128):
        weight = np.float32(0.7)
        lif = Lif(threshold=float(weight) * numerator / 127)
        graph = chain(("image", Input((1, 1, 1))), ("lif1", Lif()), ("conv", ONE), ("lif", lif), *tail())
        integer = quantize(model(graph, conv__weight=[[[[weight]]]], fc__weight=[[1], [1]], fc__bias=[0, 0]))
        assert integer.weights["lif.threshold"].tolist() == [numerator]


def test_fold_before_a_neuron_by_hand() -> None:
    graph = chain(
        ("image", Input((1, 1, 1))),
        ("lif1", Lif()),
        ("conv", Conv2d(4, (1, 1), padding=(0, 0))),
        ("pool", AvgPool2d((1, 1), (1, 1))),
        ("bn", BatchNorm2d(eps=0.0)),
        ("lif", Lif(threshold=1.0)),
        *tail(),
    )
    integer = quantize(
        model(
            graph,
            conv__weight=np.full((4, 1, 1, 1), 1.27),
            bn__weight=[2.0, -2.0, 1e-9, 0.0],
            bn__bias=[0.0, 0.5, 0.25, -3.0],
            bn__running_mean=[0.1, 0.0, 0.0, 0.0],
            bn__running_var=[1.0, 4.0, 1.0, 1.0],
            fc__weight=np.ones((2, 4)),
            fc__bias=[0, 0],
        )
    )
    w = integer.weights
    assert w["lif.sign"].tolist() == [1, -1, 1, 1]
    # g = 2: threshold 1 / 2 / 0.01 = 50, bias -0.2 / 2 / 0.01 = -10; g = -1: 100, 0.5 / 0.01 = 50
    assert w["lif.threshold"][:2].tolist() == [50, 100]
    assert w["lif.bias"][:2].tolist() == [-10, 50]
    # g near 0: the input vanishes, a quarter of the threshold and minus three (within 16 bits) stay
    assert w["lif.threshold"][2:].tolist() == [2**14, 2**14]
    assert w["lif.bias"][2:].tolist() == [2**12, -CURRENT_MAX]
    assert w["conv.weight"].ravel().tolist() == [127, 127, 0, 0]


def test_pooled_spikes_fold_their_count_into_the_weights() -> None:
    graph = chain(
        ("image", Input((1, 2, 2))), ("lif", Lif(threshold=0.5)), ("pool", AvgPool2d((2, 2), (2, 2))), *tail()
    )
    float_model = model(graph, fc__weight=[[1.0], [0.5]], fc__bias=[0.0, 0.25])
    integer = quantize(float_model)
    images = np.array([[[[255, 255], [255, 0]]]], np.uint8)
    # 3 of 4 spikes: 0.75 and 0.375 + 0.25; one quarter is worth 1 / (4 * 127 / 1.0)
    trace = reference.run(integer, images)
    assert trace.values["pool"].ravel().tolist() == [3, 3]
    scale = integer.output_scale
    assert scale == pytest.approx(1 / 4 / 127 / 2)
    np.testing.assert_allclose(trace.outputs * scale, [[0.75, 0.625]], atol=2 * scale * 3)


def test_silent_and_tiny_channels() -> None:
    graph = chain(
        ("image", Input((1, 1, 1))),
        ("lif1", Lif(threshold=0.5)),
        ("conv", Conv2d(3, (1, 1), padding=(0, 0), bias=True)),
        ("lif", Lif(decay=1.0)),
        *tail(),
        timesteps=4,
    )
    integer = quantize(
        model(
            graph,
            conv__weight=np.array([1.0, 0.0, 1e-6]).reshape(3, 1, 1, 1),
            conv__bias=[0.0, 0.3, 0.3],
            fc__weight=np.ones((2, 3)),
            fc__bias=[0, 0],
        )
    )
    assert integer.weights["lif.threshold"].max() <= 2**14
    spikes = reference.run(integer, np.array([[[[255]]]], np.uint8)).values["lif"].reshape(4, 3)
    assert spikes.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]]  # 0.3, 0.6, 0.9, 1.2


def test_branches_and_skips_share_a_scale() -> None:
    builder = GraphBuilder()
    stem = builder.add(Conv2d(2), builder.add(Input((1, 4, 4))), name="stem")
    lif = builder.add(Lif(), stem)
    pool = builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)), stem, name="pool")
    branch = builder.add(Conv2d(2), lif, name="branch")
    total = builder.add(Add(), stem, pool, branch, name="total")
    free = builder.add(Conv2d(2), builder.add(Lif(), total), name="free")
    flat = builder.add(Flatten(), builder.add(Lif(), free))
    builder.add(Output(), builder.add(Mean(), builder.add(Linear(2), flat, name="fc")))
    groups = tied_groups(builder.build(2))
    assert groups["stem"] == groups["total"] == {"stem", "pool", "branch", "total"}
    assert groups["free"] == {"free"}
    assert groups["fc"] == {"fc"}


def mixed_group() -> Model:
    """An 8-bit stem over pixels and a 4-bit branch over its spikes, joined by a skip."""
    builder = GraphBuilder()
    stem = builder.add(replace(ONE, weight_bits=8), builder.add(Input((1, 1, 1))), name="stem")
    spikes = builder.add(Lif(threshold=0.25), stem, name="spikes")
    branch = builder.add(replace(ONE, weight_bits=4), spikes, name="branch")
    last = builder.add(Lif(), builder.add(Add(), stem, branch, name="total"), name="last")
    builder.add(Output(), builder.add(Mean(), builder.add(Linear(2), builder.add(Flatten(), last), name="fc")))
    weights = {"stem__weight": [[[[0.25]]]], "branch__weight": [[[[0.7]]]]}
    return model(builder.build(2), **weights, fc__weight=[[1], [1]], fc__bias=[0, 0])


def test_a_layer_of_few_bits_is_shifted_left_and_leaves_its_group_fine() -> None:
    integer = quantize(mixed_group())
    w = integer.weights
    # by itself the branch would set the scale to 0.7 / 7 = 0.1, and 0.25 would be 3 numbers; shifted by 8 bits (5 make
    # up for its few bits, 3 more are allowed) its weights count 256 units of 0.1 / 256 each
    assert int(w["branch.shift"]) == -8
    assert w["branch.weight"].ravel().tolist() == [7]
    assert w["spikes.threshold"].tolist() == [640]  # 0.25 / (0.1 / 256)
    assert w["last.threshold"].tolist() == [2560]
    trace = reference.run(integer, np.array([[[[255]]], [[[200]]]], np.uint8))
    # 0.25 * 127 / 128 and 0.25 * 72 / 128 in these units: 635 and 360; the first neuron spikes in its second step
    assert trace.values["stem"].ravel().tolist() == [635, 360]
    assert trace.values["branch"].ravel().tolist() == [0, 0, 7 * 256, 0]
    assert trace.values["total"].ravel().tolist() == [635, 360, 635 + 7 * 256, 360]


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_layers_of_any_bits_may_meet_and_stay_exact(seed: int) -> None:
    graph, rng = random_graph(seed), np.random.default_rng(seed)
    nodes = tuple(
        Node(n.name, replace(n.layer, weight_bits=int(rng.integers(2, 9))))
        if isinstance(n.layer, Conv2d | Linear)
        else n
        for n in graph.nodes
    )
    graph = Graph(graph.timesteps, nodes, graph.edges)
    integer, images = quantize(random_model(graph, seed)), random_images(graph, 4, seed)
    trace = reference.run(integer, images)
    assert np.array_equal(predict(integer, images), trace.outputs)
    for name, reach in reaches(integer).items():
        values = np.moveaxis(trace.values[name], 2, 0).reshape(len(reach.low), -1)
        assert (reach.low <= values.min(axis=1)).all(), name
        assert (values.max(axis=1) <= reach.high).all(), name


def test_an_eight_bit_stem_beside_four_bit_layers_flips_few_spikes() -> None:
    """At the scale of the 4-bit layers these stems flipped 3% of their spikes."""
    shares, shifts = [], []
    for seed in range(12):
        graph = at_bits(random_graph(seed, feedback=False, static=True), 4)
        first = next(n.name for n in graph.nodes if isinstance(n.layer, Conv2d))
        nodes = tuple(Node(n.name, replace(n.layer, weight_bits=8)) if n.name == first else n for n in graph.nodes)
        float_model = random_model(Graph(graph.timesteps, nodes, graph.edges), seed)
        integer, images = quantize(float_model), random_images(graph, 8, seed)
        trace, expected = reference.run(integer, images), reference.run(float_model, images)
        stems = [n for n in trace.values if isinstance(graph[n], Lif) and n in direct_lifs(float_model.graph, first)]
        shares += [float(np.mean(trace.values[n] != expected.values[n])) for n in stems]
        shifts += [int(integer.weights[n]) for n in integer.weights if n.endswith(".shift")]
    assert min(shifts) < 0
    assert len(shares) >= 8
    assert np.mean(shares) < 0.01


def direct_lifs(graph: Graph, conv: str) -> set[str]:
    """Neurons that a convolution reaches through nothing but norms."""
    found: set[str] = set()
    for edge in graph.consumers[conv]:
        layer = graph[edge.target]
        if isinstance(layer, Lif):
            found.add(edge.target)
        elif isinstance(layer, BatchNorm2d):
            found |= direct_lifs(graph, edge.target)
    return found


# --- exact where floats are exact ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_dyadic_networks_are_reproduced_spike_for_spike(seed: int) -> None:
    """Weights that are integers over 128 with full range, no leak: nothing is rounded anywhere."""
    rng = np.random.default_rng(seed)
    lif = Lif(1.0, float(rng.choice([0.5, 1.0])), 1.0, Reset(rng.choice(["zero", "subtract"])), 32)
    builder = GraphBuilder()
    first = builder.add(replace(lif, threshold=0.125), builder.add(Input((2, 4, 4))), name="first")
    one = builder.add(Conv2d(3), first, name="one")
    two = builder.add(Conv2d(3, (1, 1), padding=(0, 0)), first, name="two")
    nodes = builder.add(Add(), one, two, builder.add(AvgPool2d((1, 1), (1, 1)), one), name="nodes")
    flat = builder.add(Flatten(), builder.add(AvgPool2d((4, 4), (4, 4)), builder.add(lif, nodes)))
    builder.add(Output(), builder.add(Mean(), builder.add(Linear(3), flat, name="fc")))
    graph = builder.build(4)
    weights = {}
    for name, shape in graph.parameter_shapes.items():
        array = rng.integers(-127, 128, shape).astype(np.float32) / 128
        if not name.endswith("bias"):
            array.reshape(shape[0], -1)[:, 0] = 127 / 128
        weights[name] = array
    float_model, images = Model(graph, weights), random_images(graph, 4, seed)
    integer = quantize(float_model)
    expected, got = reference.run(float_model, images), reference.run(integer, images)
    for name, kind in graph.kinds.items():
        if kind is Kind.SPIKES:
            assert np.array_equal(expected.values[name], got.values[name]), name
    assert np.array_equal(expected.values["nodes"] * 128, got.values["nodes"])
    np.testing.assert_allclose(got.outputs * integer.output_scale, expected.outputs, atol=0.51 / 128 / 16)
    assert np.array_equal(got.outputs.argmax(1), (got.outputs * integer.output_scale).argmax(1))


# --- close where they are not -------------------------------------------------------------------------------


def flips_by_node(float_model: Model, integer: IntegerModel, images: np.ndarray[Any, Any]) -> dict[str, float]:
    """Share of spikes that differ in each Lif, when the float network is fed the integer network's spikes."""
    trace = reference.run(integer, images)
    seen: Counter[str] = Counter()
    wrong: Counter[str] = Counter()

    def watch(name: str, value: Tensor) -> Tensor | None:
        if not isinstance(float_model.graph[name], Lif):
            return None
        spikes = torch.from_numpy(trace.values[name][seen[name] : seen[name] + len(value)]).float()
        seen[name] += len(value)
        wrong[name] += int((spikes != value).sum())
        return spikes

    with torch.no_grad():
        network = from_model(float_model).eval()
        outputs = network.steps(normalize(torch.from_numpy(images)), watch).mean(0).numpy()
    step = 3 * integer.graph.timesteps * integer.output_scale  # of an output before Vote (of up to 3) and Mean
    error = np.abs(outputs - trace.outputs * integer.output_scale).max()
    assert error < 0.05 * np.abs(outputs).max() + 3 * step
    return {name: wrong[name] / trace.values[name].size for name in seen}


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_eight_bits_follow_the_float_network(seed: int) -> None:
    graph = at_bits(random_graph(seed), 8)
    float_model = random_model(graph, seed)
    flips = flips_by_node(float_model, quantize(float_model), random_images(graph, 6, seed))
    # the neurons of a channel share their threshold: where their few inputs hardly differ, they all change together
    channels = [share * graph.shapes[name][0] for name, share in flips.items()]
    assert max(channels) < 1.5
    assert np.mean(channels) < 0.5


def test_eight_bits_flip_few_spikes() -> None:
    shares: list[float] = []
    for seed in range(30):
        graph = at_bits(random_graph(seed), 8)
        float_model = random_model(graph, seed)
        shares += flips_by_node(float_model, quantize(float_model), random_images(graph, 6, seed)).values()
    assert np.mean(shares) < 0.004
    assert np.median(shares) < 0.001


def test_fewer_bits_follow_less_closely() -> None:
    shares = []
    for bits in (8, 4, 2):
        found: list[float] = []
        for seed in range(8):
            graph = at_bits(random_graph(seed), bits)
            float_model = random_model(graph, seed)
            integer, images = quantize(float_model), random_images(graph, 4, seed)
            trace, expected = reference.run(integer, images), reference.run(float_model, images)
            found += [float(np.mean(trace.values[n] != expected.values[n])) for n in trace.values if "lif" in n][:1]
        shares.append(np.mean(found))
    assert shares[0] < 0.01
    assert shares[0] < shares[1] < shares[2] < 0.3


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_currents_from_pixels_provably_fit_16_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, channels = int(rng.choice([1, 3, 5])), int(rng.integers(1, 4))
    conv = Conv2d(3, (kernel, kernel), padding=(0, 0), bias=True, weight_bits=int(rng.integers(2, 9)))
    graph = chain(("image", Input((channels, kernel, kernel))), ("conv", conv), ("lif", Lif()), *tail())
    integer = quantize(random_model(graph, seed))
    reach = reaches(integer)["conv"]
    weight = integer.weights["conv.weight"]
    worst = np.where(weight > 0, 255, 0).astype(np.uint8)  # an image per output channel: the worst it can meet
    for images in (worst, 255 - worst):
        values = reference.run(integer, images).values["conv"][0]
        assert np.abs(values).max() <= CURRENT_MAX
        own = np.array([values[c, c, 0, 0] for c in range(3)])
        assert (reach.low <= own).all()
        assert (own <= reach.high).all()
    shift = int(integer.weights["conv.shift"])
    own_scale = max(np.abs(integer.weights[name]).max() for name in ("lif.threshold", "conv.bias")) < 2**13
    if shift and own_scale:  # one bit less would not do
        sums = np.abs(weight).sum(axis=(1, 2, 3)) * 128 + np.abs(integer.weights["conv.bias"]) * 2**shift
        assert (sums / 2 ** (shift - 1)).max() > 0.99 * CURRENT_MAX


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_reaches_hold(seed: int) -> None:
    integer = random_integer_model(random_graph(seed), seed)
    images = random_images(integer.graph, 4, seed)
    images[0], images[1] = 0, 255
    trace = reference.run(integer, images)
    for name, reach in reaches(integer).items():
        values = np.moveaxis(trace.values[name], 2, 0).reshape(len(reach.low), -1)
        assert (reach.low <= values.min(axis=1)).all(), name
        assert (values.max(axis=1) <= reach.high).all(), name


def test_calibration_keeps_large_currents() -> None:
    # 300 weights of 127 add up to more than 16 bits hold, if all spikes come at once
    graph = chain(
        ("image", Input((300, 1, 1))),
        ("lif1", Lif(threshold=0.1)),
        ("conv", ONE),
        ("lif", Lif(threshold=1.0)),
        *tail(),
    )
    float_model = model(graph, conv__weight=np.ones((1, 300, 1, 1)), fc__weight=[[1], [1]], fc__bias=[0, 0])
    images = np.full((1, 300, 1, 1), 255, np.uint8)
    plain, calibrated = quantize(float_model), quantize(float_model, images)
    assert reference.run(plain, images).values["conv"].max() == CURRENT_MAX  # 38,100, clamped
    assert 0.9 * CURRENT_MAX < calibrated.weights["conv.weight"].sum() <= CURRENT_MAX


# --- the fast path ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_fast_integers_equal_the_reference_also_when_saturated(seed: int) -> None:
    integer = random_integer_model(random_graph(seed), seed)
    images = random_images(integer.graph, 5, seed)
    trace = reference.run(integer, images)
    seen: dict[str, list[Tensor]] = {}
    IntegerNetwork(integer).run(torch.from_numpy(images), lambda n, value: seen.setdefault(n, []).append(value))
    for name, pieces in seen.items():
        assert np.array_equal(torch.cat(pieces).numpy(), trace.values[name]), name
    outputs = predict(integer, images, batch_size=2)
    assert outputs.dtype == np.int32
    assert np.array_equal(outputs, trace.outputs)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_fast_integers_equal_the_reference_on_quantized_networks(seed: int) -> None:
    integer = quantize(random_model(random_graph(seed), seed))
    images = random_images(integer.graph, 5, seed)
    assert np.array_equal(predict(integer, images), reference.run(integer, images).outputs)


def test_predict_tells_progress_and_refuses_floats() -> None:
    integer = quantize(random_model(random_graph(1), 1))
    images = random_images(integer.graph, 5, 1)
    done: list[int] = []
    predict(integer, images, batch_size=2, on_batch=done.append)
    assert done == [2, 4, 5]
    with pytest.raises(ModelError, match="images are float64: an integer network takes uint8"):
        predict(integer, images / 255)
    with pytest.raises(ModelError, match="the network takes"):
        predict(integer, images[..., :1])


# --- what cannot be made integer ----------------------------------------------------------------------------


def built(fill: Any) -> Graph:
    """image -> lif 'spikes', image -> conv 'current'; ``fill(builder)`` returns the node to read out."""
    builder = GraphBuilder()
    image = builder.add(Input((2, 4, 4)), name="image")
    builder.add(Lif(), image, name="spikes")
    builder.add(Conv2d(2), image, name="current")
    end = builder.add(Add(), fill(builder), builder.add(Conv2d(2), "spikes"), builder.add(Conv2d(2), "image"))
    end = builder.add(Add(), end, "current")
    readout = builder.add(Linear(2), builder.add(Flatten(), builder.add(Lif(), end)))
    builder.add(Output(), builder.add(Mean(), readout))
    return builder.build(2)


def norm_between_skip_and_sum(builder: GraphBuilder) -> str:
    return builder.add(BatchNorm2d(), "current", name="bn")


def norm_of_counts(builder: GraphBuilder) -> str:
    pooled = builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)), "spikes", name="pool")
    normed = builder.add(Lif(), builder.add(BatchNorm2d(), pooled, name="bn"), name="normed")
    return builder.add(Conv2d(2), normed)


def spikes_into_currents(builder: GraphBuilder) -> str:
    return builder.add(Add(), "current", "spikes", name="mixed")


def spikes_and_counts(builder: GraphBuilder) -> str:
    pooled = builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)), "spikes", name="pool")
    return builder.add(Conv2d(2), builder.add(Add(), "spikes", pooled, name="counts"))


def wide_weights(builder: GraphBuilder) -> str:
    return builder.add(Conv2d(2, weight_bits=9), "spikes", name="wide")


def currents_in_a_circle(builder: GraphBuilder) -> str:
    total = builder.add(Add(), "current", name="total")
    builder.feedback(builder.add(Conv2d(2), total, name="again"), total)
    return total


def narrow_membrane(builder: GraphBuilder) -> str:
    return builder.add(Conv2d(2), builder.add(Lif(threshold=2.0, membrane_bits=8), "image", name="narrow"))


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (norm_between_skip_and_sum, "node 'bn': BatchNorm2d after Conv2d 'current' cannot be folded"),
        (norm_of_counts, "node 'normed': the BatchNorm2d before it normalizes spike counts of 'pool'"),
        (spikes_into_currents, "node 'mixed': Add takes currents and 'spikes' gives spikes"),
        (spikes_and_counts, r"node 'counts' adds spikes and pooled spikes \('spikes', 'pool'\)"),
        (wide_weights, "node 'wide': weights of 9 bits: integers take 2 to 8"),
        (currents_in_a_circle, "come back to it through weights without a Lif"),
        (narrow_membrane, "node 'narrow': its threshold is 256 .* membranes of 8 bits end at 127"),
    ],
)
def test_what_cannot_be_made_integer_is_named(fill: Any, words: str) -> None:
    graph = built(fill)
    with pytest.raises(QuantizeError, match=words) as caught:
        quantize(random_model(graph, 0))
    assert "\n" not in str(caught.value)
