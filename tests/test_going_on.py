"""A run's folder met again: from elsewhere, after its images moved, by other settings, and when nothing fitted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikenas.cli.main import main
from spikenas.cli.progress import RunProgress
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.graph import Lif
from spikenas.run.folder import open_run
from spikenas.run.run_settings import RunSettings, command_line, settings_to_train
from spikenas.snn.learning_curve import BatchStats, EpochStats
from spikenas.snn.train_config import TrainConfig
from spikenas.space.space import load_space

GENOTYPE = "t2-b8-k3s2-8:003.00.0-pool"
SEARCH = ["--strategy", "random", "--samples", "5", "--finalists", "0", "--epochs", "1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with images beside it."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.integers(0, 100, (60, 1, 6, 6)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", train_images=images, train_labels=labels)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def settings_in(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text())["settings"]
    return found


def test_a_run_is_known_from_any_folder_and_after_a_move(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = place / "work" / "run", place / "images.npz"
    assert main(["run", "--data", "../images.npz", *SEARCH, "--out", "run"]) == 0
    assert settings_in(run)["data"] == str(images)
    monkeypatch.chdir(place)
    assert main(["evaluate", "work/run"]) == 0
    trained = (run / "model.safetensors").stat().st_mtime_ns
    assert main(["run", "--data", "images.npz", *SEARCH, "--out", "work/run"]) == 0
    older = json.loads((run / "run.json").read_text())  # what versions before kept
    older["settings"] |= {"data": "../images.npz"}
    del older["settings"]["processes"]
    (run / "run.json").write_text(json.dumps(older))
    assert main(["run", "--data", "images.npz", *SEARCH, "--out", "work/run"]) == 0
    (place / "moved").mkdir()
    shutil.move(images, place / "moved" / "images.npz")
    capsys.readouterr()
    assert main(["evaluate", "work/run"]) == 2
    assert f"{images}, which holds the images, is not there: put it back, or give --data" in capsys.readouterr().err
    assert main(["run", "--data", "moved/images.npz", *SEARCH, "--out", "work/run"]) == 0
    assert settings_in(run)["data"] == str(place / "moved" / "images.npz")
    assert main(["evaluate", "work/run"]) == 0
    shutil.copy(place / "moved" / "images.npz", images)  # two of them: which one is meant decides
    assert main(["run", "--data", "images.npz", *SEARCH, "--out", "work/run"]) == 2
    assert (run / "model.safetensors").stat().st_mtime_ns == trained


def test_a_run_stopped_in_training_gives_its_choice_to_train(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: RunProgress, stats: object) -> None:
        raise KeyboardInterrupt

    command = ["run", "--data", "../images.npz", "--flash", "24KB", *SEARCH[:-2], "--minutes", "1", "--out", "run"]
    monkeypatch.setattr(RunProgress, "batch", interrupt)
    assert main(command) == 130
    monkeypatch.undo()
    monkeypatch.chdir(place / "work")
    capsys.readouterr()
    assert main([*command, "--minutes", "2", "--ram", "16KB"]) == 2
    assert capsys.readouterr().err.strip() == (
        "spikenas: run: holds another run: --ram was not given, now 16KB, and --minutes was 1, now 2; choose another "
        "--out, or repeat its settings to go on with it, or train the network that it found: "
        "spikenas train run --epochs N"
    )
    assert main(["train", "run", "--epochs", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["genotype"] == json.loads(Path("run/choice.json").read_text())["genotype"]
    assert (summary["epochs"], summary["budget"]["flash_bytes"]) == (1, 24 * 1024)


def test_a_run_told_minutes_is_repeated_by_its_epochs_and_a_slow_one_hints_at_latency(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spikenas.cli.run_verbs.SLOW_MS", 0)
    command = ["train", GENOTYPE, "--data", "../images.npz", "--minutes", "1e-6", "--out", "run"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "1 epoch in 1e-06 minutes; 60 would suit these images" in told.err
    assert " ms an inference; --latency 0 would search for a faster network" in told.out
    page = json.loads(Path("run/page.json").read_text())
    assert page["command"].endswith("--epochs 1 --out run-again")
    assert "This run was told to train for 1e-06 minutes." in Path("run/report.html").read_text()


def test_other_settings_and_other_drivers_are_refused_before_torch_is_loaded(place: Path) -> None:
    program = "import sys; from spikenas.cli.main import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program, "run", "--data", "digits", "--out", "run"]
    with open_run(Path("run"), {"data": "digits"}):
        driven = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "drives this run; wait for it or choose another --out" in driven.stderr
    other = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True, check=True)
    assert "holds another run: " in other.stderr
    assert driven.stdout == other.stdout == "2 False\n"


def test_a_search_that_finds_nothing_leaves_no_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--data", "../images.npz", *SEARCH, "--out", "run"]
    assert main([*command, "--ram", "500B"]) == 3
    assert "RAM" in capsys.readouterr().err
    assert not Path("run").exists()
    assert main(command) == 0
    assert main(["quantize", "run", "--flash", "1KB"]) == 3
    assert Path("run/model.safetensors").is_file()


def test_a_network_that_cannot_fit_is_not_trained_and_one_that_spikes_too_much_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", GENOTYPE, "--data", "../images.npz", "--epochs", "1", "--out", "run"]
    assert main([*train, "--flash", "2KB"]) == 3
    assert "this network cannot fit: flash " in capsys.readouterr().err
    assert not Path("run").exists()
    space = load_space("embedded")
    graph = space.lower(space.parse(GENOTYPE), (1, 6, 6), 2)
    silent = {node.name: 0.0 for node in graph.nodes if isinstance(node.layer, Lif)}
    least_ms = estimate(graph, load_target("cortex-m4"), silent).latency_ms
    assert main([*train, "--latency", str(1.0001 * least_ms)]) == 3
    told = capsys.readouterr()
    assert "the trained network does not fit, its spikes counted on test images: latency " in told.err
    assert "it stays in run" in told.err
    assert "spikenas verify" not in told.out
    assert Path("run/report.html").is_file()
    assert main([*train, "--latency", str(1.0001 * least_ms), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_processes_that_trained_together_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"data": "digits", "epochs": 3, "minutes": None}
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings, out = settings_to_train("g", Path("out"), TrainConfig(), given)
    assert command_line(settings, out) == (
        "torchrun --nproc-per-node 2 -m spikenas train g --data digits --epochs 3 --out out"
    )
    assert command_line(replace(settings, processes=1), out).startswith("spikenas train g ")
    assert RunSettings("digits").processes == 1


def test_lines_of_epochs_say_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    progress = RunProgress()
    for epoch, left_s in ((1, 75.0), (31, 0.0)):
        progress.batch(BatchStats(epoch, 31, 1, 1, 0.0, 0.0, 0.0, 1.0, left_s))
        progress.epoch(EpochStats(epoch, 0.0, 0.0, 0.0, 0.5, 0.1, 2.5, 1.0))
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("2.5 s, about 1 min 15 s to go")
    assert last.endswith("2.5 s")
