"""The example at the end of every verb's help, typed as it stands there, with options that make it short."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from test_table import small, write_log

from spikenas.cli.main import app, main
from spikenas.cost.budget import format_bytes
from spikenas.score.table import save_table

SHORT = {
    "run": "--samples 50 --finalists 1 --epochs 1 --limit 200",
    "search": "--samples 50",
    "train": "--epochs 1 --limit 100",
    "quantize": "--qat 1",
    "verify": "--images 2",
    "compare-dense": "--images 1",
    "bench": "--only structure",
}
FIRST = ("run", "search", "export")
"""What the others look at."""
EMULATED = ("verify", "compare-dense")


def verbs(command: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every verb with its help, those of groups included."""
    if name:
        yield name, command.help
    for word, verb in getattr(command, "commands", {}).items():
        yield from verbs(verb, f"{name} {word}".strip())


HELP = dict(verbs(typer.main.get_command(app)))


def type_example(verb: str) -> int:
    (example,) = re.findall(r"Example: `spikenas (.*)`", HELP[verb])
    return main([*shlex.split(example), *shlex.split(SHORT.get(verb, ""))])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs, the table and the files that examples name."""
    folder = tmp_path_factory.mktemp("examples")
    save_table(small(15_625), folder / "cifar10.parquet")
    write_log(folder / "data" / "CIFAR10", 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in FIRST:
            assert type_example(verb) == 0
    return folder


@pytest.mark.parametrize("verb", HELP)
def test_help_ends_with_an_example_that_works(
    verb: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(r"Example: `spikenas .*`$", HELP[verb].strip())
    if verb in EMULATED and not (find_spec("unicorn") and find_spec("ziglang")):
        pytest.skip("needs spikenas[mcu]")
    if verb in FIRST:
        return
    if verb == "bench import":  # which wants all 15,625 logs
        monkeypatch.setattr("spikenas.score.table_import.check", lambda *_, **__: None)
    monkeypatch.chdir(place)
    code = type_example(verb)
    assert code == 0, capsys.readouterr().err


def test_a_run_tells_what_it_decided_and_what_to_do_next(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert type_example("run") == 0  # finished before: it goes on to its end at once
    told = capsys.readouterr()
    summary = json.loads((place / "runs" / "demo" / "summary.json").read_text())
    assert f"chose {summary['genotype']}: " in told.err
    assert f"fast kernels: {format_bytes(summary['cost']['flash_bytes'])} of 32.0 KB flash" in told.err
    following = [line.removeprefix("next").split() for line in told.out.splitlines()[-3:]]
    assert [words[:3] for words in following] == [
        ["spikenas", "verify", "runs/demo"],
        ["spikenas", "evaluate", "runs/demo"],
        ["spikenas", "export", "runs/demo"],
    ]


def test_examples_left_what_they_say(place: Path) -> None:
    assert (place / "runs" / "demo" / "report.html").stat().st_size > 10_000
    assert (place / "runs" / "study" / "summary.json").is_file()
    assert (place / "demo.nir").stat().st_size > 1000
