"""spikenas in Python: the README's example, and the names that `import spikenas` gives."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import spikenas
from spikenas.cli.main import main

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the README's example leaves, and the folder where it was executed."""
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {"here": tmp_path_factory.mktemp("example")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(names["here"])
        exec(program, names)
    return names


def test_the_example_in_the_readme_ends_with_firmware_that_fits(example: dict[str, Any]) -> None:
    trained = example["trained"]
    assert trained.fits
    assert trained.cost.flash_bytes <= 32 * 1024
    assert trained.cost.ram_bytes <= 16 * 1024
    assert trained.integer_accuracy > 0.2  # after two epochs; chance is 0.1
    assert "int main" in (example["here"] / "firmware" / "main.c").read_text()


def test_the_terminal_goes_on_where_python_stopped(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(example["found"].folder), "--epochs", "2", "--json"]) == 0
    output = capsys.readouterr()
    assert "already trained" in output.err
    assert json.loads(output.out)["integer_accuracy"] == example["trained"].integer_accuracy


def test_a_run_is_judged_and_quantized_again(example: dict[str, Any]) -> None:
    trained = example["trained"]
    assert spikenas.evaluate(trained).integer_accuracy == trained.integer_accuracy
    quantized = spikenas.quantize(trained.folder, bits=2)
    assert quantized.flash_bytes < trained.cost.flash_bytes
    assert set(quantized.bits.values()) <= {2, 8}
    assert quantized.model.is_file()


def test_a_search_s_frames_are_those_of_the_training() -> None:
    data = spikenas.load("digits", encode="rate", frames=2, limit=100)
    found = spikenas.search(data, spikenas.Budget(flash="32KB", ram="16KB"), samples=30, finalists=0)
    trained = spikenas.train(found, epochs=1)
    settings = json.loads((trained.folder / "run.json").read_text())["settings"]
    assert (settings["encode"], settings["frames"], settings["limit"]) == ("rate", 2, 100)
    assert not spikenas.load_model(trained.folder / "model.safetensors").graph.static


def test_values_show_themselves_shortly_and_as_tables(example: dict[str, Any]) -> None:
    found, trained = example["found"], example["trained"]
    model = spikenas.load_model(trained.folder / "model.safetensors")
    integer = spikenas.load_integer_model(trained.folder / "integer.safetensors")
    shown = {
        "1,294 train": example["data"],
        "flash_bytes=32768": example["budget"],
        f"{model.graph.parameter_count:,} parameters": model.graph,
        "<Model: <Graph: 1x8x8 to 10,": model,
        "<IntegerModel: ": integer,
        f"flash_bytes={trained.cost.flash_bytes}": trained.cost,
        f"genotype='{found.genotype}'": found.best,
        "objectives=": found,
        "fits=True": trained,
    }
    for words, value in shown.items():
        assert words in repr(value)
        assert len(repr(value)) < 2000
        table = ElementTree.fromstring(value._repr_html_())
        assert len(table.findall("tr")) > 1
    weights = {row[0].text: row for row in ElementTree.fromstring(model._repr_html_())[2:]}
    assert weights.keys() == model.weights.keys()
    assert f"{trained.cost.flash_bytes:,}" in trained.cost._repr_html_()
    assert "fits" in trained._repr_html_()


def test_a_study_is_opened_from_its_folder(example: dict[str, Any], tmp_path: Path) -> None:
    found = example["found"]
    again = spikenas.SearchSummary.load(str(found.folder))
    assert again == found
    assert all(isinstance(trial, spikenas.Trial) for trial in again.front)
    with pytest.raises(spikenas.InputError, match="not the folder of a study"):
        spikenas.SearchSummary.load(example["trained"].folder)
    with pytest.raises(spikenas.InputError, match="not the folder of a run"):
        spikenas.SearchSummary.load(tmp_path)


def test_images_from_nowhere_are_refused(example: dict[str, Any]) -> None:
    with pytest.raises(spikenas.InputError, match="was not loaded from anywhere") as refused:
        spikenas.search(replace(example["data"], told={}), example["budget"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("limits", [{"flash_bytes": 1, "flash": "1B"}, {"ram": "0KB"}, {"ram": "much"}])
def test_a_budget_that_makes_no_sense_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(spikenas.InputError):
        spikenas.Budget(**limits)


def test_every_name_is_what_the_type_checker_sees() -> None:
    tree = ast.parse(Path(spikenas.__file__).read_text())
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in seen.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    assert {name: f"spikenas.{home}" for name, home in spikenas.HOMES.items()} == typed
    assert set(spikenas.__all__) == set(spikenas.HOMES)
    assert len(spikenas.__all__) <= 25
    assert all(getattr(spikenas, name) is not None for name in spikenas.__all__)


def test_importing_loads_nothing_and_the_rooms_leave_the_verbs_alone() -> None:
    program = (
        "import sys, spikenas\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "spikenas.load('digits')\n"
        "assert 'torch' not in sys.modules\n"
        "import spikenas.search.racing\n"
        "assert callable(spikenas.search)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
