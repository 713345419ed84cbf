from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from fakes_search import any_trial
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenas.errors import RunError
from spikenas.run.store import MIGRATIONS, SCHEMA, SqliteStore
from spikenas.search.trial import TRAIN, TRIAL_FIELDS, Trial, TrialState


@settings(deadline=None, max_examples=50)
@given(st.lists(any_trial, unique_by=lambda trial: trial.number, max_size=5))
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, trials: list[Trial]) -> None:
    path = tmp_path_factory.mktemp("store") / "study.sqlite"
    with SqliteStore(path) as store:
        for trial in trials:
            store.add(trial)
        assert store.trials() == sorted(trials, key=lambda trial: trial.number)
    with SqliteStore(path) as again:
        assert again.trials() == sorted(trials, key=lambda trial: trial.number)


def test_settings_curves_and_stages(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    curve = [{"loss": 2.5, "accuracy": 0.25}, {"loss": 1.5, "accuracy": 0.5}]
    with SqliteStore(path, {"seed": 7, "search": {"samples": 3}}) as store:
        store.add(Trial(0, "a", "structure", score=1.0))
        store.add(Trial(1, "a", TRAIN, 2, accuracy=0.5), curve)
        store.add_stage("search", 2.0)
        store.add_stage("train", 1.0)
        store.add_stage("search", 0.5)  # the run was resumed
    with SqliteStore(path, {"seed": 8}, read_only=True) as store:
        assert store.settings() == {"seed": 7, "search": {"samples": 3}}
        assert store.curve(1) == curve
        assert store.curve(0) == []
        assert store.stages() == {"search": 2.5, "train": 1.0}


def test_a_second_reader_sees_what_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path) as store:
        store.add(Trial(0, "a", "structure"))
        store.flush()
        with SqliteStore(path, read_only=True) as reader:
            assert [trial.number for trial in reader.trials()] == [0]


def test_a_trial_that_took_long_is_kept_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path) as store, SqliteStore(path) as reader:
        store.add(Trial(0, "a", TRAIN, 1))
        clock = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda: clock)
        store.add(Trial(1, "b", TRAIN, 1))
        assert [trial.number for trial in reader.trials()] == [0, 1]


def test_100_000_trials_in_and_out_within_ten_seconds(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    genotype = "t4-b8-k3s1-16:30s.01.3-32:003.00.0-pool"
    costs = {"flash_bytes": 30_000, "ram_bytes": 9_000, "macs": 10**6, "energy_nj": 12.5, "latency_ms": 3.25}
    begun = time.process_time()  # not the clock on the wall, which other tests move too
    with SqliteStore(path) as store:
        for number in range(100_000):
            store.add(Trial(number, genotype, "structure", score=number / 3, **costs))
    with SqliteStore(path) as store:
        trials = store.trials()
    assert time.process_time() - begun < 10
    assert len(trials) == 100_000
    assert trials[-1] == Trial(99_999, genotype, "structure", score=99_999 / 3, **costs)
    begun = time.process_time()
    SqliteStore(path).close()
    assert time.process_time() - begun < 1


def test_the_table_has_a_column_for_every_field(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(trials)")]
    assert columns == list(TRIAL_FIELDS)


def test_an_old_store_is_migrated_and_keeps_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path, {"seed": 1}) as store:
        store.add(Trial(0, "a", "structure", score=2.0))
    monkeypatch.setattr("spikenas.run.store.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE notes (words TEXT)"))
    monkeypatch.setattr("spikenas.run.store.SCHEMA", SCHEMA + 1)
    with SqliteStore(path) as store:
        assert store.trials() == [Trial(0, "a", "structure", score=2.0)]
        assert store.settings() == {"seed": 1}
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA + 1,)
        assert database.execute("SELECT count(*) FROM notes").fetchone() == (0,)


def test_a_failing_migration_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path) as store:
        store.add(Trial(0, "a", "structure"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "spikenas.run.store.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE notes (words TEXT); CREATE nonsense")
        )
        patch.setattr("spikenas.run.store.SCHEMA", SCHEMA + 1)
        with pytest.raises(RunError, match="cannot be used"):
            SqliteStore(path)
    with SqliteStore(path) as store:
        assert len(store.trials()) == 1


def refused(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        SqliteStore(path).trials()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = path.read_bytes()
    assert f"study schema {SCHEMA + 1}, this version reads up to {SCHEMA}; upgrade spikenas" in refused(path)
    assert path.read_bytes() == before


def test_what_is_not_a_study_is_refused_and_not_touched(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("this is a letter, not a database\n" * 50)
    assert "file is not a database" in refused(text)
    assert text.read_text().startswith("this is a letter")

    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE songs (title TEXT)")
    before = other.read_bytes()
    assert "not a study of spikenas" in refused(other)
    assert other.read_bytes() == before
    assert "unable to open" in refused(tmp_path / "no" / "such" / "folder.sqlite")
    with pytest.raises(RunError, match="no such study"):
        SqliteStore(tmp_path / "absent.sqlite", read_only=True)
    assert not (tmp_path / "absent.sqlite").exists()


@pytest.mark.parametrize("page", [1, 3, -1])
def test_a_damaged_page_is_refused(tmp_path: Path, page: int) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path) as store:
        for number in range(2_000):
            store.add(Trial(number, f"genotype-{number}", "structure", reason="r" * 50))
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    begin = page % (len(data) // size) * size
    data[begin : begin + size] = b"\xa5" * size
    path.write_bytes(data)
    assert f"save what can be read with: spikenas studies recover {tmp_path}" in refused(path)


def test_two_writers_at_once_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    with SqliteStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store._database.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        store.add(Trial(0, "a", "structure"))
        with pytest.raises(RunError, match="another process writes to this study"):
            store.flush()
        other.execute("ROLLBACK")
        store.flush()
        assert len(store.trials()) == 1


def test_a_full_disk_is_one_line_and_loses_nothing_kept(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    store = SqliteStore(path)
    store.add(Trial(0, "a", "structure"))
    store.flush()
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(1, 2_000):
        store._pending.append((Trial(number, "a" * 100, "structure", state=TrialState.FAILED), ()))
    with pytest.raises(RunError, match="the disk is full; free space and run the same command again"):
        store.flush()
    with pytest.raises(RunError):
        store.close()
    with SqliteStore(path) as again:
        assert [trial.number for trial in again.trials()] == [0]
