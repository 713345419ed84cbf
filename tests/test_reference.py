"""The interpreter against numbers worked out by hand, and against torch where the numbers are many."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from spikenas import reference
from spikenas.errors import ModelError
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
    Layer,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
    Vote,
)
from spikenas.model import IntegerModel, Model


def chain(*layers: tuple[str, Layer], timesteps: int) -> Graph:
    names = [name for name, _ in layers]
    edges = tuple(Edge(source, target) for source, target in pairwise(names))
    return Graph(timesteps, tuple(Node(name, layer) for name, layer in layers), edges)


TAIL: tuple[tuple[str, Layer], ...] = (("flat", Flatten()), ("mean", Mean()), ("out", Output()))


def float_model(graph: Graph, **arrays: Any) -> Model:
    return Model(graph, {name.replace("__", "."): np.array(value, np.float32) for name, value in arrays.items()})


def integer_model(graph: Graph, **arrays: Any) -> IntegerModel:
    ints = {name.replace("__", "."): np.array(value, np.int32) for name, value in arrays.items()}
    return IntegerModel(graph, ints, 1.0)


def image(*pixels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image of one channel and one row."""
    return np.array(pixels, np.uint8).reshape(1, 1, 1, -1)


def one_neuron(reset: Reset = Reset.ZERO, **fields: Any) -> Graph:
    lif = Lif(decay=0.5, gain=1.0, threshold=1.0, reset=reset, **fields)
    return chain(("image", Input((1, 1, 1))), ("lif", lif), *TAIL, timesteps=5)


def test_float_neuron_by_hand() -> None:
    # x = (208 - 128) / 128 = 0.625; u = 0.625, 0.9375, 1.09375 (fires), 0.625, 0.9375
    trace = reference.run(Model(one_neuron(), {}), image(208))
    assert trace.values["lif"].ravel().tolist() == [0, 0, 1, 0, 0]
    assert trace.outputs.tolist() == [[0.2]]
    # subtract: u = 0.625, 0.9375, 1.09375 -> 0.09375, 0.671875, 0.9609375
    assert reference.run(Model(one_neuron(Reset.SUBTRACT), {}), image(208)).values["lif"].sum() == 1
    # x = 1 - 1/128: u = .992, 1.488 -> fires at the second and, from .488 / 2 + .992, the third step and on
    spikes = reference.run(Model(one_neuron(Reset.SUBTRACT), {}), image(255)).values["lif"].ravel()
    assert spikes.tolist() == [0, 1, 1, 1, 1]


def test_float_neuron_fires_at_equality() -> None:
    graph = chain(("image", Input((1, 1, 1))), ("lif", Lif(threshold=0.5)), *TAIL, timesteps=1)
    assert reference.run(Model(graph, {}), image(192)).outputs.item() == 1.0
    assert reference.run(Model(graph, {}), image(191)).outputs.item() == 0.0


def test_gain_and_decay_are_those_of_the_equation() -> None:
    # tau = 4/3: u = 0.25 v + 0.75 x with x = 0.5: 0.375, 0.46875, 0.4921875
    lif = Lif(decay=0.25, gain=0.75, threshold=0.49)
    graph = chain(("image", Input((1, 1, 1))), ("lif", lif), *TAIL, timesteps=3)
    assert reference.run(Model(graph, {}), image(192)).values["lif"].ravel().tolist() == [0, 0, 1]


def test_float_layers_against_torch() -> None:
    rng = np.random.default_rng(0)
    layers = (
        ("image", Input((4, 9, 8))),
        ("conv", Conv2d(6, (5, 3), (2, 1), (1, 2), groups=2, bias=True)),
        ("bn", BatchNorm2d(eps=0.01)),
        ("pool", AvgPool2d((3, 2), (2, 1), (1, 1))),
        ("flat", Flatten()),
        ("fc", Linear(6)),
        ("vote", Vote(3)),
        ("mean", Mean()),
        ("out", Output()),
    )
    graph = chain(*layers, timesteps=2)
    shapes = {**graph.parameter_shapes, "bn.running_mean": (6,), "bn.running_var": (6,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["bn.running_var"] = np.abs(weights["bn.running_var"])
    images = rng.integers(0, 256, (3, 4, 9, 8), dtype=np.uint8)
    got = reference.run(Model(graph, weights), images).values
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    x = (torch.from_numpy(images).double() - 128) / 128
    conv = functional.conv2d(x, w["conv.weight"], w["conv.bias"], (2, 1), (1, 2), groups=2)
    norm = functional.batch_norm(
        conv, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"], eps=0.01
    )
    pool = functional.avg_pool2d(norm, (3, 2), (2, 1), (1, 1))
    fc = functional.linear(pool.flatten(1), w["fc.weight"], w["fc.bias"])
    vote = fc.reshape(3, 2, 3).mean(2)
    for name, expected in {"conv": conv, "bn": norm, "pool": pool, "fc": fc, "vote": vote, "out": vote}.items():
        np.testing.assert_allclose(got[name][0], expected.numpy(), atol=1e-10, err_msg=name)


def test_feedback_arrives_one_step_later() -> None:
    # total(t) = image + conv(spikes(t - 1)), image 0.5, weight 0.75, threshold 1: .5, .5, ... never 1.25 before a spike
    builder = GraphBuilder()
    total = builder.add(Add(), builder.add(Input((1, 1, 1)), name="image"), name="total")
    lif = builder.add(Lif(decay=0.5, threshold=0.75), total, name="lif")
    builder.feedback(builder.add(Conv2d(1, (1, 1), padding=(0, 0)), lif, name="conv"), total)
    builder.add(Output(), builder.add(Mean(), builder.add(Flatten(), lif)))
    graph = builder.build(5)
    trace = reference.run(float_model(graph, conv__weight=[[[[0.75]]]]), image(192))
    # u: 0.5, 0.75 (fires), 0.5 + 0.75 (fires), 1.25 (fires), ...
    assert trace.values["total"].ravel().tolist() == [0.5, 0.5, 1.25, 1.25, 1.25]
    assert trace.values["lif"].ravel().tolist() == [0, 1, 1, 1, 1]


def test_frames_of_a_moving_input() -> None:
    graph = chain(("image", Input((1, 1, 1), static=False)), ("lif", Lif(threshold=0.5)), *TAIL, timesteps=3)
    frames = np.array([128, 192, 128], np.uint8).reshape(1, 3, 1, 1, 1)
    assert reference.run(Model(graph, {}), frames).values["lif"].ravel().tolist() == [0, 1, 0]


# --- integers ---------------------------------------------------------------------------------------------


def linear(weight: list[list[int]], bias: list[int] | None, shift: int, inputs: int) -> IntegerModel:
    fc = Linear(len(weight), bias=bias is not None)
    tail: tuple[tuple[str, Layer], ...] = (("fc", fc), ("mean", Mean()), ("out", Output()))
    graph = chain(("image", Input((1, 1, inputs))), ("flat", Flatten()), *tail, timesteps=1)
    arrays: dict[str, Any] = {"fc__weight": weight, "fc__shift": shift}
    return integer_model(graph, **arrays, **({"fc__bias": bias} if bias is not None else {}))


@pytest.mark.parametrize(
    ("shift", "expected"),
    # sums of [1, 2] with [3, -5]: 3 - 10 = -7, and with [-7, 4]: -7 + 8 = 1; bias 10 and -1 after the shift
    [(0, [3, 0]), (1, [10 - 3, -1 + 1]), (2, [10 - 2, -1]), (3, [10 - 1, -1])],
)
def test_weighted_sum_is_rounded_half_up_and_then_biased(shift: int, expected: list[int]) -> None:
    model = linear([[3, -5], [-7, 4]], [10, -1], shift, 2)
    assert reference.run(model, image(129, 130)).outputs.tolist() == [expected]


def test_outputs_are_sums_over_time_and_votes() -> None:
    layers: tuple[tuple[str, Layer], ...] = (("vote", Vote(2)), ("mean", Mean()), ("out", Output()))
    graph = chain(("image", Input((1, 1, 4))), ("flat", Flatten()), *layers, timesteps=3)
    assert reference.run(IntegerModel(graph, {}, 1.0), image(129, 131, 128, 0)).outputs.tolist() == [[12, -384]]


def pooled(*, threshold: int) -> IntegerModel:
    builder = GraphBuilder()
    conv = builder.add(Conv2d(1, (1, 1), padding=(0, 0)), builder.add(Input((1, 1, 4))), name="conv")
    pool = builder.add(AvgPool2d((1, 2), (1, 2)), conv, name="pool")
    lif = builder.add(Lif(), conv, name="lif")
    counts = builder.add(AvgPool2d((1, 4), (1, 4)), lif, name="counts")
    flat = builder.add(Flatten(), counts)
    builder.add(Lif(), pool, name="unused_lif")
    builder.add(Flatten(), "unused_lif", name="unused_flat")
    fc = builder.add(Linear(1, bias=False), "unused_flat", name="unused_fc")
    read = builder.add(Linear(1, bias=False), flat, name="read")
    builder.add(Output(), builder.add(Mean(), builder.add(Add(), fc, read)))
    arrays = {"conv__weight": [[[[1]]]], "conv__shift": 0, "lif__threshold": [threshold], "unused_lif__threshold": [1]}
    rest = {"unused_fc__weight": [[0, 0]], "unused_fc__shift": 0, "read__weight": [[5]], "read__shift": 0}
    return integer_model(builder.build(1), **arrays, **rest)


def test_pooling_rounds_currents_half_up_and_counts_spikes() -> None:
    trace = reference.run(pooled(threshold=2), image(129, 130, 127, 126))  # currents 1, 2, -1, -2
    assert trace.values["pool"].ravel().tolist() == [2, -1]  # 1.5 and -1.5
    assert trace.values["counts"].ravel().tolist() == [1]
    assert trace.outputs.tolist() == [[5]]
    assert reference.run(pooled(threshold=1), image(129, 130, 131, 126)).values["counts"].ravel().tolist() == [3]


def test_pooling_of_nine_by_exact_division() -> None:
    graph = chain(
        ("image", Input((1, 3, 3))),
        ("conv", Conv2d(1, (1, 1), padding=(0, 0))),
        ("pool", AvgPool2d((3, 3), (1, 1), (1, 1))),
        *TAIL,
        timesteps=1,
    )
    pixels = np.array([[5, -3, 7], [0, 0, -100], [4, 4, 1]])
    model = integer_model(graph, conv__weight=[[[[1]]]], conv__shift=0)
    got = reference.run(model, (pixels + 128).astype(np.uint8)[None, None]).outputs.reshape(3, 3)
    padded = np.pad(pixels, 1)
    sums = [[int(padded[i : i + 3, j : j + 3].sum()) for j in range(3)] for i in range(3)]
    assert got.tolist() == [[(2 * s + 9) // 18 for s in row] for row in sums]
    assert got[0, 0] == 0  # 2 / 9
    assert got[1, 1] == -9  # -82 / 9 = -9.1


@pytest.mark.parametrize(
    ("reset", "spikes", "fed"),
    [
        # x = 100, threshold 150, leak 128/256: u = 100, 150 (fires, v = 0), 100, 150 (fires), 100
        (Reset.ZERO, [0, 1, 0, 1, 0], 100),
        # u = 100, 150 -> 0, the same
        (Reset.SUBTRACT, [0, 1, 0, 1, 0], 100),
        # x = 127: u = 127, 190 -> 40, 147, 200 -> 50, 152 -> 2
        (Reset.SUBTRACT, [0, 1, 0, 1, 1], 127),
    ],
)
def test_integer_neuron_by_hand(reset: Reset, spikes: list[int], fed: int) -> None:
    model = integer_model(one_neuron(reset), lif__threshold=[150])
    trace = reference.run(model, image(128 + fed))
    assert trace.values["lif"].ravel().tolist() == spikes
    assert trace.outputs.tolist() == [[sum(spikes)]]


def test_leak_rounds_towards_minus_infinity() -> None:
    # x = -1, 0, 0, ...: v = -1, and (128 * -1) >> 8 = -1 for ever; adding 1 at the last step reaches 0, not 1
    graph = chain(("image", Input((1, 1, 1), static=False)), ("lif", Lif()), *TAIL, timesteps=4)
    model = integer_model(graph, lif__threshold=[1])
    frames = np.array([127, 128, 128, 129], np.uint8).reshape(1, 4, 1, 1, 1)
    assert reference.run(model, frames).outputs.item() == 0
    frames = np.array([128, 128, 128, 129], np.uint8).reshape(1, 4, 1, 1, 1)
    assert reference.run(model, frames).outputs.item() == 1


def test_membrane_saturates_at_its_bits() -> None:
    # 8 bits: u = -128 is the least, so from four times -128 a leak of 1/2 leaves -64, and 127 then gives 63
    graph = chain(("image", Input((1, 1, 1), static=False)), ("lif", Lif(membrane_bits=8)), *TAIL, timesteps=5)
    frames = np.array([0, 0, 0, 0, 255], np.uint8).reshape(1, 5, 1, 1, 1)
    assert reference.run(integer_model(graph, lif__threshold=[63]), frames).outputs.item() == 1
    assert reference.run(integer_model(graph, lif__threshold=[64]), frames).outputs.item() == 0


def test_a_folded_norm_flips_and_biases_the_clamped_current() -> None:
    graph = chain(
        ("image", Input((1, 1, 1))),
        ("conv", Conv2d(3, (1, 1), padding=(0, 0))),
        ("lif", Lif(decay=0.0, folded_norm=True, membrane_bits=32)),
        *TAIL,
        timesteps=1,
    )
    arrays = {"conv__weight": np.array([127, 127, 5]).reshape(3, 1, 1, 1), "conv__shift": 0}
    # 127 * 127 = 16129 flipped is -16129, + 16130 = 1; again with bias 16129; 5 * 127 + 3 = 638
    arrays |= {"lif__sign": [-1, -1, 1], "lif__bias": [16130, 16129, 3], "lif__threshold": [1, 1, 638]}
    trace = reference.run(integer_model(graph, **arrays), image(255))
    assert trace.values["lif"].ravel().tolist() == [1, 0, 1]


def test_currents_are_clamped_where_stored_and_exact_before_a_sum() -> None:
    builder = GraphBuilder()
    flat = builder.add(Flatten(), builder.add(Input((1, 1, 4))))
    big = builder.add(Linear(1, bias=False), flat, name="big")
    back = builder.add(Linear(1, bias=False), flat, name="back")
    builder.add(Output(), builder.add(Mean(), builder.add(Add(), big, back, name="sum"), name="mean"))
    graph = builder.build(1)
    pixels = image(255, 255, 255, 255)  # 4 * 127 * 127 = 64516 leaves 16 bits, the sum with -4 * 127 * 100 does not
    arrays = {"big__weight": [[127] * 4], "big__shift": 0, "back__weight": [[-100] * 4], "back__shift": 0}
    trace = reference.run(integer_model(graph, **arrays), pixels)
    assert trace.values["big"].item() == 64516
    assert trace.outputs.item() == 64516 - 50800
    # read by two, it is stored, and so clamped
    builder = GraphBuilder()
    flat = builder.add(Flatten(), builder.add(Input((1, 1, 4))))
    big = builder.add(Linear(1, bias=False), flat, name="big")
    back = builder.add(Linear(1, bias=False), flat, name="back")
    twice = builder.add(Add(), big, big, back, name="sum")
    builder.add(Output(), builder.add(Mean(), twice))
    assert reference.run(integer_model(builder.build(1), **arrays), pixels).values["big"].item() == 32767


def test_images_of_another_shape_are_refused() -> None:
    model = Model(one_neuron(), {})
    with pytest.raises(ModelError, match="the network takes uint8"):
        reference.run(model, np.zeros((1, 1, 2, 2), np.uint8))
    with pytest.raises(ModelError, match="float64"):
        reference.run(model, np.zeros((1, 1, 1, 1)))  # type: ignore[arg-type]


def test_models_refuse_arrays_that_do_not_belong() -> None:
    graph = linear([[1]], None, 0, 1).graph
    good = {"fc.weight": np.zeros((1, 1), np.float32)}
    Model(graph, good)
    for weights, words in (
        ({}, "lack 'fc.weight'"),
        ({**good, "x.y": np.zeros(1, np.float32)}, "hold 'x.y'"),
        ({"fc.weight": np.zeros((2, 1), np.float32)}, r"has shape \(2, 1\)"),
        ({"fc.weight": np.full((1, 1), np.nan, np.float32)}, "not finite"),
    ):
        with pytest.raises(ModelError, match=words):
            Model(graph, weights)
    with pytest.raises(ModelError, match=r"spans 128\.\.128"):
        linear([[128]], None, 0, 1)
    with pytest.raises(ModelError, match=r"'fc\.shift' spans 17"):
        linear([[1]], None, 17, 1)
    with pytest.raises(ModelError, match=r"'lif\.threshold' spans 0"):
        integer_model(one_neuron(), lif__threshold=[0])
    with pytest.raises(ModelError, match="neither -1 nor 1"):
        integer_model(one_neuron(folded_norm=True), lif__threshold=[1], lif__sign=[0], lif__bias=[0])
    normed = chain(("image", Input((1, 1, 1))), ("bn", BatchNorm2d()), ("lif", Lif()), *TAIL, timesteps=1)
    with pytest.raises(ModelError, match="is a BatchNorm2d"):
        IntegerModel(normed, {}, 1.0)
