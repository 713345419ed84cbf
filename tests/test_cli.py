"""The command line as a user meets it: exit codes, one-line errors, JSON on stdout."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spikenas.cli.main import main
from spikenas.cli.output import print_json
from spikenas.cost.target import TARGETS
from spikenas.data.datasets import SOURCES
from spikenas.space.space import SPACES

SNASNET = "0303 0030 2002 0200/p4"


def spikenas(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    output = capsys.readouterr()
    return code, output.out, output.err


def test_cost_prints_the_published_parameter_count(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = spikenas(capsys, "cost", SNASNET, "--space", "snasnet", "--target", "nrf52840")
    assert code == 0
    assert "19,520,356" in out


def test_cost_as_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = spikenas(capsys, "cost", SNASNET, "--space", "snasnet", "--json")
    result = json.loads(out)
    assert result["parameters"] == 19_520_356
    assert sum(layer["flash_bytes"] for layer in result["cost"]["layers"]) == result["cost"]["flash_bytes"]


def test_lists_hold_every_space_and_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(json.loads(spikenas(capsys, "spaces", "--json")[1])) == set(SPACES)
    assert set(json.loads(spikenas(capsys, "targets", "--json")[1])) == set(TARGETS)
    table = spikenas(capsys, "targets")[1]
    assert all(name in table for name in TARGETS)


BAD_INPUT = {
    "malformed genotype": (["cost", "nonsense"], "no genotype of space 'embedded'"),
    "unknown space": (["cost", SNASNET, "--space", "snas"], "space 'snas' is unknown"),
    "unknown target": (["cost", SNASNET, "--space", "snasnet", "--target", "nrf5284"], "did you mean 'nrf52840'"),
    "malformed shape": (["cost", SNASNET, "--space", "snasnet", "--input", "32x32"], "such as 3x32x32"),
    "unknown option": (["targets", "--foo"], "No such option: --foo"),
    "missing option": (["run", "--data", "digits"], "--out"),
    "malformed budget": (["run", "--data", "digits", "--flash", "12XB", "--out", "X"], "'12XB'"),
    "budget over target": (
        ["run", "--data", "digits", "--flash", "8MB", "--target", "nrf52840", "--out", "X"],
        "1.00 MB",
    ),
    "no table": (["bench"], "give a table"),
    "missing table": (["bench", "--table", "no.parquet"], "no.parquet: no such file; give a benchmark table"),
    "no run": (["verify", "nowhere"], "not the folder of a run"),
    "unknown dataset": (["run", "--data", "digitz", "--out", "X"], "digitz"),
    "unknown strategy": (["run", "--data", "digits", "--strategy", "guess", "--out", "X"], "screen-and-race"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_2(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, words = BAD_INPUT[case]
    code, out, err = spikenas(capsys, *arguments)
    message = err.strip().splitlines()[-1]
    assert code == 2
    assert words in message
    assert message.startswith("spikenas: ")
    assert out == ""


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = spikenas(capsys, "cost", "nonsense", "--json")
    assert json.loads(out)["exit_code"] == code == 2


def test_looking_never_loads_torch() -> None:
    program = "import sys; from spikenas.cli.main import main; main(['targets']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spikenas", "train", "t1-b8-k3s4-4:003.00.0-pool", "--data", "digits"]
    command += ["--epochs", "100000", "--limit", "50", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2:" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert rest.strip().splitlines()[-1] == (
        "spikenas: stopped; nothing finished is lost, the same command goes on from here"
    )


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    for verb in ("run", "search"):
        code, _, err = spikenas(capsys, verb, "--data", "digits", "--flash", "1KB", "--out", str(out))
        assert code == 3
        words = "spikenas: flash budget 1.0 KB: the smallest network of space 'embedded' needs"
        assert err.strip().splitlines()[-1].startswith(words)
        assert not out.exists()


COMPLETED = {
    "spikenas comp": {"compare", "compare-dense"},
    "spikenas run --fin": {"--finalists"},
    "spikenas run --data ": set(SOURCES),
    "spikenas train x --data fa": {"fashion-mnist"},
    "spikenas search --target stm32f4": {name for name in TARGETS if name.startswith("stm32f4")},
    "spikenas run --strategy r": {"random", "racing"},
    "spikenas analyze --space snas": {"snasnet", "snasnet-forward"},
    "spikenas export runs/x --to onnx": {"onnx", "onnx-integer"},
}


def test_a_shell_completes(tmp_path: Path) -> None:
    """As bash does it: the script that `--show-completion` prints, asked what it makes of each line."""
    (tmp_path / "spikenas").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spikenas "$@"\n')
    (tmp_path / "spikenas").chmod(0o755)
    script = ['eval "$(spikenas --show-completion bash)"']
    for line in COMPLETED:
        words = line.split(" ")
        script.append(f"COMP_WORDS=({' '.join(map(repr, words))}) COMP_CWORD={len(words) - 1}")
        script.append('_spikenas_completion spikenas; echo "${COMPREPLY[@]}"')
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-c", "\n".join(script)], capture_output=True, text=True, env=environment, check=True
    )
    answers = [set(answer.split()) for answer in result.stdout.splitlines()]
    assert dict(zip(COMPLETED, answers, strict=True)) == COMPLETED


def test_what_is_no_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"regrets": (math.nan, 0.5, -math.inf), "none": {"fits": math.inf}})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "regrets": [None, 0.5, None],
        "none": {"fits": None},
    }
