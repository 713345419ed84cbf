"""Networks that look at an image and its mirror image: everything that runs them against two runs of a plain one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from networks_deploy import random_images, random_weights
from random_graphs import random_model
from test_cost import measured_network, skip_network

import spikenas
from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels, Schedule
from spikenas.cost.target import load_target
from spikenas.data.split import Split
from spikenas.deploy.host_library import host_library
from spikenas.errors import GraphError, InputError
from spikenas.graph import Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output
from spikenas.graph.text import from_json, to_json
from spikenas.model import IntegerModel, Model
from spikenas.reference import run
from spikenas.run.artifacts import load_integer_model
from spikenas.run.folder import RunFolder
from spikenas.run.quantization import QuantizeSettings, as_asked
from spikenas.snn.evaluate import evaluate
from spikenas.snn.integer_network import IntegerNetwork, predict
from spikenas.snn.network import from_model, normalize
from spikenas.snn.operations_count import count_operations
from spikenas.snn.quantize import quantize


def mirrored(graph: Graph) -> Graph:
    first = replace(graph.nodes[0], layer=replace(graph.nodes[0].layer, mirrored=True))  # type: ignore[call-arg]
    return replace(graph, nodes=(first, *graph.nodes[1:]))


def flipped(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(images[..., ::-1])


def integer_pair(*, feedback: bool = False) -> tuple[IntegerModel, IntegerModel, npt.NDArray[np.uint8]]:
    """The same weights in a plain network and one that mirrors, and images."""
    plain = random_weights(skip_network(feedback), 3)
    images = random_images(plain.graph, 5, 3)
    assert not np.array_equal(run(plain, images).outputs, run(plain, flipped(images)).outputs)
    return plain, IntegerModel(mirrored(plain.graph), plain.weights, plain.output_scale), images


@pytest.mark.parametrize("feedback", [False, True])
def test_integer_outputs_are_the_sum_of_two_runs(feedback: bool) -> None:
    plain, both, images = integer_pair(feedback=feedback)
    expected = run(plain, images).outputs + run(plain, flipped(images)).outputs
    assert np.array_equal(run(both, images).outputs, expected)
    assert np.array_equal(predict(both, images), expected)


@pytest.mark.parametrize("kernels", Kernels)
@pytest.mark.parametrize("schedule", Schedule)
def test_the_chip_s_code_adds_the_logits_of_both(schedule: Schedule, kernels: Kernels) -> None:
    plain, both, images = integer_pair()
    with host_library(both, schedule=schedule, kernels=kernels) as library:
        found = library.predict(images)
    assert np.array_equal(found, run(plain, images).outputs + run(plain, flipped(images)).outputs)


def test_float_outputs_are_the_mean_of_two_runs() -> None:
    graph = measured_network()
    plain, both = random_model(graph, 0), random_model(mirrored(graph), 0)
    images = random_images(graph, 3, 0)
    expected = (run(plain, images).outputs + run(plain, flipped(images)).outputs) / 2
    assert run(both, images).outputs == pytest.approx(expected)
    network = from_model(both).eval()
    with torch.no_grad():
        logits, counts = network.forward_with_counts(normalize(torch.from_numpy(images)))
        one, other = (
            from_model(plain).eval().forward_with_counts(normalize(torch.from_numpy(x)))
            for x in (images, flipped(images))
        )
    assert logits.numpy() == pytest.approx(((one[0] + other[0]) / 2).numpy(), abs=1e-5)
    assert counts == {name: one[1][name] + other[1][name] for name in counts}


def test_rates_are_of_neurons_and_steps_and_operations_of_both_views() -> None:
    graph = measured_network()
    plain, both = from_model(random_model(graph, 0)), from_model(random_model(mirrored(graph), 0))
    images = random_images(graph, 4, 0)
    labels = np.arange(4)
    splits = Split(images, labels), Split(flipped(images), labels)
    rates = [evaluate(plain, split).spike_rates for split in splits]
    found = evaluate(both, splits[0]).spike_rates
    assert found == pytest.approx({name: (rates[0][name] + rates[1][name]) / 2 for name in found})
    with torch.no_grad():
        _, differentiable = both.eval().forward_with_rates(normalize(torch.from_numpy(images)))
    assert {name: float(rate) for name, rate in differentiable.items()} == pytest.approx(found)
    counts = [count_operations(plain, split) for split in splits]
    doubled = count_operations(both, splits[0])
    for kind in ("spikes", "synops"):
        one, other, all_of_it = (getattr(x, kind) for x in (*counts, doubled))
        assert all_of_it == {name: one[name] + other[name] for name in all_of_it}


def test_time_and_operations_double_and_memory_grows_by_the_logits_kept() -> None:
    graph, target = measured_network(), load_target("stm32f746")
    plain, both = estimate(graph, target), estimate(mirrored(graph), target)
    assert both.instructions == pytest.approx(2 * plain.instructions)
    assert both.latency_ms == pytest.approx(2 * plain.latency_ms)
    assert (both.macs, both.synops) == pytest.approx((2 * plain.macs, 2 * plain.synops))
    assert both.ram_bytes == plain.ram_bytes + 4 * 10
    assert plain.flash_bytes < both.flash_bytes < plain.flash_bytes + 300


def test_a_quantized_network_has_the_float_one_s_logits() -> None:
    graph = mirrored(measured_network())
    model = random_model(graph, 1)
    images = random_images(graph, 40, 1)
    integer = quantize(model, images)
    logits = run(integer, images).outputs * integer.output_scale
    exact = run(model, images).outputs
    assert np.corrcoef(logits.ravel(), exact.ravel())[0, 1] > 0.95
    assert logits.std() == pytest.approx(exact.std(), rel=0.1)  # of the mean, not of the sum


def test_onnx_gives_both(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from spikenas.deploy.onnx_format import write_onnx

    graph = mirrored(measured_network())
    images = random_images(graph, 3, 0)
    models: list[Model | IntegerModel] = [random_model(graph, 0), random_weights(graph, 0, scale=0.3, threshold=250)]
    for model in models:
        write_onnx(model, tmp_path / "both.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "both.onnx", providers=["CPUExecutionProvider"])
        found, expected = session.run(None, {"image": images}), run(model, images).outputs
        assert found[-1] == pytest.approx(expected, abs=0 if isinstance(model, IntegerModel) else 1e-5)


def test_a_readout_of_the_image_alone_is_averaged_too(tmp_path: Path) -> None:
    """No neuron, so that every step is the same: by hand, (1 * 72 + 2 * 8 + 2 * 72 + 1 * 8) / 2 = 120 of 128."""
    add = (builder := GraphBuilder()).add
    pixels = add(Flatten(), add(Input((1, 1, 2), mirrored=True)))
    add(Output(), add(Mean(), add(Linear(1, bias=False), pixels)))
    model = Model(builder.build(3), {"linear_2.weight": np.array([[1.0, 2.0]], np.float32)})
    image = np.array([[[[200, 136]]]], np.uint8)
    assert run(model, image).outputs.tolist() == [[120 / 128]]
    assert from_model(model)(normalize(torch.from_numpy(image))).tolist() == [[120 / 128]]
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from spikenas.deploy.onnx_format import write_onnx

    write_onnx(model, tmp_path / "alone.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "alone.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": image})[0].tolist() == [[120 / 128]]


@pytest.mark.arm
@pytest.mark.parametrize("board", ["stm32f405", "rp2040", "rv32"])
def test_the_chip_proves_it_value_by_value(board: str) -> None:
    from spikenas.deploy.verify import verify

    target, (plain, both, images) = load_target(board), integer_pair()
    once, twice = (verify(model, target, images, count=2, compilers=("zig",)) for model in (plain, both))
    assert twice.passed
    assert twice.values_compared == 2 * once.values_compared
    assert twice.instructions == pytest.approx(2 * once.instructions, rel=0.02)
    assert twice.ram_bytes == once.ram_bytes + 4 * 10
    added = estimate(both.graph, target).flash_bytes - estimate(plain.graph, target).flash_bytes
    assert added - 100 < twice.flash_bytes - once.flash_bytes <= added  # images of one channel need no loop over them
    assert twice.stack_used_bytes <= twice.stack_bytes


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_images_of_every_width_and_number_of_channels(width: int) -> None:
    add = (builder := GraphBuilder()).add
    spikes = add(Lif(), add(Conv2d(5), add(Input((width % 3 + 1, 4, width), mirrored=True))))
    add(Output(), add(Mean(), add(Linear(3), add(Flatten(), spikes))))
    model = random_weights(builder.build(2), width)
    images = random_images(model.graph, 4, width)
    with host_library(model) as library:
        assert np.array_equal(library.predict(images), run(model, images).outputs)


@pytest.mark.slow
def test_a_run_is_quantized_and_tuned_with_mirror_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 256, (120, 3, 8, 8), dtype=np.uint8)
    images[labels == 1, :, :, 2:6] //= 4
    np.savez(tmp_path / "colours.npz", train_images=images, train_labels=labels)
    data = spikenas.load(str(tmp_path / "colours.npz"))
    finished = spikenas.train("t2-b8-k3s1-8:00s.00.0-pool", data, epochs=3, out=tmp_path / "run")
    found = spikenas.quantize(finished, 4, mirror=True, qat_epochs=1)
    assert (found.label, found.mirrored, found.timesteps) == ("b4-mirror-qat1", True, 2)
    integer = load_integer_model(found.model)
    test = data.test
    right = run(integer, test.images).outputs.argmax(1) == test.labels
    assert found.integer_accuracy == pytest.approx(float(right.mean()))
    assert integer.graph.views == 2
    assert found.latency_ms == pytest.approx(2 * spikenas.quantize(finished, 4).latency_ms, rel=0.3)


def test_nir_cannot_say_so(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    from spikenas.deploy.nir_write import write_nir

    assert any(
        "mirror" in note for note in write_nir(random_model(mirrored(measured_network()), 0), tmp_path / "a.nir")
    )
    assert not any("mirror" in note for note in write_nir(random_model(measured_network(), 0), tmp_path / "b.nir"))


def test_graphs_say_so() -> None:
    graph = mirrored(measured_network())
    assert from_json(to_json(graph)) == graph
    assert "of the image and of its mirror image" in repr(graph)
    with pytest.raises(GraphError, match="frames are not mirrored"):
        replace(graph, nodes=(replace(graph.nodes[0], layer=Input((3, 32, 32), static=False, mirrored=True)),))


def test_only_a_network_that_was_shown_mirror_images_looks_at_them(tmp_path: Path) -> None:
    colour, small = measured_network(), skip_network()
    asked = QuantizeSettings(mirror=True)
    assert as_asked(RunFolder(tmp_path, {"training": None}), colour, asked).views == 2
    with pytest.raises(InputError, match="showed no mirror images"):
        as_asked(RunFolder(tmp_path, {"training": {"augment": "shift4"}}), colour, asked)
    streamed = (replace(small.nodes[0], layer=Input((1, 8, 8), static=False)), *small.nodes[1:])
    frames = replace(small, nodes=streamed)
    with pytest.raises(InputError, match="a sample is frames"):
        as_asked(RunFolder(tmp_path, {}), frames, asked)
    assert as_asked(RunFolder(tmp_path, {}), colour, QuantizeSettings()) == colour
    both = Model(as_asked(RunFolder(tmp_path, {}), colour, asked), random_model(colour, 0).weights)
    assert IntegerNetwork(quantize(both)).graph.views == 2
