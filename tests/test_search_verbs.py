"""spikenas search and analyze as a user meets them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from pyarrow import parquet

from spikenas.cli import progress
from spikenas.cli.main import main
from spikenas.cli.search_verbs import OBJECTIVE_WORDS
from spikenas.data.datasets import load_dataset
from spikenas.errors import RunError
from spikenas.graph import Graph
from spikenas.run.artifacts import plain
from spikenas.run.replay import bench_strategies
from spikenas.run.store import SqliteStore
from spikenas.score.bench import PredictorRow, bench_predictor
from spikenas.score.probe import draw_probe
from spikenas.score.score import StructureScore
from spikenas.score.scores import SCORES
from spikenas.score.structure import spiking_depth
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.table import Table, load_table, save_table
from spikenas.search.pareto import OBJECTIVES
from spikenas.search.settings import SearchSettings
from spikenas.search.trial import TRAIN, Trial, TrialState
from spikenas.space.space import load_space

FREE = ["search", "--input", "1x8x8", "--classes", "10", "--flash", "24KB", "--ram", "12KB"]


def trials_of(folder: Path) -> list[Trial]:
    try:
        with SqliteStore(folder / "study.sqlite", read_only=True) as store:
            return [replace(trial, seconds=0.0) for trial in store.trials()]
    except RunError:  # not made yet
        return []


def test_the_chosen_network_and_the_front_are_those_of_all_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    command = [*FREE, "--strategy", "evolution", "--samples", "120", "--population", "30"]
    assert main([*command, "--objectives", "score,ram", "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    done = [trial for trial in trials_of(out) if trial.done]
    assert summary["trials"] == 120 == len(trials_of(out))
    assert summary["rejected"] == 120 - len(done) > 0
    assert all(t.flash_bytes <= 24 * 1024 and t.ram_bytes <= 12 * 1024 for t in done)  # type: ignore[operator]
    best = max(done, key=lambda trial: trial.score or 0.0)
    assert (summary["genotype"], summary["best"]["score"]) == (best.genotype, best.score)
    points = [(-trial.score, trial.ram_bytes) for trial in done]  # type: ignore[operator]
    undominated = {(a, b) for a, b in points if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in points)}
    assert {(-trial["score"], trial["ram_bytes"]) for trial in summary["front"]} == undominated
    assert summary["front"][0]["genotype"] == best.genotype
    # for people, and again without evaluating anything
    assert main([*command, "--objectives", "score,ram", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    (chosen,) = (line for line in shown.splitlines() if " chosen " in line)
    assert best.genotype in chosen
    assert "not by training" not in shown
    assert shown.strip().splitlines()[-1] == f"next    spikenas train {out} --data PATH"


def test_finalists_race_where_there_are_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "--data", "digits", "--limit", "100", "--flash", "32KB", "--strategy", "learn-and-race"]
    settings = ["--samples", "40", "--finalists", "4", "--first-epochs", "1", "--rounds", "2"]
    scores = ["--measure", "parameters", "--shortlist-measure", "naswot"]
    assert main([*command, *settings, *scores, "--out", str(tmp_path / "x"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    trained = [trial for trial in trials_of(tmp_path / "x") if trial.measure == TRAIN]
    assert [trial.epochs for trial in trained] == [1, 1, 1, 1, 2, 2]
    again = [trial for trial in trials_of(tmp_path / "x") if trial.measure == "naswot"]
    assert {trial.genotype for trial in trained} <= {trial.genotype for trial in again if trial.done}
    assert summary["trained"] == 6
    assert summary["best"]["accuracy"] == max(trial.accuracy or 0.0 for trial in trained[4:])
    assert main([*command, *settings, *scores, "--out", str(tmp_path / "x")]) == 0
    assert "ranked by score parameters, not by training" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "x")]) == 0
    head = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")][:5]
    told = ("digits", "embedded", "parameters", "32.0 KB flash, the target's RAM", "0")
    assert tuple(text.strip() for _, text in head) == told


def test_a_file_hears_of_a_screening_every_twenty_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with progress.RunProgress() as told:
        told.stage("search", "at random")
        for number in range(90):  # one a second
            now += 1
            state = (TrialState.DONE, TrialState.REJECTED, TrialState.FAILED)[number % 3]
            told.trial(Trial(number, "a", "structure", state=state))
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert lines[1:-1] == [f"{n} trials, {n // 3} over budget" for n in (21, 42, 63, 84)]


def test_a_score_that_looks_at_images_ranks_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "--data", "digits", "--limit", "200", "--strategy", "random", "--samples", "30"]
    assert main([*command, "--flash", "16KB", "--measure", "naswot", "--out", str(tmp_path / "x"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    space, probe = load_space("embedded"), draw_probe(load_dataset("digits", limit=200).train, seed=0)
    values = [
        SCORES["naswot"](space.lower(space.parse(trial.genotype), (1, 8, 8), 10), probe)
        for trial in trials_of(tmp_path / "x")
        if trial.done
    ]
    assert summary["best"]["score"] == max(values)


@pytest.mark.parametrize(
    ("score", "words"),
    [(lambda graph: float("nan"), "it is nan"), (lambda graph: 1 / 0, "ZeroDivisionError: division by zero")],
)
def test_when_all_that_fit_fail_the_reason_is_told(
    score: Callable[[Graph], float],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(STRUCTURE_SCORES, "odd", StructureScore("odd", score))
    command = [*FREE, "--strategy", "random", "--samples", "20", "--measure", "odd"]
    assert main([*command, "--out", str(tmp_path / "x")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    fitting = sum(trial.state is TrialState.FAILED for trial in trials_of(tmp_path / "x"))
    assert 1 < fitting < 20
    assert message == f"spikenas: score 'odd' failed on all {fitting} networks that fit: {words}"


def test_a_score_of_nan_fails_its_trial_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def odd(graph: Graph) -> float:
        return float("nan") if graph.timesteps % 2 else float(graph.timesteps)

    monkeypatch.setitem(STRUCTURE_SCORES, "odd", StructureScore("odd", odd))
    out = tmp_path / "x"
    assert (
        main([*FREE, "--strategy", "random", "--samples", "60", "--measure", "odd", "--out", str(out), "--json"]) == 0
    )
    summary = json.loads(capsys.readouterr().out)
    failed = [trial for trial in trials_of(out) if trial.state is TrialState.FAILED]
    assert len(failed) == summary["failed"] > 0
    assert {trial.reason for trial in failed} == {"score 'odd' is nan"}
    assert len(trials_of(out)) == 60
    assert summary["best"]["score"] == max(trial.score or 0.0 for trial in trials_of(out) if trial.done)


def test_objectives_have_words() -> None:
    assert set(OBJECTIVE_WORDS.values()) == set(OBJECTIVES) - {"accuracy"}


SEARCH = """
import sys
from spikenas.cli.main import main
sys.exit(main(sys.argv[1:]) or "torch" in sys.modules)
"""


def test_a_killed_search_goes_on_to_the_same_trials(tmp_path: Path) -> None:
    """The process is really killed in mid-search; neither it nor the one that goes on loads torch."""
    command = [*FREE, "--samples", "250", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    whole = trials_of(tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SEARCH, *command, str(killed)], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(trials_of(killed)) > 0, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    survived = trials_of(killed)
    assert 0 < len(survived) < len(whole)
    assert survived == whole[: len(survived)]
    resumed = subprocess.run([sys.executable, "-c", SEARCH, *command, str(killed)], capture_output=True, check=False)
    assert resumed.returncode == 0
    assert trials_of(killed) == whole
    written = [json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "whole", killed)]
    assert written[0]["genotype"] == written[1]["genotype"]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


BAD = {
    "nothing to search for": ([], "give --data, or --input and --classes"),
    "half an input": (["--input", "1x8x8"], "give --data, or --input and --classes"),
    "data and input": (["--data", "digits", "--input", "1x8x8"], "are those of --data digits: leave them out"),
    "unknown objective": ([*FREE[1:], "--objectives", "score,size"], "objective 'size': choose from score, flash, ram"),
    "unknown measure": ([*FREE[1:], "--measure", "beauty"], "unknown measure 'beauty': choose from parameters"),
    "images needed later": (
        [*FREE[1:], "--shortlist-measure", "sahd"],
        "measure 'sahd' reads activations: give --data",
    ),
    "images needed": ([*FREE[1:], "--measure", "sahd"], "measure 'sahd' reads activations: give --data"),
    "training needed": ([*FREE[1:], "--strategy", "racing"], "strategy 'racing' trains networks: give --data"),
    "unknown strategy": ([*FREE[1:], "--strategy", "guess"], "unknown strategy 'guess': choose from screen-and-race"),
    "unknown operation": ([*FREE[1:], "--operations", "none,conv9"], "conv9"),
    "too large to exhaust": ([*FREE[1:], "--strategy", "exhaustive"], "exhaustive search takes at most 100000"),
    "a malformed shape": (["--input", "8x8", "--classes", "10"], "such as 3x32x32"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_of_search_is_one_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = BAD[case]
    assert main(["search", *arguments, "--out", str(tmp_path / "x")]) == 2
    output = capsys.readouterr()
    message = output.err.strip().splitlines()[-1]
    assert message.startswith("spikenas: ")
    assert words in message
    assert output.out == ""


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (["--flash", "1KB"], "flash budget 1.0 KB: the smallest network of space 'embedded' needs "),
        (["--ram", "0.2KB"], "RAM budget 204 B: the smallest network of space 'embedded' needs "),
        (["--energy", "0.001"], "energy budget 0.001 nJ: the smallest network of space 'embedded' needs "),
        (["--latency", "0.0001"], "latency budget 0.0001 ms: the smallest network of space 'embedded' needs "),
    ],
)
def test_impossible_constraints_say_which_and_by_how_much(
    limits: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "--input", "1x8x8", "--classes", "10", *limits, "--samples", "20"]
    assert main([*command, "--out", str(tmp_path / "x")]) == 3
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in message
    assert message.split("; ")[-1] == f"raise {limits[0]}"


# --- analyze ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 15,625 networks; threshold 0.5 costs a point an edge, the others bring one."""
    from test_score_bench import WHOLE

    gain = np.array([0, 0, -1, 1, 1])[WHOLE.ops].sum(axis=1).astype(np.float32)
    accuracy = np.float32(70) + gain
    made: Table = replace(
        WHOLE, test_acc=accuracy + 1, val_acc=np.repeat(accuracy[:, None], 2, axis=1), train_acc=WHOLE.train_acc[:, :2]
    )
    path = tmp_path_factory.mktemp("table") / "made.parquet"
    save_table(made, path)
    return path


def test_analysis_of_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["analyze", "--table", str(table), "--out", str(tmp_path / "x")]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    analysis = printed["analysis"]
    assert "lif_conv3x3_th0.5" not in analysis["recommended"]
    assert analysis["recommended"] == ["none", "skip", "lif_conv3x3_th1.0", "lif_conv3x3_th1.5"]
    networks = list(load_space("spikenas-bench").enumerate())
    gains = {"lif_conv3x3_th0.5": -1, "lif_conv3x3_th1.0": 1, "lif_conv3x3_th1.5": 1}
    worth = [sum(gains.get(edge.operation, 0) for edge in g.cell.connections) for g in networks]
    assert analysis["whole"]["mean"] == pytest.approx(0.7 + np.mean(worth) / 100, abs=1e-6)
    assert analysis["whole"]["test_mean"] == pytest.approx(0.71 + np.mean(worth) / 100, abs=1e-6)
    # the chart: a bar per row, as long as the gain
    svg = ElementTree.parse(printed["chart"]).getroot()
    lengths = [float(bar.attrib["width"]) for bar in svg.iter("{http://www.w3.org/2000/svg}rect")]
    differences = [abs(row["difference"]) for row in analysis["rows"]]
    assert len(lengths) == len(differences) == 5
    assert np.array(lengths) / max(lengths) == pytest.approx(np.array(differences) / max(differences), abs=1e-3)
    # for people
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "without lif_conv3x3_th0.5 networks gain" in shown
    assert "--operations none,skip,lif_conv3x3_th1.0,lif_conv3x3_th1.5" in shown


def test_analysis_by_short_trainings_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["analyze", "--data", "digits", "--limit", "100", "--networks", "2", "--epochs", "1", "--flash", "1MB"]
    out = tmp_path / "x"
    assert main([*command, "--out", str(out), "--json"]) == 0
    first = capsys.readouterr()
    trained = trials_of(out)
    assert all((trial.measure, trial.epochs) == (TRAIN, 1) for trial in trained)
    assert main([*command, "--out", str(out), "--json"]) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert trials_of(out) == trained
    assert (out / "analysis.svg").stat().st_size > 1000
    recommended = json.loads(first.out)["analysis"]["recommended"]
    search = [*FREE, "--operations", ",".join(recommended), "--samples", "20", "--out", str(tmp_path / "y")]
    assert main([*search, "--json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either --table or --data"),
        (["--data", "digits", "--table", "x"], "give either --table or --data"),
        (["--table", "no.parquet"], "no.parquet: no such file"),
        (["--data", "digits", "--networks", "1"], "--networks"),
        (["--data", "digits", "--flash", "1TB"], "byte count '1TB'"),
    ],
)
def test_bad_input_of_analyze_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", *arguments, "--out", str(tmp_path / "x")]) == 2
    output = capsys.readouterr()
    assert words in output.err.strip().splitlines()[-1]
    assert output.out == ""


# --- bench --------------------------------------------------------------------------------------------------


def test_strategies_on_a_table(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "--table", str(table), "--strategies", "--seeds", "2", "--samples", "150"]
    race = ["--finalists", "4", "--first-epochs", "1", "--rounds", "2", "--only", "random,learn-and-race"]
    assert main([*command, *race, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["strategies"]
    settings = SearchSettings(samples=150, measure="trainable_depth", finalists=4, first_epochs=1, rounds=2)
    expected = bench_strategies(load_table(table), {"random": settings, "learn-and-race": settings}, seeds=2)
    assert json.dumps(rows) == json.dumps(plain(expected))
    assert len(rows) == 2 * 7
    assert main([*command, *race]) == 0
    shown = capsys.readouterr().out
    mean = np.mean([row.mean_regret for row in expected if row.strategy == "learn-and-race"])
    line = next(line for line in shown.splitlines() if "learn-and-race" in line)
    assert line.split("│")[2].strip() == f"{mean:.2f}"
    assert line.split("│")[5].strip() == "6"  # four for one epoch, two for another


def test_predictor_on_a_table(table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the figures are is tested with the predictor; here, that they are those of this table."""

    def few(whole: Table, on_step: object, **told: object) -> list[PredictorRow]:
        assert told == {"seeds": 3, "input_shape": (3, 32, 32), "classes": 100}
        return bench_predictor(whole.take(np.arange(0, 15_625, 150)), (10,), seeds=1)

    monkeypatch.setattr("spikenas.score.bench.bench_predictor", few)
    command = ["bench", "--table", str(table), "--predictor", "--seeds", "3", "--classes", "100"]
    assert main([*command, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictor"]
    assert row["samples"] == 10
    assert main(command) == 0
    assert f"{row['tau']:.3f}" in capsys.readouterr().out


def test_with_images_all_scores_print_one_subset(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = {f"{part}_images": rng.integers(0, 256, (40, 8, 8, 3), np.uint8) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(40) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "noise.npz", **images, **labels)
    noise = ["--data", str(tmp_path / "noise.npz"), "--networks", "6", "--images", "10", "--seed", "3"]
    command = ["bench", "--table", str(table), "--only", "naswot,parameters", *noise]
    assert main([*command, "--input", "3x8x8"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "all scores judge the same 6 of 15,625 networks, drawn with seed 3; those that need images see 10" in shown
    assert shown.count(" 6/6 ") == 2
    assert main(command) == 2
    assert "10 classes of 3x8x8, the networks of the table 10 of 3x32x32: give" in capsys.readouterr().err


@pytest.fixture
def few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of every 100th network of its table, to save time."""
    monkeypatch.setattr(
        "spikenas.score.table.load_table", lambda path: load_table(path).take(np.arange(0, 15_625, 100))
    )


@pytest.mark.usefixtures("few_networks")
def test_scores_of_ones_own_that_crash_or_judge_nothing(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(graph: Graph) -> float:
        raise KeyError("typo")

    monkeypatch.setitem(STRUCTURE_SCORES, "broken", StructureScore("broken", crash))
    monkeypatch.setitem(STRUCTURE_SCORES, "blank", StructureScore("blank", lambda graph: float("nan")))
    command = ["bench", "--table", str(table)]
    for asked in (["--only", "broken"], ["--strategies", "--measure", "broken", "--only", "random"]):
        assert main([*command, *asked]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert re.fullmatch(
            r"spikenas: score 'broken' failed on network bench-\d{6}: KeyError: 'typo'", output.err.splitlines()[-1]
        )
    assert main([*command, "--only", "blank", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    ranking = printed["scores"][0]["ranking"]
    assert ranking["failed"] == ranking["count"] == printed["networks"] == 157
    assert (ranking["tau"], ranking["spearman"], set(ranking["regrets"].values())) == (None, None, {None})
    assert main([*command, "--only", "blank"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "blank" in line)
    assert [cell.strip() for cell in line.split("│")[2:5]] == ["0/157", "", ""]
    assert main([*command, "--strategies", "--measure", "blank"]) == 2
    assert "score 'blank' is no finite number for any of 157 networks" in capsys.readouterr().err


@pytest.mark.usefixtures("few_networks")
def test_strategies_screen_by_a_score_of_ones_own(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, np.ndarray]] = []

    def replayed(whole: Table, chosen: object, *, scores: dict[str, np.ndarray], **told: object) -> list[object]:
        heard.append(scores)
        return []

    monkeypatch.setitem(STRUCTURE_SCORES, "own", StructureScore("own", spiking_depth))
    monkeypatch.setattr("spikenas.run.replay.bench_strategies", replayed)
    assert main(["bench", "--table", str(table), "--strategies", "--measure", "own", "--json"]) == 0
    assert 0 < np.isnan(heard[0]["own"]).sum() < 157
    assert (np.nan_to_num(heard[0]["own"]) == heard[0]["spiking_depth"]).all()  # computed from the cells, 0: no path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategies", "--predictor"], "give one of them"),
        (["--strategies", "--only", "guess"], "unknown strategy 'guess': choose from screen-and-race"),
        (["--only", "beauty"], "unknown measure 'beauty'"),
        (["--only", "random"], "'random' is a strategy, not a score: add --strategies"),
        (["--only", "sahd"], "score 'sahd' reads activations: give --data"),
        (["--strategies", "--measure", "sahd"], "score 'sahd' reads activations: tables hold no images"),
        (["--data", "digits"], "--data digits has 10 classes of 1x8x8, the networks of the table 10 of 3x32x32"),
        (["--input", "8x8"], "such as 3x32x32"),
    ],
)
def test_bad_input_of_bench_is_one_line(
    arguments: list[str], words: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--table", str(table), *arguments]) == 2
    output = capsys.readouterr()
    assert words in output.err.strip().splitlines()[-1]
    assert output.out == ""


def test_tables_with_holes_are_one_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = parquet.read_table(table)
    parquet.write_table(whole.drop_columns(["val_acc", "params"]), tmp_path / "columns.parquet")
    parquet.write_table(whole.slice(0, 15_000), tmp_path / "ids.parquet")
    for name, words in (
        ("columns", "columns.parquet: no column params, val_acc: a benchmark table has"),
        ("ids", "ids.parquet: 625 of 15625 ids are missing (15000"),
    ):
        for verb in (["bench"], ["bench", "--strategies"], ["analyze", "--out", str(tmp_path / "x")]):
            assert main([*verb, "--table", str(tmp_path / f"{name}.parquet")]) == 2
            assert words in capsys.readouterr().err.strip().splitlines()[-1]
