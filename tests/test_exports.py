"""Firmware of a run's folder: what it says of its network, and what it does without the run's images or end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fakes_report import small_graph
from networks_deploy import random_weights

from spikenas.cli.main import main
from spikenas.run.artifacts import save_model, write_json
from spikenas.run.exports import export_run
from spikenas.run.folder import RunFolder

NAMES = ['a "cat"', "tab\\by??/", "Löwe", *"defghij"]
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-DSPIKENAS_HOST")


def run_folder(path: Path, *, finished: bool = True, **settings: Any) -> Path:
    """The folder of a run of 10 classes whose images have gone."""
    told = {"data": str(path / "gone"), "target": "nrf52840", "flash_bytes": None, "ram_bytes": None, **settings}
    path.mkdir()
    write_json(path / "run.json", {"spikenas_run": 1, "settings": told})
    if finished:
        save_model(RunFolder(path, {}).integer_model, random_weights(small_graph(), 0))
        write_json(path / "summary.json", {"class_names": NAMES, "integer_accuracy": 0.875})
    return path


def compiled(firmware: Path, main_c: str) -> str:
    """What a program with the firmware prints."""
    (firmware / "main.c").write_text(main_c)
    sources = map(str, firmware.glob("*.c"))
    subprocess.run(["cc", *WARNINGS, "-o", str(firmware / "program"), *sources], check=True)
    return subprocess.run([str(firmware / "program")], capture_output=True, check=True).stdout.decode()


def test_firmware_names_its_classes_without_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = run_folder(tmp_path / "run"), tmp_path / "fw"
    assert main(["export", str(run), "--to", "c", "--out", str(out)]) == 0
    assert "no sample images" in capsys.readouterr().out
    shown = compiled(
        out,
        '#include <stdio.h>\n#include "class_names.h"\n#include "class_names.h"\n'
        "int main(void) { for (int i = 0; i < 10; ++i) puts(spikenas_class_names[i]); return 0; }",
    )
    assert shown.splitlines() == NAMES
    assert not any("class_names.h" in file.read_text() for file in out.glob("*.c") if file.name != "main.c")


def test_the_readme_has_a_program_that_compiles_and_the_figures(tmp_path: Path) -> None:
    export_run(run_folder(tmp_path / "run", flash_bytes=65536), "c", tmp_path / "fw")
    readme = (tmp_path / "fw" / "README.md").read_text()
    example = re.search(r"```c\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    end = "#include <stdio.h>\nint main(void) { puts(look()); return (int)sizeof image != SPIKENAS_INPUT_BYTES; }\n"
    assert compiled(tmp_path / "fw", example[1] + end).strip() in NAMES
    for words in ("| 2 | Löwe |", "87.50%", "of a budget of 64.0 KB", "-mcpu=cortex-m4 -mthumb", "uJ per inference"):
        assert words in readme


def test_runs_of_before_number_their_classes(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (run / "summary.json").unlink()
    export_run(run, "c", tmp_path / "fw")
    assert '"8",\n    "9"}' in (tmp_path / "fw" / "class_names.h").read_text()


def test_a_network_over_its_budget_is_written_with_a_warning(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", flash_bytes=1024)
    warning, _ = export_run(run, "c", tmp_path / "fw")
    assert warning.startswith("DOES NOT FIT: flash")
    assert warning.endswith("is over 1.0 KB")


@pytest.mark.parametrize("verb", [["export", "--to", "c", "--out", "x"], ["verify"], ["evaluate"]])
def test_a_run_before_its_end_is_told_how_to_go_on(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run", finished=False)
    assert main([verb[0], str(run), *verb[1:]]) == 2
    message = capsys.readouterr().err
    assert "training is not finished; repeat the command of the run" in message
    assert message.count("\n") == 1
