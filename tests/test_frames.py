"""Samples that are frames: from the space to the chip, in training, and from files to a finished run."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from networks_deploy import random_images, random_weights

from spikenas.cli.main import main
from spikenas.cost.target import TARGETS
from spikenas.data.datasets import load_dataset
from spikenas.data.encode import SILENCE, SPIKE, encoded
from spikenas.data.split import Split
from spikenas.deploy.host_library import host_library
from spikenas.errors import DatasetError, GenotypeError
from spikenas.graph import Graph
from spikenas.reference import run
from spikenas.run.artifacts import load_integer_model
from spikenas.snn.augment import Augment, augmented
from spikenas.snn.integer_network import predict
from spikenas.space.space import load_space

GENOTYPE = "t4-b4-k3s1-8:3s0.00.s-12:003.00.0-pool"


def moving_graph() -> Graph:
    space = load_space("embedded").for_frames(4)
    return space.lower(space.parse(GENOTYPE), (4, 2, 9, 7), 5)


def test_every_frame_passes_the_stem() -> None:
    graph = moving_graph()
    assert graph.timesteps == 4
    assert not graph.static
    model = random_weights(graph, 0, scale=0.3, threshold=250)
    images = random_images(graph, 6, 0)
    outputs = run(model, images).outputs
    still = np.repeat(images[:, :1], 4, axis=1)
    assert not np.array_equal(run(model, still).outputs, outputs)
    assert np.array_equal(predict(model, images), outputs)
    with host_library(model) as library:
        assert np.array_equal(library.predict(images), outputs)
        logits = np.zeros(5, np.int32)
        for t in range(4):  # the frames one by one, as a sensor brings them
            frame = np.ascontiguousarray(images[0, t])
            library._library.spikenas_frame(frame.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint(t))
        answer = library._library.spikenas_answer(logits.ctypes.data_as(ctypes.c_void_p))
        assert np.array_equal(logits, outputs[0])
        assert answer == outputs[0].argmax()


@pytest.mark.arm
def test_the_chip_gives_the_bits_of_the_reference() -> None:
    pytest.importorskip("ziglang", reason="the cross compiler of spikenas[mcu] is not installed")
    pytest.importorskip("unicorn", reason="the emulator of spikenas[mcu] is not installed")
    from spikenas.deploy.verify import verify

    model = random_weights(moving_graph(), 1, scale=0.3, threshold=250)
    images = random_images(model.graph, 3, 1)
    certificate = verify(model, TARGETS["cortex-m4"], images, count=2, compilers=("zig",))
    assert certificate.passed
    assert certificate.chip_identical == 2
    assert certificate.arena_bytes == certificate.planned_arena_bytes


def test_a_space_is_narrowed_to_the_frames() -> None:
    space = load_space("embedded").for_frames(12)
    rng = np.random.default_rng(0)
    assert {space.sample(rng).timesteps for _ in range(20)} == {12}
    with pytest.raises(GenotypeError, match=r"takes 4 timesteps, the samples have 6 frames: .* give --frames 4"):
        load_space("embedded").lower(load_space("embedded").parse(GENOTYPE), (6, 2, 9, 7), 5)
    with pytest.raises(GenotypeError, match=r"takes 4 timesteps, the samples have 12 frames: write t12-"):
        space.parse(GENOTYPE)
    snasnet = load_space("snasnet")
    assert snasnet.lower(snasnet.parse("0303 0033 0002 0000/p2"), (3, 2, 8, 8), 10).timesteps == 3


def test_all_frames_of_a_sample_move_alike() -> None:
    rng = np.random.default_rng(0)
    pixels = np.repeat(rng.integers(0, 256, (16, 1, 2, 6, 5), dtype=np.uint8), 3, axis=1)
    pixels[:, 1] ^= 255
    moved = augmented(torch.from_numpy(pixels), Augment(2, flip=True), torch.Generator().manual_seed(0)).numpy()
    assert moved.shape == pixels.shape
    assert np.array_equal(moved[:, 0], moved[:, 2])
    assert np.array_equal(moved[:, 0] ^ 255, moved[:, 1])
    assert not np.array_equal(moved[0], pixels[0])


def moving_dots(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A dot that runs to the right, or to the left: each frame alone is the same for both classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    place = (rng.integers(0, 8, count)[:, None] + np.where(labels, 1, -1)[:, None] * np.arange(4)) % 8
    images = np.full((count, 4, 1, 4, 8), SILENCE, np.uint8)
    images[np.arange(count)[:, None], np.arange(4), 0, rng.integers(0, 4, count)[:, None], place] = SPIKE
    return images, labels


def test_a_run_learns_what_only_the_order_of_frames_tells(tmp_path: Path) -> None:
    images, labels = moving_dots(400)
    np.savez(tmp_path / "dots.npz", train_images=images, train_labels=labels)
    genotype = "t4-b8-k5s1-16:003.00.0-hidden32"
    command = ["train", genotype, "--data", str(tmp_path / "dots.npz"), "--epochs", "15", "--augment", "none"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["integer_accuracy"] > 0.9
    test = load_dataset(str(tmp_path / "dots.npz")).test
    outputs = run(load_integer_model(tmp_path / "run" / "integer.safetensors"), test.images).outputs
    assert float(np.mean(outputs.argmax(1) == test.labels)) == summary["integer_accuracy"]
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0


def test_rates_are_the_brightness_and_repeat() -> None:
    images = np.repeat(np.array([0, 51, 204, 255], np.uint8), 5000).reshape(2, 1, 100, 100)
    split = Split(images, np.zeros(2, np.int64))
    spikes = encoded(split, "rate", 10, seed=3).images
    assert set(np.unique(spikes)) == {SILENCE, SPIKE}
    means = (spikes == SPIKE).mean(axis=1).reshape(4, 5000).mean(axis=1)
    assert means == pytest.approx([0, 0.2, 0.8, 1], abs=0.01)  # four standard errors
    assert np.array_equal(spikes, encoded(split, "rate", 10, seed=3).images)
    assert not np.array_equal(spikes, encoded(split, "rate", 10, seed=4).images)


def test_each_pixel_has_one_latency_and_bright_ones_are_first() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    fired = encoded(Split(images, np.zeros(1, np.int64)), "latency", 6, seed=0).images[0, :, 0] == SPIKE
    assert (fired.sum(axis=0) == 1).all()
    steps = fired.argmax(axis=0).ravel()
    assert (np.diff(steps) <= 0).all()
    assert (steps[0], steps[-1]) == (5, 0)


def test_a_search_without_images_knows_how_many_frames_its_network_takes(tmp_path: Path) -> None:
    images, labels = moving_dots(60)
    np.savez(tmp_path / "dots.npz", train_images=images[:, 0], train_labels=labels)
    search = ["search", "--input", "3x1x4x8", "--classes", "2", "--flash", "8KB", "--samples", "10"]
    assert main([*search, "--executor", "serial", "--out", str(tmp_path / "study")]) == 0
    train = [
        "train",
        str(tmp_path / "study"),
        "--data",
        str(tmp_path / "dots.npz"),
        "--encode",
        "rate",
        "--epochs",
        "1",
    ]
    assert main(train) == 0
    assert load_integer_model(tmp_path / "study" / "trained" / "integer.safetensors").graph.timesteps == 3


def test_an_encoded_run_goes_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--data", "digits", "--encode", "latency", "--frames", "3", "--flash", "16KB", "--ram", "8KB"]
    small = ["--samples", "30", "--finalists", "0", "--epochs", "1", "--limit", "100", "--out", str(tmp_path / "run")]
    assert main([*command, *small, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["genotype"].startswith("t3-")
    assert main(["evaluate", str(tmp_path / "run"), "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 144
    assert load_integer_model(tmp_path / "run" / "integer.safetensors").graph.sample_shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encode": "phase"}, "encode 'phase' is unknown: choose from direct, rate, latency"),
        ({"frames": 4}, "frames 4: this dataset has images: give --encode with it"),
        ({"encode": "rate", "frames": 0}, "frames 0: must lie between 1 and 256, such as 8"),
    ],
)
def test_frames_that_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset("digits", **given)  # type: ignore[arg-type]


def test_frames_of_frames_are_refused(tmp_path: Path) -> None:
    images, labels = moving_dots(40)
    np.savez(tmp_path / "dots.npz", train_images=images, train_labels=labels)
    with pytest.raises(DatasetError, match="the samples are frames already; leave --encode out"):
        load_dataset(str(tmp_path / "dots.npz"), encode="rate")
    with pytest.raises(DatasetError, match="frames 8: this dataset has 4 frames a sample: leave --frames out"):
        load_dataset(str(tmp_path / "dots.npz"), frames=8)
