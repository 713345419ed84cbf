"""The whole road on real digits, small: what it leaves, how it goes on, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from spikenas import reference
from spikenas.cli.main import main
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.data.datasets import load_dataset
from spikenas.graph import Conv2d, Linear
from spikenas.run.artifacts import load_integer_model
from spikenas.run.run_settings import RunSettings, command_line
from spikenas.run.store import SqliteStore

SMALL = ["--samples", "60", "--finalists", "2", "--epochs", "12"]
BUDGET = ["--flash", "24KB", "--ram", "12KB"]
WRITTEN = re.compile(r"<(?:section|header).*?</(?:section|header)>", re.DOTALL)
"""A report without its scripts, in which Bokeh numbers its objects anew."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["run", "--data", "digits", *BUDGET, *SMALL, "--out", str(out)]) == 0
    return out


def test_the_integer_network_is_what_the_summary_says(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    test = load_dataset("digits").test
    outputs = reference.run(load_integer_model(finished / "integer.safetensors"), test.images).outputs
    accuracy = float(np.mean(outputs.argmax(1) == test.labels))
    assert summary["integer_accuracy"] == accuracy
    assert accuracy > 0.8  # twelve epochs of a network of 2 bits; chance is 0.1
    assert summary["fits"]
    assert summary["cost"]["flash_bytes"] <= 24 * 1024
    assert summary["cost"]["ram_bytes"] <= 12 * 1024


def test_every_trial_is_kept(finished: Path) -> None:
    with SqliteStore(finished / "study.sqlite", read_only=True) as store:
        trials = store.trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(trial.measure != "train" for trial in trials) == 60
    trained = [trial for trial in trials if trial.measure == "train"]
    assert trained
    assert all(trial.flash_bytes is not None and trial.flash_bytes <= 24 * 1024 for trial in trained)


def test_report_names_the_genotype(finished: Path) -> None:
    genotype = json.loads((finished / "summary.json").read_text())["genotype"]
    assert genotype in (finished / "report.html").read_text()


def test_the_report_is_written_again_from_the_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = finished / "report.html"
    before = WRITTEN.findall(report.read_text())
    report.unlink()
    assert main(["report", str(finished)]) == 0
    assert WRITTEN.findall(report.read_text()) == before
    assert "taken for" in "".join(before)
    capsys.readouterr()
    assert main(["report", str(finished.parent)]) == 2
    assert "not the folder of a run" in capsys.readouterr().err


def test_a_page_knows_how_to_train_another_network_alike(finished: Path) -> None:
    command = json.loads((finished / "page.json").read_text())["train_command"]
    assert command == "spikenas train GENOTYPE --data digits --flash 24576 --ram 12288 --epochs 12 --out OUT"
    settings = RunSettings("digits", space="snasnet", genotype="g")
    assert command_line(settings, Path("out")) == "spikenas train g --data digits --space snasnet --out out"


def test_two_runs_are_compared_on_one_page(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    assert main(["report", "--compare", str(other), str(finished)]) == 0
    page = (other / "compare-digits.html").read_text()
    assert "other</b>" in page
    assert "digits</b>" in page
    for arguments, words in (
        (["--compare", str(other)], "give two different runs"),
        (["--compare", str(other), str(other)], "give two different runs"),
        ([str(other), str(finished)], "2 runs: give one, or two with --compare"),
        ([str(other), "--out", "x.html"], "--out is for --compare"),
    ):
        capsys.readouterr()
        assert main(["report", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_the_same_command_again_trains_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "model.safetensors").stat().st_mtime_ns
    assert main(["run", "--data", "digits", *BUDGET, *SMALL, "--out", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]
    assert (finished / "model.safetensors").stat().st_mtime_ns == before


def test_other_settings_are_refused_and_overwrite_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert main(["run", "--data", "digits", *BUDGET, *SMALL, "--seed", "1", "--out", str(finished)]) == 2
    assert "seed" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if "lock" not in path.name} == {
        path: time for path, time in before.items() if "lock" not in path.name
    }


def test_a_budget_below_the_smallest_network_says_what_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--data", "digits", "--flash", "1KB", "--ram", "16KB", *SMALL, "--out", str(tmp_path / "x")]
    assert main(command) == 3
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "smallest network of space 'embedded' needs" in message


@pytest.mark.parametrize(("to", "written"), [("nir", "net.nir"), ("onnx-integer", "net.onnx"), ("c", "fw/network.c")])
def test_export(finished: Path, tmp_path: Path, to: str, written: str) -> None:
    out = tmp_path / Path(written).parts[0]
    assert main(["export", str(finished), "--to", to, "--out", str(out)]) == 0
    assert (tmp_path / written).stat().st_size > 1000


def test_quantize_leaves_a_network_its_figures_and_a_section_of_the_report(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["quantize", str(finished), "--bits", "4", "--qat", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    model = load_integer_model(finished / "quantized" / "b4-qat1" / "integer.safetensors")
    test = load_dataset("digits").test
    accuracy = float(np.mean(reference.run(model, test.images).outputs.argmax(1) == test.labels))
    assert result["integer_accuracy"] == accuracy
    assert result["test_images"] == len(test)
    priced = estimate(model.graph, load_target("cortex-m4"), flash_bytes=24 * 1024, ram_bytes=12 * 1024)
    assert (result["flash_bytes"], result["kernels"]) == (priced.flash_bytes, priced.plan.kernels.value)
    layers = {name: layer for name, layer in model.graph.layers.items() if isinstance(layer, Conv2d | Linear)}
    assert result["bits"] == {name: layer.weight_bits for name, layer in layers.items()}
    assert set(result["bits"].values()) <= {4, 8}
    assert "b4-qat1" in (finished / "report.html").read_text()


def test_a_quantized_setting_is_exported_and_proven(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(finished), "--bits", "2"]) == 0
    assert "verify" in capsys.readouterr().out
    assert main(["export", str(finished), "--to", "c", "--out", str(tmp_path / "own")]) == 0
    assert main(["export", str(finished), "--to", "c", "--out", str(tmp_path / "b2"), "--quantized", "b2"]) == 0
    own, few = (sum(file.stat().st_size for file in (tmp_path / name).glob("*.c")) for name in ("own", "b2"))
    assert few < own
    capsys.readouterr()
    assert main(["export", str(finished), "--to", "nir", "--out", str(tmp_path / "x"), "--quantized", "b2"]) == 2
    assert "'nir' holds real numbers, 'b2' is integers: use c or onnx-integer" in capsys.readouterr().err
    assert main(["export", str(finished), "--to", "c", "--out", str(tmp_path / "x"), "--quantized", "b7"]) == 2
    assert "was not quantized as 'b7'; there are " in capsys.readouterr().err


def test_a_network_in_other_timesteps(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same network in the same flash; spikes, answers and memory are those of so many steps."""
    own = load_integer_model(finished / "integer.safetensors")
    steps = own.graph.timesteps + 2
    capsys.readouterr()
    assert main(["quantize", str(finished), "--timesteps", str(steps), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    model = load_integer_model(finished / "quantized" / f"own-t{steps}" / "integer.safetensors")
    assert result["timesteps"] == model.graph.timesteps == steps
    test = load_dataset("digits").test
    answers = reference.run(model, test.images).outputs.argmax(1)
    assert result["integer_accuracy"] == float(np.mean(answers == test.labels))
    limits = {"flash_bytes": 24 * 1024, "ram_bytes": 12 * 1024}
    before, priced = (estimate(graph, load_target("cortex-m4"), **limits) for graph in (own.graph, model.graph))
    assert result["flash_bytes"] == before.flash_bytes
    assert result["ram_bytes"] == priced.ram_bytes


@pytest.mark.arm
def test_the_certificate_of_a_setting_lies_beside_it(finished: Path) -> None:
    pytest.importorskip("unicorn")
    assert main(["quantize", str(finished), "--bits", "3"]) == 0
    assert main(["verify", str(finished), "--quantized", "b3", "--images", "2"]) == 0
    certificate = json.loads((finished / "quantized" / "b3" / "certificate-cortex-m4.json").read_text())
    assert certificate["difference"] is None
    assert certificate["chip_identical"] == 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--bits", "9"], 2, "--bits 9: integers take 2 to 8 bits"),
        (["--bits", "8,8"], 2, "--bits with 2 numbers: this network has"),
        (["--bits", "eight"], 2, "give whole numbers of 2 to 8"),
        (["--bits", "4", "--flash", "64KB"], 2, "give one of the two"),
        (["--membrane-bits", "9"], 2, "choose 8, 12, 16, 32 or auto"),
        (["--timesteps", "0"], 2, "--timesteps 0: an inference takes at least 1"),
        (["--flash", "1KB"], 3, "bytes at the fewest bits; raise --flash"),
    ],
)
def test_quantize_refuses_in_one_line(
    finished: Path, options: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["quantize", str(finished), *options]) == code
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    assert words in message[0]


def test_an_exported_network_comes_back(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(finished), "--to", "nir", "--out", str(tmp_path / "net.nir")]) == 0
    assert main(["import", str(tmp_path / "net.nir"), "--out", str(tmp_path / "net.safetensors")]) == 0
    assert main(["export", str(finished), "--to", "nif", "--out", str(tmp_path / "x")]) == 2
    assert "format 'nif' is unknown" in capsys.readouterr().err


@pytest.mark.arm
def test_the_chip_keeps_the_budget_and_computes_the_same_bits(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("unicorn")
    pytest.importorskip("ziglang")
    capsys.readouterr()
    assert main(["verify", str(finished), "--images", "5", "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    summary = json.loads((finished / "summary.json").read_text())
    assert certificate["chip_identical"] == certificate["chip_images"] == 5
    assert certificate["host_identical"] == certificate["host_images"] == 359
    assert certificate["ram_bytes"] == summary["cost"]["ram_bytes"] <= 12 * 1024
    assert certificate["flash_bytes"] == pytest.approx(summary["cost"]["flash_bytes"], rel=0.06)


@pytest.mark.arm
def test_spiking_against_dense(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("unicorn")
    pytest.importorskip("ziglang")
    capsys.readouterr()
    assert main(["compare-dense", str(finished), "--images", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["executed"] == pytest.approx(found["instructions"])
    assert found["executed"] == pytest.approx(found["predicted"], rel=0.2)
    assert found["of_dense"] == pytest.approx(found["executed"] / found["dense_instructions"])
    assert main(["compare-dense", str(finished), "--images", "1", "--target", "speck"]) == 2
    assert "speck" in capsys.readouterr().err


def test_same_seed_same_network(finished: Path, tmp_path: Path) -> None:
    assert main(["run", "--data", "digits", *BUDGET, *SMALL, "--out", str(tmp_path / "again")]) == 0
    once, again = (load_integer_model(folder / "integer.safetensors") for folder in (finished, tmp_path / "again"))
    assert once.graph == again.graph
    assert all(np.array_equal(array, again.weights[name]) for name, array in once.weights.items())
