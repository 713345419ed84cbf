"""spikenas doctor on machines that have much and little."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from spikenas.cli.main import main


def tools(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str | None]]:
    assert main(["doctor", "--json"]) == 0
    return {tool["name"]: tool for tool in json.loads(capsys.readouterr().out)["tools"]}


def test_programs_are_found_and_asked_for_their_version(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in {"cc": "cc 1.2", "qemu-system-arm": "QEMU 9.8.7", "chromium-browser": "Chromium 5"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{words}'\necho more\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = tools(capsys)
    assert found["host compiler"]["version"] == "cc 1.2"
    assert found["qemu-system-arm"]["version"] == "QEMU 9.8.7"
    assert found["torch"]["version"] == metadata.version("torch")


def test_what_is_missing_comes_with_the_line_to_type(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("spikenas.data.datasets.FASHION_MNIST_FOLDER", tmp_path)

    def none_but_torch(name: str) -> str:
        if name == "torch":
            return "1"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("spikenas.run.doctor.version", none_but_torch)
    monkeypatch.setattr("spikenas.host_compiler.find_spec", lambda name: None)
    found = tools(capsys)
    missing = {name: tool["install"] for name, tool in found.items() if tool["version"] is None}
    assert missing["host compiler"] == "sudo apt-get install gcc"
    assert missing["qemu-system-riscv32"] == "sudo apt-get install qemu-system-misc"
    assert missing["arm-none-eabi-gcc"] == "sudo apt-get install gcc-arm-none-eabi"
    assert missing["fashion-mnist"] == "sudo apt-get install dataset-fashion-mnist"
    assert missing["psycopg"] == "pip install 'spikenas[postgres]'"
    assert found.keys() - missing.keys() <= {"torch", "GPU", "bfloat16"}
    assert main(["doctor"]) == 0
    assert "sudo apt-get install chromium" in capsys.readouterr().out
