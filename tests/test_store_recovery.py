from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from fakes_search import DigitEvaluator, DigitSpace, any_trial
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from spikenas.cli.main import main
from spikenas.cli.study_verbs import compare, show, studies_app
from spikenas.errors import RunError
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.executor import SerialExecutor
from spikenas.run.folder import open_run
from spikenas.run.store import SqliteStore, open_study
from spikenas.run.store_pages import surviving_rows
from spikenas.run.store_recovery import recover_study
from spikenas.run.studies import compare_studies, export_study, list_studies, show_study
from spikenas.run.study import StudyResult, run_study
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.trial import TRAIN, Trial, trial_to_dict

SEARCH = SearchSettings(samples=900, batch=100, parents=8, finalists=8, first_epochs=1, rounds=3)


def search(folder: Path, *, seed: int = 3, evaluator: DigitEvaluator | None = None) -> StudyResult:
    """A run of nothing but a search; again, it goes on."""
    with open_run(folder, {"data": "none", "space": "digits", "seed": seed}) as run:
        with SqliteStore(run.study, run.settings) as store:
            strategy = make_strategy("screen-and-race", DigitSpace(), SEARCH, seed=seed)
            result = run_study(
                strategy, evaluator or DigitEvaluator(), SerialExecutor(), store, Checkpoints(run.weights)
            )
            if not store.stages():
                store.add_stage("search", 1.5)
        return result


def untimed(trials: list[Trial]) -> list[dict[str, object]]:
    return [trial_to_dict(trial) | {"seconds": 0} for trial in trials]


def trials_of(folder: Path) -> list[Trial]:
    with SqliteStore(folder / "study.sqlite", read_only=True) as store:
        return store.trials()


def pages(path: Path) -> tuple[bytearray, int]:
    data = bytearray(path.read_bytes())
    return data, int.from_bytes(data[16:18], "big")


# --- pages --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(any_trial, unique_by=lambda trial: trial.number, max_size=5), st.integers(0, 20_000))
def test_rows_of_a_whole_file_are_those_that_sqlite_reads(
    tmp_path_factory: pytest.TempPathFactory, trials: list[Trial], long: int
) -> None:
    """Long texts lie on pages of their own; rows not yet in the file lie in the log."""
    path = tmp_path_factory.mktemp("pages") / "study.sqlite"
    with SqliteStore(path, {"long": "x" * long}) as store:
        for trial in trials:
            store.add(trial, [{"loss": 0.5}])
        store.flush()
        assert path.with_name("study.sqlite-wal").stat().st_size > 0
        logged = sorted(surviving_rows(path), key=repr)
    assert sorted(surviving_rows(path), key=repr) == logged
    with closing(sqlite3.connect(path)) as database:
        expected = [
            (row[0], (None, *row[2:])) for row in database.execute("SELECT rowid, * FROM trials").fetchall()
        ] + [
            (row[0], row[1:])
            for table in ("study", "epochs", "stages", "sqlite_master")
            for row in database.execute(f"SELECT rowid, * FROM {table}").fetchall()
        ]
    assert sorted(map(repr, expected)) == sorted(map(repr, map(floats_as, logged)))


def floats_as(row: tuple[int, tuple[object, ...]]) -> tuple[int, tuple[object, ...]]:
    """SQLite stores 2.0 as 2 and gives it back as 2.0; columns 5 to 7 and 11 to 14 of a trial are such."""
    identity, columns = row
    if len(columns) != 16:
        return row
    real = {5, 6, 7, 11, 12, 13, 14}
    return identity, tuple(
        float(value) if place in real and isinstance(value, int) else value for place, value in enumerate(columns)
    )


# --- a damaged study ----------------------------------------------------------------------------------------


def test_a_damaged_page_is_refused_recovered_and_made_up_for(tmp_path: Path) -> None:
    """Every page in turn: lost is at most what lay on it, and the resumed search finds what was found before."""
    whole = search(tmp_path / "run")
    path = tmp_path / "run" / "study.sqlite"
    data, size = pages(path)
    count = len(data) // size
    assert count > 20
    before = {trial.number: trial for trial in trials_of(tmp_path / "run")}
    most_on_a_page = 0
    for page in range(count):
        damaged = bytearray(data)
        damaged[page * size : (page + 1) * size] = b"\xa5" * size
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"damaged .*spikenas studies recover"):
            SqliteStore(path).trials()
        recovery = recover_study(tmp_path / "run")
        assert recovery.damaged is not None
        assert recovery.damaged.read_bytes() == damaged
        recovery.damaged.unlink()
        saved = trials_of(tmp_path / "run")
        assert all(trial == before[trial.number] for trial in saved)
        assert recovery.trials == len(saved)
        most_on_a_page = max(most_on_a_page, len(before) - len(saved))
        if page in (1, count // 2):
            again = search(tmp_path / "run")
            assert untimed(list(again.trials)) == untimed(list(whole.trials))
            assert untimed(trials_of(tmp_path / "run")) == untimed(list(whole.trials))
    assert 10 < most_on_a_page < 100  # a page holds some 50 rows


def test_what_is_in_the_log_when_the_driver_dies_is_recovered_too(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 1}) as run:
        store = SqliteStore(run.study, run.settings)
        store.add(Trial(0, "a", TRAIN, 2, accuracy=0.5), [{"loss": 2.0}, {"loss": 1.0}])
        store.add_stage("search", 2.5)
        store.flush()
        killed = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("study.sqlite*")}
        store.close()
    for name, content in killed.items():
        (tmp_path / "run" / name).write_bytes(content)
    assert (tmp_path / "run" / "study.sqlite-wal").stat().st_size > 0
    (tmp_path / "run" / "study.sqlite-shm").unlink()
    (tmp_path / "run" / "study.sqlite").write_bytes(b"\xa5" * 4096)
    assert recover_study(tmp_path / "run").trials == 1
    with SqliteStore(tmp_path / "run" / "study.sqlite") as saved:
        assert saved.trials() == [Trial(0, "a", TRAIN, 2, accuracy=0.5)]
        assert saved.curve(0) == [{"loss": 2.0}, {"loss": 1.0}]
        assert saved.stages() == {"search": 2.5}
        assert saved.settings() == {"seed": 1}


def test_random_damage_never_breaks_recovery(tmp_path: Path) -> None:
    import numpy as np

    search(tmp_path / "run")
    path = tmp_path / "run" / "study.sqlite"
    good = path.read_bytes()
    truth = {trial.number for trial in trials_of(tmp_path / "run")}
    for seed in range(5):
        damaged = np.frombuffer(good, np.uint8).copy()
        rng = np.random.default_rng(seed)
        damaged[rng.integers(0, len(damaged), 200)] = rng.integers(0, 256, 200)
        path.write_bytes(damaged.tobytes()[: len(good) - int(rng.integers(0, 5000))])
        recovery = recover_study(tmp_path / "run")
        assert 0.6 * len(truth) < recovery.trials <= len(truth) + 20


def test_a_study_in_order_is_left_alone(tmp_path: Path) -> None:
    search(tmp_path / "run")
    before = (tmp_path / "run" / "study.sqlite").read_bytes()
    recovery = recover_study(tmp_path / "run")
    assert (recovery.trials, recovery.damaged) == (914, None)
    assert (tmp_path / "run" / "study.sqlite").read_bytes() == before
    with pytest.raises(RunError, match="not the folder of a run"):
        recover_study(tmp_path)


# --- list, show, compare, export ----------------------------------------------------------------------------


def test_lists_and_tells(tmp_path: Path) -> None:
    result = search(tmp_path / "runs" / "a")
    search(tmp_path / "runs" / "deep" / "b", seed=4, evaluator=DigitEvaluator(failing="33"))
    (tmp_path / "runs" / "c").mkdir()
    with open_run(tmp_path / "runs" / "c", {"seed": 0}):
        pass
    (tmp_path / "runs" / "c" / "study.sqlite").write_bytes(b"no database")
    a, c, b = list_studies(tmp_path / "runs")
    assert (a.trials, a.trained, a.failed, a.finished) == (914, 14, 0, False)
    assert a.done + a.rejected == 914
    assert a.best == result.best
    assert b.failed == sum("33" in trial.genotype for trial in trials_of(tmp_path / "runs" / "deep" / "b"))
    assert "damaged" in c.problem
    details = show_study(tmp_path / "runs" / "deep" / "b")
    assert details.failures == {"asked to fail": b.failed}
    assert details.stages == {"search": 1.5}
    assert len(details.curve) == 4
    assert details.top[0] == b.best
    with pytest.raises(RunError, match="no such folder"):
        list_studies(tmp_path / "none")


def test_compares(tmp_path: Path) -> None:
    search(tmp_path / "a")
    search(tmp_path / "b", seed=4, evaluator=DigitEvaluator(failing="33"))
    found = compare_studies(tmp_path / "a", tmp_path / "b")
    assert found.settings == {"seed": (3, 4)}
    one = {(t.genotype, t.measure, t.epochs) for t in trials_of(tmp_path / "a")}
    two = {(t.genotype, t.measure, t.epochs) for t in trials_of(tmp_path / "b")}
    differing = {key for key in one & two if "33" in key[0]}
    assert {(a.genotype, a.measure, a.epochs) for a, _ in found.differing} == differing
    assert (found.same, found.only_first, found.only_second) == (
        len(one & two) - len(differing),
        len(one - two),
        len(two - one),
    )


def test_exports(tmp_path: Path) -> None:
    search(tmp_path / "run")
    trials = [trial_to_dict(trial) for trial in trials_of(tmp_path / "run")]
    assert export_study(tmp_path / "run", tmp_path / "trials.parquet") == 914
    table = parquet.read_table(tmp_path / "trials.parquet")
    assert table.to_pylist() == trials
    assert {str(table.schema.field(name).type) for name in ("macs", "flash_bytes")} == {"int64"}
    assert str(table.schema.field("synops").type) == "double"  # though no trial has one
    export_study(tmp_path / "run", tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["genotype"] for row in rows] == [trial["genotype"] for trial in trials]
    assert [row["score"] and float(row["score"]) for row in rows] == [
        "" if trial["score"] is None else trial["score"] for trial in trials
    ]
    assert export_study(tmp_path / "run", tmp_path / "epochs.parquet", epochs=True) == 8 + 4 * 2 + 2 * 4
    epochs = parquet.read_table(tmp_path / "epochs.parquet").to_pylist()
    assert [row["curve_epoch"] for row in epochs[-4:]] == [1, 2, 3, 4]
    with pytest.raises(RunError, match=r"must end in .parquet or .csv"):
        export_study(tmp_path / "run", tmp_path / "trials.xlsx")


def test_what_was_only_trained_is_no_study_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(tmp_path / "a")
    with open_study(tmp_path / "b", {"data": "none", "genotype": "t1-b8", "seed": 0}):
        pass
    (tmp_path / "b" / "summary.json").write_text('{"fits": true}')
    with pytest.raises(RunError, match=r"b: trained t1-b8 and searched nothing.* report --compare .*a .*b"):
        compare_studies(tmp_path / "a", tmp_path / "b")
    assert main(["studies", "--in", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "t1-b8" in line)
    assert "│ trained │" in " ".join(line.split())


def test_a_study_that_is_elsewhere_is_asked_for(tmp_path: Path) -> None:
    with open_run(tmp_path, {"seed": 0}):
        pass
    with pytest.raises(RunError, match=r"holds no study.sqlite; if its study is in a database, give its --store URL"):
        show_study(tmp_path)


def test_verbs(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.add_typer(studies_app, name="studies")
    app.command()(show)
    app.command()(compare)

    def said(*words: str | Path) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    search(tmp_path / "a")
    search(tmp_path / "b", seed=4)
    assert "914" in said("studies", "--in", tmp_path)
    assert [item["trials"] for item in json.loads(said("studies", "--in", tmp_path, "--json"))] == [914, 914]
    best = max(trials_of(tmp_path / "a"), key=lambda trial: (trial.epochs, trial.accuracy or 0)).genotype
    assert best in said("show", tmp_path / "a")
    assert json.loads(said("show", tmp_path / "a", "--json"))["summary"]["best"]["genotype"] == best
    assert "seed" in said("compare", tmp_path / "a", tmp_path / "b")
    assert json.loads(said("compare", tmp_path / "a", tmp_path / "b", "--json"))["settings"] == {"seed": [3, 4]}
    assert "over budget" in said("compare", tmp_path / "a", tmp_path / "b")
    assert "914 rows" in said("studies", "export", tmp_path / "a", "--to", tmp_path / "a.csv")
    assert "in order, 914 trials" in said("studies", "recover", tmp_path / "a")
    (tmp_path / "a" / "study.sqlite").write_bytes(b"\0" * 8192)
    assert "save what can be read with: spikenas studies recover" in said("studies", "--in", tmp_path)
    assert "saved 0 trials" in said("studies", "recover", tmp_path / "a")
