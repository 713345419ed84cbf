"""The store of a team, in a real PostgreSQL server that these tests start; skipped by name where there is none."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_search import DigitEvaluator, DigitSpace, any_trial
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenas.errors import MissingTool, RunError
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.executor import SerialExecutor
from spikenas.run.store import SqliteStore, open_store, open_study
from spikenas.run.store_sql import NUL, SCHEMA, SqlStore, sql_studies, without_password
from spikenas.run.studies import list_studies, show_study
from spikenas.run.study import StudyResult, run_study
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.trial import TRAIN, Trial

SEARCH = SearchSettings(samples=120, batch=20, parents=8, finalists=8, first_epochs=1, rounds=3)
PASSWORD = "hunter2"


def program(name: str) -> str | None:
    """Debian keeps the server's programs out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a server of our own; PostgreSQL refuses to run as root, so then it runs as its own user."""
    for package in ("sqlalchemy", "psycopg"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'spikenas[postgres]'")
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    as_user: dict[str, object] = {}
    if os.getuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
        as_user = {"user": user.pw_uid, "group": user.pw_gid}
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if as_user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        run = {"cwd": folder, "check": True, "capture_output": True, **as_user}
        options = ["-D", folder / "data", "-U", "team", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
        subprocess.run([program("initdb"), *options, "-E", "UTF8", "--no-sync"], **run)  # type: ignore[call-overload]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [program("postgres"), "-D", folder / "data", "-p", str(port), "-k", folder, "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1"],
                cwd=folder, stdout=log, stderr=log, **as_user,  # type: ignore[call-overload]
            )  # fmt: skip
        url = f"postgresql://team:{PASSWORD}@127.0.0.1:{port}/postgres"
        try:
            wait_for(lambda: answers(url))
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def study(url: str, folder: Path, evaluator: DigitEvaluator | None = None) -> StudyResult:
    with open_store(folder / "study.sqlite", {"seed": 3}, url) as store:
        strategy = make_strategy("screen-and-race", DigitSpace(), SEARCH, seed=3)
        weights = Checkpoints(folder / "weights")
        return run_study(strategy, evaluator or DigitEvaluator(), SerialExecutor(), store, weights)


def untimed(trials: tuple[Trial, ...] | list[Trial]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


@settings(deadline=None, max_examples=20)
@given(st.lists(any_trial, unique_by=lambda trial: trial.number, max_size=5), st.uuids())
def test_what_goes_in_comes_out(server: str, trials: list[Trial], name: object) -> None:
    expected = [
        replace(trial, genotype=trial.genotype.replace("\0", NUL), reason=trial.reason.replace("\0", NUL))
        for trial in sorted(trials, key=lambda trial: trial.number)
    ]
    with SqlStore(server, str(name)) as store:
        for trial in trials:
            store.add(trial)
        assert store.trials() == expected
    with SqlStore(server, str(name), read_only=True) as again:
        assert again.trials() == expected


def test_settings_curves_and_stages(server: str) -> None:
    curve = [{"loss": 2.5, "accuracy": 0.25}, {"loss": 1.5, "accuracy": 0.5}]
    with SqlStore(server, "kept", {"seed": 7, "search": {"samples": 3}}) as store:
        store.add(Trial(1, "a", TRAIN, 2, accuracy=0.5), curve)
        for name, seconds in (("search", 2.0), ("train", 1.0), ("search", 0.5)):
            store.add_stage(name, seconds)
    with SqlStore(server, "kept", read_only=True) as store:
        assert store.settings() == {"seed": 7, "search": {"samples": 3}}
        assert (store.curve(1), store.curve(0)) == (curve, [])
        assert list(store.stages().items()) == [("search", 2.5), ("train", 1.0)]
    with SqlStore(server, "other", {}) as other:
        assert other.trials() == []
        assert other.stages() == {}
    assert {"kept", "other"} <= set(sql_studies(server))


def test_a_study_is_the_same_as_in_a_file_and_goes_on(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with SqliteStore(tmp_path / "file" / "study.sqlite") as store:
        strategy = make_strategy("screen-and-race", DigitSpace(), SEARCH, seed=3)
        weights = Checkpoints(tmp_path / "file" / "weights")
        whole = run_study(strategy, DigitEvaluator(), SerialExecutor(), store, weights)
    first = study(server, tmp_path / "team")
    assert untimed(first.trials) == untimed(whole.trials)
    again = study(server, tmp_path / "team", DigitEvaluator(failing="0123456789"))  # would fail if it were asked
    assert again.trials == first.trials
    assert not (tmp_path / "team" / "study.sqlite").exists()


DRIVE = """
import sys
from pathlib import Path
from fakes_search import DigitEvaluator
from test_store_postgres import study
study(sys.argv[1], Path(sys.argv[2]), DigitEvaluator(pause=0.3))
"""


def test_the_second_driver_is_refused_and_a_killed_one_can_be_followed(server: str, tmp_path: Path) -> None:
    def kept() -> int:
        try:
            with SqlStore(server, "driven", read_only=True) as store:
                return len(store.trials())
        except RunError:  # not made yet
            return 0

    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", DRIVE, server, str(tmp_path / "driven")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as process:
        wait_for(lambda: kept() >= 3)
        with pytest.raises(RunError, match="another process drives study 'driven'"):
            study(server, tmp_path / "driven")
        process.kill()
    survived = kept()
    assert 3 <= survived < 134
    wait_for(lambda: free(server))
    result = study(server, tmp_path / "driven")
    assert [trial.number for trial in result.trials] == list(range(134))
    assert kept() == 134


def test_the_folder_remembers_the_database_and_a_refused_driver_leaves_none(server: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    first, second = tmp_path / "here" / "shared", tmp_path / "there" / "shared"
    with open_study(first, {"seed": 3}, server) as (_, store):
        store.add(Trial(0, "a", "structure"))
        with (
            pytest.raises(RunError, match="another process drives study 'shared'"),
            open_study(second, {"seed": 3}, server),
        ):
            pass
    with open_study(second, {"seed": 4}):  # the folder is free for other settings
        pass
    kept = json.loads((first / "run.json").read_text())["store"]
    assert kept == server.replace(f":{PASSWORD}", "")
    with pytest.raises(RunError, match="no password supplied"):
        show_study(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        assert show_study(first).summary.trials == 1
        assert [summary.trials for summary in list_studies(tmp_path)] == [1, 0]
        with open_study(first, {"seed": 3}) as (_, store):  # goes on there
            assert len(store.trials()) == 1


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://team:a%40b@host:5432/nas", "postgresql://team@host:5432/nas"),
        (
            "postgresql+psycopg://team@host/nas?password=secret&sslmode=require",
            "postgresql://team@host/nas?sslmode=require",
        ),
        ("postgresql:///nas", "postgresql:///nas"),
    ],
)
def test_no_password_is_written_down(url: str, kept: str) -> None:
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed: pip install 'spikenas[postgres]'")
    assert without_password(url) == kept


def free(url: str) -> bool:
    try:
        SqlStore(url, "driven", {"seed": 3}).close()
    except RunError:
        return False
    return True


def test_what_cannot_be_used_is_refused_without_the_password(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import create_engine, text

    def refused(url: str, name: str = "kept", **more: object) -> str:
        with pytest.raises(RunError) as caught:
            SqlStore(url, name, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        return str(caught.value)

    SqlStore(server, "kept here", {"seed": 1}).close()
    assert "study 'kept here' has other settings" in refused(server, "kept here", settings={"seed": 2})
    assert "no study 'absent'" in refused(server, "absent", read_only=True)
    assert "Connection refused" in refused(f"postgresql://team:{PASSWORD}@127.0.0.1:1/postgres")
    assert "authentication failed" in refused(server.replace(f":{PASSWORD}@", ":wrong@"))
    assert "only postgresql:// is known" in refused("mysql://host/x")
    assert "not a URL" in refused("nonsense")
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as database:
        database.execute(text(f"INSERT INTO spikenas_schema VALUES ({SCHEMA + 1})"))
    assert f"study schema {SCHEMA + 1}, this version reads up to {SCHEMA}" in refused(server)
    with engine.begin() as database:
        database.execute(text(f"DELETE FROM spikenas_schema WHERE version = {SCHEMA + 1}"))
    engine.dispose()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingTool, match=r"pip install 'spikenas\[postgres\]'"):
        SqlStore(server, "kept")


def test_a_connection_that_breaks_is_one_line_and_what_was_kept_stays(server: str) -> None:
    from sqlalchemy import create_engine, text

    store = SqlStore(server, "broken")
    store.add(Trial(0, "a", "structure"))
    store.flush()
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as database:
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'team'"
        )
        database.execute(text(others))
    engine.dispose()
    store.add(Trial(1, "b", "structure"))
    with pytest.raises(RunError, match="run the same command again"):
        store.flush()
    with SqlStore(server, "broken"):  # the lock has gone with the connection
        pass
    with pytest.raises(RunError, match="the connection is lost"):
        store.close()
    with SqlStore(server, "broken") as again:
        assert [trial.number for trial in again.trials()] == [0]


def test_100_000_trials_in_and_out_within_ten_seconds(server: str) -> None:
    costs = {"flash_bytes": 30_000, "ram_bytes": 9_000, "macs": 10**6, "energy_nj": 12.5, "latency_ms": 3.25}
    begun = time.process_time()
    with SqlStore(server, "large") as store:
        for number in range(100_000):
            store.add(Trial(number, "t4-b8-k3s1-16:30s.01.3-32:003.00.0-pool", "structure", score=number / 3, **costs))
    with SqlStore(server, "large") as store:
        trials = store.trials()
    seconds = time.process_time() - begun
    assert trials[-1].score == 99_999 / 3
    assert len(trials) == 100_000

    assert seconds < 10
