"""Choosing bits and widths, training with rounded weights, and what quantize leaves behind."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes_report import report_data
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, random_images, random_integer_model, random_model
from test_quantize import SEEDS, at_bits

from spikenas import reference
from spikenas.cost.cost import COMPACT_BELOW, estimate
from spikenas.cost.memory import Kernels
from spikenas.cost.target import load_target
from spikenas.data.split import Split
from spikenas.deploy import host_library
from spikenas.errors import InputError, NothingFits, QuantizeError
from spikenas.graph import Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output
from spikenas.model import Model, decay_q, is_coarse_alone
from spikenas.run.quantization import QuantizeSettings
from spikenas.run.report import render_report
from spikenas.snn.bit_choice import choose_bits, least_flash
from spikenas.snn.bounds import reaches
from spikenas.snn.calibration import Calibration
from spikenas.snn.flips import flipped_spikes
from spikenas.snn.folding import fold
from spikenas.snn.left_shifts import best_lefts
from spikenas.snn.network import from_model, load_weights, normalize
from spikenas.snn.precision import bits_of_list, bytes_by_bits, model_with_bits, neuron_layers, with_bits
from spikenas.snn.qat import RoundedNetwork, Rounding, fine_tune, qat_config
from spikenas.snn.quantize import quantize
from spikenas.snn.ranges import membrane_ranges, never_saturates, weight_ranges
from spikenas.snn.scales import largest_weight, nearest_steps

TARGET = load_target("cortex-m4")


def four_layers() -> Graph:
    """A stem over pixels, two convolutions over spikes and a linear readout."""
    g = GraphBuilder()
    value = g.add(Input((1, 6, 6)), name="image")
    for name in ("stem", "one", "two"):
        value = g.add(Lif(), g.add(Conv2d(16), value, name=name), name=f"{name}_lif")
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), value), name="readout")))
    return g.build(2)


# --- shifts and steps -----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_shifts_are_nearly_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, channels = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    wanted = [np.exp(rng.normal(0, 2)) * np.exp(rng.normal(0, 0.3, channels)) for _ in range(layers)]
    most, noises = rng.integers(0, 5, layers).tolist(), rng.uniform(1, 10, layers).tolist()

    def error(lefts: tuple[int, ...]) -> float:
        scale = np.max([array / 2.0**left for array, left in zip(wanted, lefts, strict=True)], axis=0)
        return float(sum(noise * (scale * 2.0**left).sum() for noise, left in zip(noises, lefts, strict=True)))

    best = min(error(lefts) for lefts in itertools.product(*(range(limit + 1) for limit in most)))
    found = best_lefts(wanted, most, noises)
    assert all(0 <= left <= limit for left, limit in zip(found, most, strict=True))
    assert error(tuple(found)) <= error((0,) * layers)
    assert error(tuple(found)) <= 1.5 * best


@pytest.mark.parametrize(
    ("channels", "bits", "left"),
    [(16, 4, 3), (16, 3, 3), (17, 4, 0), (16, 5, 0)],
)
def test_few_weights_of_few_bits_are_shifted_for_their_neurons(channels: int, bits: int, left: int) -> None:
    g = GraphBuilder()
    spikes = g.add(Lif(), g.add(Conv2d(channels), g.add(Input((1, 6, 6))), name="stem"))
    spikes = g.add(Lif(), g.add(Conv2d(16, weight_bits=bits), spikes, name="one"))
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), spikes))))
    integer = quantize(random_model(g.build(2), seed=0))
    assert integer.shifts("one") == (left, 0)
    assert is_coarse_alone(integer.graph, "one") == (left > 0)
    assert estimate(integer.graph, TARGET) == estimate(integer.graph, TARGET, shifted=integer.shifted_left)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 5))
def test_few_bits_are_stepped_better_than_by_the_largest(seed: int, bits: int) -> None:
    rng, limit = np.random.default_rng(seed), largest_weight(bits)
    weights = np.abs(rng.normal(0, 1, (3, 40)))

    def error(step: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rounded = np.minimum(np.rint(weights / step[:, None]), limit) * step[:, None]
        return np.asarray(((rounded - weights) ** 2).sum(axis=1))

    assert (error(nearest_steps(weights, bits)) <= error(weights.max(axis=1) / limit) + 1e-9).all()


# --- lists and budgets ----------------------------------------------------------------------------------------


def test_one_number_spares_what_is_stored_in_bytes_and_lists_name_every_layer() -> None:
    graph = four_layers()
    assert bits_of_list(graph, (4,), TARGET) == {"stem": 8, "one": 4, "two": 4, "readout": 4}
    assert bits_of_list(graph, (8, 4, 2, 3), TARGET) == {"stem": 8, "one": 4, "two": 2, "readout": 3}
    with pytest.raises(QuantizeError, match="--bits 9: integers take 2 to 8"):
        bits_of_list(graph, (8, 9, 8, 8), TARGET)
    with pytest.raises(QuantizeError, match=r"with 2 numbers: this network has 4 layers .*\(stem, one, two, readout\)"):
        bits_of_list(graph, (8, 4), TARGET)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
@example(1)  # compact kernels, whose bytes for the same bits differ from the fast ones'
def test_mixed_bits_are_the_best_of_all_that_fit(seed: int) -> None:
    graph, rng = four_layers(), np.random.default_rng(seed)
    names = list(bytes_by_bits(graph, TARGET))
    noise = {name: dict(zip((4, 2), np.sort(rng.exponential(1, 2)).tolist(), strict=True)) for name in names}
    every = {}
    for chosen in itertools.product((2, 4, 8), repeat=4):
        bits = dict(zip(names, chosen, strict=True))
        every[chosen] = (
            estimate(with_bits(graph, bits), TARGET).flash_bytes,
            sum(noise[name].get(b, 0.0) for name, b in bits.items() if name != "stem"),
        )
    least, most = min(flash for flash, _ in every.values()), max(flash for flash, _ in every.values())
    budget = int(rng.integers(least, most + 1))
    fits = {}
    for chosen, (flash, loud) in every.items():
        bits = dict(zip(names, chosen, strict=True))
        compact = estimate(with_bits(graph, bits), TARGET, kernels=Kernels.COMPACT).flash_bytes
        if bits["stem"] == 8 and min(flash, compact) <= budget:
            fits[chosen] = loud
    del noise["stem"]  # stored in bytes by the fast kernels: never measured, so never changed
    assert fits[tuple(choose_bits(graph, noise, TARGET, budget).values())] == pytest.approx(min(fits.values()))
    assert least <= least_flash(graph, TARGET) <= least + 200  # the fewest kinds of code
    with pytest.raises(NothingFits, match=r"flash budget 1\.0 KB: this network needs .* bytes at 2 bits"):
        choose_bits(graph, noise, TARGET, 1024)


def test_bits_stay_where_compact_kernels_make_room_for_them() -> None:
    graph = four_layers()
    eight = with_bits(graph, dict.fromkeys(bytes_by_bits(graph, TARGET), 8))
    fast, compact = (estimate(eight, TARGET, kernels=kernels).flash_bytes for kernels in Kernels)
    budget = (fast + compact) // 2
    assert compact < budget < fast < COMPACT_BELOW
    noise = {name: {4: 1.0, 2: 2.0} for name in ("one", "two", "readout")}
    assert set(choose_bits(graph, noise, TARGET, budget).values()) == {8}
    assert set(choose_bits(graph, noise, TARGET, compact - 1).values()) != {8}


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(InputError, match="give one of the two"):
        QuantizeSettings(bits=(8,), flash_bytes=1000)
    with pytest.raises(InputError, match="--membrane-bits 9: choose 8, 12, 16, 32 or auto"):
        QuantizeSettings(membrane_bits=9)


# --- ranges ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_membranes_are_counted_as_the_reference_computes_them(seed: int) -> None:
    integer = random_integer_model(random_graph(seed, feedback=False), seed)
    images = random_images(integer.graph, 3, seed)
    trace = reference.run(integer, images)
    found = {one.name: one for one in membrane_ranges(integer, images)}
    limits = reaches(integer)
    for name, lif in neuron_layers(integer.graph).items():
        x = np.clip(trace.values[integer.graph.sources[name][0].source], -(2**15), 2**15 - 1).astype(np.int64)
        shape = (1, -1, *[1] * (x.ndim - 3))
        if lif.folded_norm:
            x = x * integer.weights[f"{name}.sign"].reshape(shape) + integer.weights[f"{name}.bias"].reshape(shape)
        threshold, limit = integer.weights[f"{name}.threshold"].reshape(shape), 2 ** (lif.membrane_bits - 1)
        v, beyond, lows, highs = np.zeros_like(x[0]), 0, [0], [0]
        for t in range(integer.graph.timesteps):
            u = ((decay_q(lif) * v) >> 8) + x[min(t, len(x) - 1)]
            beyond += int(((u < -limit) | (u >= limit)).sum())
            lows.append(int(u.min()))
            highs.append(int(u.max()))
            u = np.clip(u, -limit, limit - 1)
            v = np.where(u >= threshold, 0 if lif.reset.value == "zero" else u - threshold, u)
        one = found[name]
        assert (one.low, one.high) == (min(lows), max(highs))
        assert one.saturated == pytest.approx(beyond / (v.size * integer.graph.timesteps))
        assert sum(one.histogram) == pytest.approx(1, abs=1e-3)
        if never_saturates(integer, name, lif, limits):
            assert beyond == 0
        assert one.proven == never_saturates(integer, name, lif, limits)


def test_histograms_of_weights_hold_every_integer() -> None:
    integer = quantize(random_model(at_bits(four_layers(), 4), 0))
    for one in weight_ranges(integer):
        weight = integer.weights[f"{one.name}.weight"]
        assert one.histogram == tuple(np.round([np.mean(weight == k) for k in range(-7, 8)], 5))
        assert one.clipped == np.mean(np.abs(weight) == 7)


# --- training with rounded weights ----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_rounded_weights_are_those_of_the_integer_network(seed: int) -> None:
    graph = random_graph(seed)
    float_model = random_model(graph, seed)
    rounding = Rounding.of(float_model, Calibration())
    rounded = rounding.rounded(float_model)
    once, again = quantize(float_model), quantize(rounded, grid=rounding.grid)
    for name, array in once.weights.items():
        assert np.abs(array - again.weights[name]).max() <= (0 if name.endswith("weight") else 1), name
    network = RoundedNetwork(graph, rounding=rounding, seed=0)
    load_weights(network, float_model)
    images = normalize(torch.from_numpy(random_images(graph, 3, seed)))
    with torch.no_grad():
        assert torch.equal(network.eval()(images), from_model(rounded).eval()(images))


def test_fine_tuning_leaves_what_quantization_finds_on_its_grid() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 1, 6, 6), dtype=np.uint8)
    labels = (images[:, 0, :3].mean((1, 2)) > images[:, 0, 3:].mean((1, 2))).astype(np.int64)
    images[:, 0, :3] = np.clip(images[:, 0, :3] // 2 + 100 * labels[:, None, None], 0, 255).astype(np.uint8)
    train, val = Split(images[:90], labels[:90]), Split(images[90:], labels[90:])
    start = model_with_bits(random_model(four_layers(), 1), {"stem": 8, "one": 2, "two": 2, "readout": 4})
    config = replace(qat_config(6, seed=0), augment="none")
    tuned = fine_tune(start, train, val, config, calibration=train.images)
    integer = quantize(tuned.model, train.images, grid=tuned.grid)
    predictions = reference.run(integer, val.images).outputs.argmax(1)
    curve = tuned.training.curve
    assert np.mean(predictions == val.labels) == pytest.approx(tuned.training.best.val_accuracy, abs=0.1)
    assert curve[-1].train_loss < curve[0].train_loss
    steps = tuned.model.weights["one.weight"].reshape(16, -1)
    assert all(len(np.unique(np.abs(row))) <= 2 for row in steps)  # 0 and one step a channel
    flips = flipped_spikes(tuned.model, integer, val.images)
    assert max(flips.values()) < 0.02


@pytest.mark.parametrize("seed", range(12))
def test_norms_that_move_leave_what_meets_on_one_grid(seed: int) -> None:
    """The rounded weights of layers that share a scale stay whole numbers of it, whatever becomes of their norms."""
    graph = at_bits(random_graph(seed), 4)
    start, rng = random_model(graph, seed), np.random.default_rng(seed)
    rounding = Rounding.of(start, Calibration())
    moved = {
        name: array * rng.uniform(0.3, 3.0, array.shape).astype(np.float32)
        if name.endswith("running_var") or (name.endswith("weight") and array.ndim == 1)
        else array
        for name, array in start.weights.items()
    }
    rounded = rounding.rounded(Model(graph, moved))
    integer, exact = quantize(rounded, grid=rounding.grid), fold(rounded)
    for name, layer in exact.layers.items():
        step = rounding.steps[name].numpy()
        np.testing.assert_allclose(layer.weight / step, integer.weights[f"{name}.weight"], atol=1e-3, err_msg=name)


def test_gradients_go_straight_through_where_nothing_is_cut_off() -> None:
    graph = at_bits(four_layers(), 2)
    float_model = random_model(graph, 0)
    rounding = Rounding.of(float_model, Calibration())
    network = from_model(float_model)
    weight: torch.nn.Parameter = network.operator("one").weight
    rounded = rounding.weight(network, "one")
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    steps = rounding.steps["one"].float()
    beyond = (weight.abs() > steps).detach()  # at 2 bits the largest integer is 1
    assert weight.grad is not None
    assert 0 < beyond.float().mean() < 1
    assert torch.equal(weight.grad == 0, beyond)
    assert set((rounded.detach() / steps).round().flatten().tolist()) == {-1, 0, 1}


# --- the fast path --------------------------------------------------------------------------------------------


def test_a_thousand_images_in_two_threads_equal_the_reference() -> None:
    bits = {"stem": 8, "one": 4, "two": 2, "readout": 8}
    integer = quantize(model_with_bits(random_model(four_layers(), 3), bits))
    images = np.random.default_rng(0).integers(0, 256, (1000, 1, 6, 6), dtype=np.uint8)
    assert np.array_equal(host_library.predict(integer, images, threads=2), reference.run(integer, images).outputs)


# --- the report -----------------------------------------------------------------------------------------------


def quantized_row(label: str, qat: int, sensitive: bool) -> dict[str, Any]:
    sensitivity = [{"layer": "conv2", "bits": b, "noise": 0.25 / b, "accuracy_lost": 0.01} for b in (2, 4)]
    return {
        "label": label,
        "bits": {"conv1": 8, "conv2": 4},
        "membranes": {"lif1": 16, "lif2": 16},
        "qat_epochs": qat,
        "flash_bytes": 12_345,
        "ram_bytes": 6_789,
        "integer_accuracy": 0.9512,
        "points_lost": 1.25,
        "flips": {"lif1": 0.002, "lif2": 0.004},
        "sensitivity": sensitivity if sensitive else [],
        "weights": [{"name": "conv2", "bits": 4, "shift": -4, "clipped": 0.031, "histogram": [0.1, 0.8, 0.1]}],
        "membrane_ranges": [
            {"name": "lif<1>", "bits": 16, "needs": 12, "proven": True, "low": -900, "high": 1800,
             "threshold": 512, "saturated": 0.0, "histogram": [0.2, 0.5, 0.3]}
        ],
    }  # fmt: skip


def test_the_report_shows_settings_sensitivity_and_ranges() -> None:
    rows = [quantized_row("b4", 0, False), quantized_row("flash13000-qat5", 5, True)]
    page = render_report(report_data(quantized=rows))
    assert 'id="bits"' in page
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))  # a chart is drawn into the first element of its name
    for words in ("flash13000-qat5", "8, 4", "12,345", "95.12%", "1.25", "0.30%", "shifted by 4 to the left"):
        assert words in page
    assert "no image can saturate them" in page
    assert "lif&lt;1&gt;" in page
    assert "lif<1>" not in page.replace("\\u003c", "")
    assert 'id="bits"' not in render_report(report_data())
