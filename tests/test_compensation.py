"""Rounding weights together: against brute force, against sums of products done by hand, and what it is good for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import random_graph, random_images, random_model
from test_bits import four_layers
from test_quantize import SEEDS, at_bits

from spikenas import reference
from spikenas.graph import Conv2d, Linear
from spikenas.model import Model
from spikenas.snn import calibration
from spikenas.snn.calibration import Calibration, calibrate
from spikenas.snn.compensation import DAMPING, compensated
from spikenas.snn.flips import flipped_spikes
from spikenas.snn.precision import weighted_layers
from spikenas.snn.qat import Rounding
from spikenas.snn.quantize import quantize

Array = np.ndarray[Any, Any]


def error(wrong: Array, products: Array) -> Array:
    """Mean square of the sums that weights [out, n] which are off by ``wrong`` are off."""
    return np.einsum("oi,ij,oj->o", wrong, products, wrong)


def correlated(rng: np.random.Generator, inputs: int) -> Array:
    """Mean products of inputs that have one cause in common."""
    seen = rng.normal(0, 1, (400, inputs)) + 3 * rng.normal(0, 1, (400, 1))
    return np.asarray(seen.T @ seen / len(seen))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_errors_are_nearly_the_least_of_all_roundings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, products = rng.uniform(-3, 3, (50, 7)), correlated(rng, 7)
    rounded = np.rint(compensated(weight, products, 7, 7))
    both = np.stack([np.floor(weight), np.ceil(weight)])
    every = [both[list(choice), :, range(7)].T for choice in itertools.product((0, 1), repeat=7)]
    best = np.min([error(one - weight, products) for one in every], axis=0)
    found, nearest = error(rounded - weight, products), error(np.rint(weight) - weight, products)
    assert best.mean() <= found.mean() * (1 + 1e-9)
    assert found.mean() < 0.4 * nearest.mean()
    assert found.mean() < 2 * best.mean()


def test_what_one_weight_is_off_the_next_makes_up_for() -> None:
    products, given = np.array([[4.0, 1.0], [1.0, 2.0]]), np.array([[2.3, 0.1]])
    # the first becomes 2; the .3 that are left show in the second input as .3 * 1 / (2 * 1.01)
    expected = pytest.approx(np.array([[2.3, 0.1 + 0.3 / (2 * (1 + DAMPING))]]))
    assert compensated(given.copy(), products, 7, 2) == expected
    assert compensated(given.copy(), products, 7, 1) == expected  # a bias makes up for it as well
    # the second input says more and comes first; its weight ends at 1
    late = compensated(np.array([[0.1, 2.3]]), products[::-1, ::-1], 1, 2)
    assert late == pytest.approx(np.array([[0.1 + 1.3 / (2 * (1 + DAMPING)), 2.3]]))


def test_inputs_that_have_nothing_in_common_leave_weights_alone() -> None:
    weight = np.random.default_rng(0).uniform(-3, 3, (4, 9))
    assert np.array_equal(compensated(weight.copy(), np.diag(np.arange(9.0)), 3, 9), weight)  # one is never seen


def plain_products(model: Model, images: Array, name: str, layer: Conv2d | Linear) -> Array:
    """As :func:`calibrate` has them, from the reference's trace, window by window."""
    graph, trace = model.graph, reference.run(model, images)
    values = trace.values[graph.sources[name][0].source].astype(np.float64)
    values = values.reshape(-1, *values.shape[2:])
    if isinstance(layer, Linear):
        windows = values[:, None, None]
    else:
        (pad_h, pad_w), (kernel_h, kernel_w) = layer.padding, layer.kernel_size
        padded = np.pad(values, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        height, width = graph.shapes[name][1:]
        windows = np.stack(
            [
                padded[:, :, y : y + kernel_h, x : x + kernel_w]
                for y in range(0, height * layer.stride[0], layer.stride[0])
                for x in range(0, width * layer.stride[1], layer.stride[1])
            ],
            axis=1,
        )
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    rows = windows.reshape(-1, groups, windows[0, 0].size // groups)
    rows = np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=2)
    return np.asarray(np.einsum("ngi,ngj->gij", rows, rows) / len(rows))


@pytest.mark.parametrize("seed", range(8))
def test_products_are_those_of_the_reference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "POSITIONS", 10_000)
    monkeypatch.setattr(calibration, "BATCH_SIZE", 3)
    graph = random_graph(seed)
    model, images = random_model(graph, seed), random_images(graph, 6, seed)
    found = calibrate(model, images).products
    assert set(found) == set(weighted_layers(graph))
    for name, layer in weighted_layers(graph).items():
        expected = plain_products(model, images, name, layer)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)


def learned_network() -> tuple[Model, Array]:
    """Neurons whose inputs have much in common, and images on which they have."""
    rng = np.random.default_rng(0)
    shades = rng.uniform(0, 255, (80, 1, 1, 1)) + rng.normal(0, 30, (80, 1, 6, 6))
    return random_model(four_layers(), 2), np.clip(shades, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_calibrated_networks_change_fewer_spikes_of_other_images(bits: int) -> None:
    model, images = learned_network()
    model = Model(at_bits(model.graph, bits), model.weights)
    nearest, together = quantize(model), quantize(model, images[:40])
    before, after = flipped_spikes(model, nearest, images[40:]), flipped_spikes(model, together, images[40:])
    assert np.mean(list(after.values())) < 0.9 * np.mean(list(before.values()))


def test_training_on_starts_from_the_weights_that_were_rounded_together() -> None:
    apart = []
    for seed in range(6):
        graph = at_bits(random_graph(seed), 4)
        model, images = random_model(graph, seed), random_images(graph, 20, seed)
        seen = calibrate(model, images)
        rounding = Rounding.of(model, seen)
        start = rounding.untrained(model)
        expected, found = quantize(model, seen), quantize(start, Calibration(seen.largest), grid=rounding.grid)
        keys = [f"{name}.weight" for name in weighted_layers(graph)]
        apart += [np.abs(expected.weights[key] - found.weights[key]).ravel() for key in keys]
        for key in keys:
            bias = key.replace("weight", "bias")
            assert bias not in expected.weights or np.abs(expected.weights[bias] - found.weights[bias]).max() <= 1
    assert np.concatenate(apart).max() <= 1
    assert np.concatenate(apart).mean() < 0.001  # halves, which float32 rounds otherwise


def test_a_layer_of_too_many_inputs_is_rounded_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = learned_network()
    monkeypatch.setattr(calibration, "INPUTS_MOST", 100)
    seen = calibrate(model, images)
    assert set(seen.products) == {"stem"}
    monkeypatch.undo()
    assert set(calibrate(model, images).products) == {"stem", "one", "two", "readout"}
    nearest, together = quantize(model), quantize(model, seen)
    assert np.array_equal(nearest.weights["one.weight"], together.weights["one.weight"])
    assert not np.array_equal(nearest.weights["stem.weight"], together.weights["stem.weight"])
