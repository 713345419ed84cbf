"""The documentation says what happens: its files are written, its commands and sessions executed, its messages met."""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from PIL import Image

from spikenas.cli.main import main
from spikenas.score.scores import PROBE_SCORES
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.table import COLUMNS
from spikenas.space.operations import CODES, OPERATIONS
from spikenas.space.space import SPACES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SMALL = {
    "run": {"--limit": "100", "--epochs": "1", "--samples": "50", "--finalists": "0"},
    "search": {"--limit": "100", "--samples": "50", "--finalists": "0"},
    "verify": {"--images": "1"},
}
"""What is added to commands that do not say it themselves, so that they take seconds."""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; what pages add to dictionaries and modules is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with ExitStack() as stack:
        for names in (OPERATIONS, CODES, SPACES, STRUCTURE_SCORES, PROBE_SCORES):
            stack.enter_context(patch.dict(names))
        yield tmp_path
    for module in ("my_spikenas", "my_probe_score"):
        sys.modules.pop(module, None)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, file name or "", text) of each block of code."""
    return [(match[1], match[2] or "", match[3]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def follow(page: Path) -> None:
    """Do what a page says, block by block."""
    namespace: dict[str, Any] = {}
    for language, title, text in blocks(page):
        if title:
            Path(title).parent.mkdir(parents=True, exist_ok=True)
            Path(title).write_text(text, encoding="utf-8")
        elif language == "sh":
            for command in text.replace("\\\n", " ").splitlines():
                assert execute(command) == 0, command
        elif language == "python":
            exec(compile(text, str(page), "exec"), namespace)
        elif language == "pycon":
            test = doctest.DocTestParser().get_doctest(text, namespace, page.name, str(page), 0)
            doctest.DebugRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)


def execute(command: str) -> int:
    """The exit code of a command line; spikenas and python are not processes of their own, to save time."""
    program, *arguments = shlex.split(command)
    if program == "make":
        return subprocess.run([program, *arguments], check=False, capture_output=True).returncode
    script = arguments.pop(0) if program == "python" else ""
    for flag, value in SMALL.get(arguments[0] if arguments else "", {}).items():
        arguments += [] if flag in arguments else [flag, value]
    if not script:
        assert program == "spikenas", command
        return main(arguments)
    with patch.object(sys, "argv", [script, *arguments]):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def need_emulator() -> None:
    """Skip where the packages of spikenas[mcu] are absent."""
    for package in ("ziglang", "unicorn", "elftools"):
        pytest.importorskip(package)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["operation", "score", pytest.param("board", marks=pytest.mark.arm), "space"])
def test_every_how_to_works_as_written(name: str, workplace: Path) -> None:
    if name == "board":
        need_emulator()
    follow(DOCS / "howto" / f"{name}.md")


def test_the_scores_of_the_method_by_hand_are_those_of_the_code(workplace: Path) -> None:
    follow(DOCS / "method.md")


def test_the_columns_of_a_table_are_told_in_full() -> None:
    page = (DOCS / "howto" / "table.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == COLUMNS


@pytest.mark.slow
@pytest.mark.arm
def test_the_tutorial_leads_from_images_to_firmware(workplace: Path) -> None:
    need_emulator()
    pytest.importorskip("nir")
    follow(DOCS / "tutorial.md")
    assert (workplace / "firmware" / "network.c").is_file()
    assert (workplace / "first.nir").is_file()


# --- the messages -----------------------------------------------------------------------------------------


@pytest.fixture
def faults(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page of messages supposes: images with faults, a folder in use, a finished run, no cross compiler."""
    for folder, sizes in (
        ("pets/cat", (8, 8, 8)),
        ("pets/dog", (8,)),
        ("sizes/cat", (8, 8, 8, 10)),
        ("sizes/dog", (8,) * 4),
    ):
        Path(folder).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("L", (size, size)).save(Path(folder, f"{number}.png"))
    Path("notes").mkdir()
    Path("notes/todo.txt").touch()
    assert execute("spikenas run --data digits --flash 32KB --out runs/first") == 0
    monkeypatch.setattr("spikenas.deploy.toolchain.find_spec", lambda name: None)
    monkeypatch.setattr("spikenas.deploy.verify.COMPILERS", ("zig",))


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
def test_every_message_is_what_the_command_before_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = [text for language, _, text in blocks(DOCS / "errors.md") if language == "console"]
    assert len(sessions) > 10
    for text in sessions:
        command, message = text.splitlines()
        capsys.readouterr()
        code = execute(command.removeprefix("$ "))
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.replace(str(Path.cwd()), "/home/me") == message
        assert code == (3 if "smallest network" in message else 2), command


# --- the site ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    built = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "site/reference/cost/index.html").read_text(encoding="utf-8")
    assert 'id="spikenas.cost.memory.plan_memory"' in reference
    assert '<span class="gp">>>> </span>' in reference.replace("&gt;", ">")
    assert "<blockquote>" not in reference  # what >>> is to Markdown
