"""A large network learns first, and a small one from what it makes of each image: the loss, the road, and its files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_run import same_weights

from spikenas.cli.main import main
from spikenas.cli.progress import RunProgress
from spikenas.data.datasets import Dataset, load_dataset
from spikenas.data.split import Split, thin
from spikenas.errors import DatasetError
from spikenas.graph import Graph
from spikenas.pipeline import Silent
from spikenas.run import train_stage
from spikenas.run.artifacts import read_json, read_safetensors
from spikenas.run.folder import RunFolder
from spikenas.run.teach_stage import taught, with_teacher
from spikenas.snn import teacher as teaching
from spikenas.snn.network import Network
from spikenas.snn.objective import BELIEVED, TEMPERATURE, Targets, loss, mixed
from spikenas.snn.teacher import logits, teacher_config, teacher_graph
from spikenas.snn.train import TrainConfig, train
from spikenas.space.space import load_space

GENOTYPE = "t2-b8-k3s2-8:003.00.0-pool"
COMMAND = ["train", GENOTYPE, "--data", "digits", "--limit", "300", "--epochs", "3", "--teacher", "8", "--threads", "1"]


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_loss_against_numpy() -> None:
    """Hinton et al.: (1 - w) cross-entropy + w tau^2 KL(teacher / tau || pupil / tau), images blended included."""
    rng = np.random.default_rng(0)
    outputs, said, labels = rng.normal(size=(2, 5, 3)), 3 * rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    mean = outputs.mean(0)

    def expected(order: np.ndarray) -> float:
        hard = -log_softmax(mean)[np.arange(5), labels[order]].mean()
        theirs, ours = log_softmax(said[order] / TEMPERATURE), log_softmax(mean / TEMPERATURE)
        distance = (np.exp(theirs) * (theirs - ours)).sum(-1).mean()
        return float((1 - BELIEVED) * hard + BELIEVED * TEMPERATURE**2 * distance)

    config = TrainConfig(label_smoothing=0.0)
    targets = Targets(torch.from_numpy(labels), torch.from_numpy(said))
    assert float(loss(torch.from_numpy(outputs), targets, config)) == pytest.approx(expected(np.arange(5)))
    images = torch.zeros(5, 1, 2, 2)
    _, blend = mixed(images, targets, replace(config, mixup=0.5), step=3)
    assert blend.partners is not None
    share = blend.share * expected(np.arange(5)) + (1 - blend.share) * expected(blend.partners.numpy())
    assert float(loss(torch.from_numpy(outputs), blend, config)) == pytest.approx(share)


def test_logits_travel_with_their_images() -> None:
    images, labels = np.zeros((6, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1, 0, 1])
    said = np.arange(12, dtype=np.float32).reshape(6, 2)
    split = Split(images, labels, said)
    assert np.array_equal(split.take(np.array([4, 1])).taught, said[[4, 1]])
    few = thin(split, 2, np.random.default_rng(0))
    assert few.taught is not None
    assert [int(row[0]) // 2 % 2 for row in few.taught] == few.labels.tolist()
    with pytest.raises(DatasetError, match="5 images are not those of 6"):
        Split(images, labels, said[:5])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 1, 20), (2, 3, 3), (4, 2, 16, 16)])
def test_any_sample_has_a_teacher(shape: tuple[int, ...]) -> None:
    graph = teacher_graph(shape, 5)
    network = Network(graph, neuron="rectifier")
    images = torch.rand(2, *shape) - 0.5
    assert network(images).shape == (2, 5)
    hidden = network.trace(images)["b2b_relu"]
    assert hidden.min() == 0.0  # rectified, and not to spikes
    assert len(hidden.unique()) > 2


def digits() -> Dataset:
    return load_dataset("digits", limit=300)


def test_a_network_believes_its_teacher() -> None:
    """Labels that say nothing, and a teacher who knows: what is learned is the teacher's."""
    data = digits()
    said = np.where(np.arange(10) == data.train.labels[:, None], 8.0, 0.0).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(data.train.labels)
    space = load_space("embedded")
    graph = space.lower(space.parse("t2-b8-k3s1-16:303.03.0-pool"), data.input_shape, 10)
    config = TrainConfig(epochs=20, threads=1)
    alone = train(graph, Split(data.train.images, shuffled), data.val, config)
    pupil = train(graph, Split(data.train.images, shuffled, said), data.val, config)
    assert alone.best.val_accuracy < 0.3
    assert pupil.best.val_accuracy > 0.7


def test_answers_to_image_and_mirror_image_are_one_where_training_mirrors() -> None:
    data = load_dataset("digits", limit=40)
    config = teacher_config(TrainConfig(augment="flip", precision="float32"), 1)
    teacher = train(teacher_graph(data.input_shape, 10), data.train, data.val, config).model
    mirrored = replace(data.train, images=np.ascontiguousarray(data.train.images[..., ::-1]))
    assert logits(teacher, mirrored, config) == pytest.approx(logits(teacher, data.train, config), abs=1e-4)
    straight = replace(config, augment="none")
    assert logits(teacher, mirrored, straight) != pytest.approx(logits(teacher, data.train, straight), abs=1e-2)


def test_a_run_with_a_teacher_that_was_stopped_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main([*COMMAND, "--out", str(whole)]) == 0
    assert "a teacher of 1,165,930 weights, for no chip: 8 epochs" in capsys.readouterr().err
    (said,) = read_safetensors(whole / "teacher.safetensors")[1].values()
    data = digits()
    assert (said.argmax(1) == data.train.labels).mean() > 0.8
    assert read_json(whole / "run.json")["settings"]["teacher"] == 8

    def interrupt(self: RunProgress, stats: object) -> None:
        if getattr(stats, "epoch", 0) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunProgress, "batch", interrupt)
    assert main([*COMMAND, "--out", str(stopped)]) == 130
    monkeypatch.undo()
    assert (stopped / "teacher-training.safetensors").exists()
    assert not (stopped / "teacher.safetensors").exists()
    assert main([*COMMAND, "--out", str(stopped)]) == 0
    assert same_weights(whole, stopped)
    assert (stopped / "teacher.safetensors").read_bytes() == (whole / "teacher.safetensors").read_bytes()
    assert not (stopped / "teacher-training.safetensors").exists()
    assert "--teacher 8" in (whole / "report.html").read_text()


def test_processes_that_train_together_learn_from_one_teacher(tmp_path: Path) -> None:
    out = tmp_path / "run"
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = [*COMMAND[:4], "--limit", "100", "--epochs", "2", "--teacher", "2", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*together, "-m", "spikenas", *told], check=True, capture_output=True, env=environment)
    (said,) = read_safetensors(out / "teacher.safetensors")[1].values()
    assert said.shape == (100, 10)
    assert len(read_json(out / "curve.json")) == 2
    assert not (out / "teacher-training.safetensors").exists()


@pytest.mark.parametrize("damage", ["truncated", "other images"])
def test_a_teacher_that_does_not_belong(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    folder, data = RunFolder(tmp_path, {}), load_dataset("digits", limit=40)
    there = taught(folder, data, TrainConfig(threads=1), 1, Silent())
    assert there.train.taught is not None
    assert np.array_equal(with_teacher(folder, data).train.taught, there.train.taught)
    out = tmp_path / "run"
    assert main(["train", GENOTYPE, "--data", "digits", "--epochs", "1", "--teacher", "0", "--out", str(out)]) == 0
    assert not (out / "teacher.safetensors").exists()
    content = folder.teacher.read_bytes()
    (out / "teacher.safetensors").write_bytes(content[:-100] if damage == "truncated" else content)
    capsys.readouterr()
    assert main(["quantize", str(out), "--bits", "4"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("spikenas: ")
    assert "remove it to train anew" in error


def test_minutes_are_shared_with_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch takes ten seconds, a teacher's twelve, and there are five minutes."""

    def seconds(graph: Graph, dataset: Dataset, training: TrainConfig) -> float:
        return 12.0 if training.neuron == "rectifier" else 10.0

    monkeypatch.setattr(train_stage, "_epoch_seconds", seconds)
    data, space = load_dataset("digits"), load_space("embedded")
    graph = space.lower(space.parse(GENOTYPE), data.input_shape, 10)
    for teacher, epochs in ((0, 30), (2, 27), (None, 30)):
        folder = RunFolder(tmp_path / str(teacher), {})
        folder.path.mkdir()
        assert train_stage.for_minutes(5, folder, graph, data, TrainConfig(), teacher, Silent()).epochs == epochs
    monkeypatch.setattr(teaching, "MANY_IMAGES", 1000)
    folder = RunFolder(tmp_path / "many", {})
    folder.path.mkdir()
    # 21 epochs and 7 of the teacher are 294 seconds; 22 and 7 were 304
    assert train_stage.for_minutes(5, folder, graph, data, TrainConfig(), None, Silent()).epochs == 21
