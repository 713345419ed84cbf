"""A large network learns first, and a small one from what it makes of each image: the loss, the road, and its files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_train_run import same_weights

from spikenas.cli.main import main
from spikenas.cli.progress import RunProgress
from spikenas.data.datasets import Dataset, load_dataset
from spikenas.data.split import Split
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.pipeline import Silent
from spikenas.run import train_stage
from spikenas.run.artifacts import load_model, read_json, save_model
from spikenas.run.folder import RunFolder
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import Network, from_model, to_model
from spikenas.snn.objective import BELIEVED, TEMPERATURE, loss, mixed
from spikenas.snn.teacher import Teacher, teacher_config, teacher_graph
from spikenas.snn.train import TrainConfig, train
from spikenas.space.space import load_space

GENOTYPE = "t2-b8-k3s2-8:003.00.0-pool"
IMAGES = 1000
COMMAND = ["train", GENOTYPE, "--data", "digits", "--limit", "300", "--epochs", "3", "--teacher", "8", "--threads", "1"]


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_loss_against_numpy() -> None:
    """Hinton et al.: (1 - w) cross-entropy + w tau^2 KL(teacher / tau || pupil / tau); only labels are blended."""
    rng = np.random.default_rng(0)
    outputs, said, labels = rng.normal(size=(2, 5, 3)), 3 * rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    mean = outputs.mean(0)

    def hard(order: np.ndarray) -> float:
        return float(-log_softmax(mean)[np.arange(5), labels[order]].mean())

    theirs, ours = log_softmax(said / TEMPERATURE), log_softmax(mean / TEMPERATURE)
    distance = TEMPERATURE**2 * (np.exp(theirs) * (theirs - ours)).sum(-1).mean()
    config = TrainConfig(label_smoothing=0.0)
    for mixup in (0.0, 0.5):
        images = torch.zeros(5, 1, 2, 2)
        _, targets = mixed(images, torch.from_numpy(labels), replace(config, mixup=mixup), step=3)
        label = hard(np.arange(5))
        if targets.partners is not None:
            label = targets.share * label + (1 - targets.share) * hard(targets.partners.numpy())
        value = loss(torch.from_numpy(outputs), replace(targets, taught=torch.from_numpy(said)), config)
        assert float(value) == pytest.approx((1 - BELIEVED) * label + BELIEVED * distance)
    assert targets.partners is not None


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
    teacher = train(
        teacher_graph(data.input_shape, 10), data.train, data.val, teacher_config(TrainConfig(threads=1), 8)
    ).model
    shuffled = np.random.default_rng(0).permutation(data.train.labels)
    space = load_space("embedded")
    graph = space.lower(space.parse("t2-b8-k3s1-16:303.03.0-pool"), data.input_shape, 10)
    config = TrainConfig(epochs=60, threads=1)
    alone = train(graph, Split(data.train.images, shuffled), data.val, config)
    pupil = train(graph, Split(data.train.images, shuffled), data.val, config, teacher=teacher)
    assert alone.best.val_accuracy < 0.3
    assert pupil.best.val_accuracy > 0.7


def test_teacher_and_pupil_see_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifted, mirrored and blended alike; and the teacher's statistics stay as they are."""
    data = load_dataset("digits", limit=60)
    graph, config = teacher_graph(data.input_shape, 10), TrainConfig(epochs=2, mixup=0.5, augment="shift2+flip")
    teacher = train(graph, data.train, data.val, teacher_config(config, 1)).model
    shown: dict[str, list[torch.Tensor]] = {"pupil": [], "teacher": []}
    steps, answer = Network.steps_with_spikes, Teacher.__call__

    def seen(self: Network, images: torch.Tensor) -> object:
        if self.training:
            shown["pupil"].append(images)
        return steps(self, images)

    def asked(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        shown["teacher"].append(images)
        logits = answer(self, images)
        assert torch.allclose(logits, from_model(teacher, neuron="rectifier").eval()(images), atol=1e-5)
        return logits

    monkeypatch.setattr(Network, "steps_with_spikes", seen)
    monkeypatch.setattr(Teacher, "__call__", asked)
    space = load_space("embedded")
    pupil = space.lower(space.parse(GENOTYPE), data.input_shape, 10)
    train(pupil, data.train, data.val, replace(config, threads=1, precision="float32"), teacher=teacher)
    assert len(shown["pupil"]) == len(shown["teacher"]) == 2
    assert all(map(torch.equal, shown["pupil"], shown["teacher"]))


def test_a_run_with_a_teacher_that_was_stopped_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main([*COMMAND, "--out", str(whole)]) == 0
    assert "a teacher of 1,165,930 weights, for no chip: 8 epochs" in capsys.readouterr().err
    teacher = from_model(load_model(whole / "teacher.safetensors"), neuron="rectifier")
    assert evaluate(teacher, digits().test).accuracy > 0.8
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
    assert same_weights(whole, stopped, "teacher.safetensors")
    assert not (stopped / "teacher-training.safetensors").exists()
    assert "--teacher 8" in (whole / "report.html").read_text()


def test_processes_that_train_together_learn_from_one_teacher(tmp_path: Path) -> None:
    out = tmp_path / "run"
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = [*COMMAND[:4], "--limit", "100", "--epochs", "2", "--teacher", "2", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*together, "-m", "spikenas", *told], check=True, capture_output=True, env=environment)
    assert load_model(out / "teacher.safetensors").graph == teacher_graph((1, 8, 8), 10)
    assert len(read_json(out / "curve.json")) == 2
    assert not (out / "teacher-training.safetensors").exists()


@pytest.mark.parametrize("damage", ["truncated", "other images"])
def test_a_teacher_that_does_not_belong(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    out, told = tmp_path / "run", [GENOTYPE, "--data", "digits", "--limit", "100", "--epochs", "1"]
    assert main(["train", *told, "--teacher", "0", "--out", str(out)]) == 0
    assert not (out / "teacher.safetensors").exists()
    file = out / "teacher.safetensors"
    save_model(file, to_model(Network(teacher_graph((3, 8, 8), 10), neuron="rectifier")))
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    capsys.readouterr()
    assert main(["quantize", str(out), "--bits", "4", "--qat", "1"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"spikenas: {file}: ")
    assert "remove it to train" in error
    assert main(["quantize", str(out), "--bits", "4"]) == 0  # which asks no teacher


@pytest.mark.parametrize(
    ("genotype", "seconds"), [("t2-b8-k3s1-4:001.00.0-pool", 4.9), ("t2-b4-k3s1-4:001.00.0-pool", 5.9)]
)
def test_an_epoch_of_the_pace_is_the_mean_of_all_kinds(
    genotype: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of spikes ten seconds, on rates four, 15 and 85 of 100; at few bits ten more of spikes."""

    def trained(
        _: Graph, shown: Split, judged: Split, config: TrainConfig, *, stop_after: int, **__: object
    ) -> SimpleNamespace:
        whole = 10.0 if config.rate_coded == 0.0 else 4.0
        return SimpleNamespace(curve=[SimpleNamespace(seconds=whole * len(shown) / IMAGES)] * stop_after)

    data, space = load_dataset("digits"), load_space("embedded")
    monkeypatch.setattr(train_stage, "train", trained)
    monkeypatch.setattr(train_stage, "_seen", lambda _: IMAGES)
    graph = space.lower(space.parse(genotype), data.input_shape, 10)
    assert train_stage._epoch_seconds(graph, data, TrainConfig(rate_coded=0.85)) == pytest.approx(seconds)


def test_minutes_are_shared_with_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch takes ten seconds, or eleven with a teacher, whose own take twelve; and there are five minutes."""

    def seconds(graph: Graph, dataset: Dataset, training: TrainConfig, teacher: Model | None = None) -> float:
        return 12.0 if training.neuron == "rectifier" else 10.0 if teacher is None else 11.0

    monkeypatch.setattr(train_stage, "_epoch_seconds", seconds)
    data, space = load_dataset("digits"), load_space("embedded")
    graph = space.lower(space.parse(GENOTYPE), data.input_shape, 10)
    for teacher, epochs in ((0, 30), (2, 25), (40, 1)):
        folder = RunFolder(tmp_path / str(teacher), {})
        folder.path.mkdir()
        assert train_stage.for_minutes(5, folder, graph, data, TrainConfig(), teacher, Silent()).epochs == epochs
