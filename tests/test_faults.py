"""Faults that are really produced: killed workers, trials out of time and memory, a full disk, a node that leaves.

A killed driver is in test_study, two drivers in test_artifacts, a damaged page in test_store_recovery.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_executor import Troubled
from fakes_search import DigitEvaluator, DigitSpace

from spikenas.errors import RunError
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import Evaluator
from spikenas.run.executor import Executor, SerialExecutor
from spikenas.run.folder import open_run
from spikenas.run.process_executor import ProcessExecutor
from spikenas.run.store import SqliteStore
from spikenas.run.study import StudyResult, run_study
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.trial import Trial, TrialState

SETTINGS = SearchSettings(samples=120, batch=20, parents=8, finalists=8, first_epochs=1, rounds=3)


def study(
    folder: Path, evaluator: Evaluator, executor: Executor, settings: SearchSettings | None = None
) -> StudyResult:
    with open_run(folder, {"seed": 3}) as run, SqliteStore(run.study, run.settings) as store:
        strategy = make_strategy("screen-and-race", DigitSpace(), settings or SETTINGS, seed=3)
        try:
            return run_study(strategy, evaluator, executor, store, Checkpoints(run.weights))
        finally:
            executor.close()


def untimed(trials: tuple[Trial, ...] | list[Trial]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


def kept(folder: Path) -> list[Trial]:
    with SqliteStore(folder / "study.sqlite", read_only=True) as store:
        return store.trials()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """The study without any fault."""
    return study(tmp_path_factory.mktemp("whole"), DigitEvaluator(), SerialExecutor())


@pytest.mark.parametrize("number", [0, 30, 122, 133])
def test_a_worker_killed_in_mid_trial_changes_nothing(tmp_path: Path, whole: StudyResult, number: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    found = study(tmp_path / "run", Troubled(folder=marks, kills_once=number), ProcessExecutor(2))
    assert (marks / "killed").exists()
    assert untimed(found.trials) == untimed(whole.trials)
    assert untimed(kept(tmp_path / "run")) == untimed(whole.trials)


def test_trials_that_kill_hang_or_swell_are_failed_with_their_reason_and_no_other(
    tmp_path: Path, whole: StudyResult
) -> None:
    evaluator = Troubled(folder=tmp_path, kills_always=5, hangs=37, swells=61)
    found = study(tmp_path / "run", evaluator, ProcessExecutor(2, trial_seconds=3, trial_bytes=2**28))
    reasons = {trial.number: trial.reason for trial in found.trials if trial.state is TrialState.FAILED}
    assert reasons.keys() == {5, 37, 61}
    assert reasons[5] == "its worker died 3 times (killed by SIGKILL)"
    assert reasons[37] == "took longer than the 3 s it may"
    assert reasons[61].startswith("ran out of memory (Unable to allocate 2.00 GiB")
    # The 20 trials of a batch are proposed before any of them ends; later ones may well differ by what failed.
    expected = [trial for trial in whole.trials[:20] if trial.number != 5]
    assert untimed([trial for trial in found.trials[:20] if trial.number != 5]) == untimed(expected)
    assert untimed(kept(tmp_path / "run")) == untimed(found.trials)
    # And the search that goes on from the store asks nothing again, the failed ones included.
    again = study(tmp_path / "run", DigitEvaluator(failing="0123456789"), SerialExecutor())
    assert again.trials == found.trials


# --- a full disk --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here: that takes root on Linux")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("room", [0, 20_000, 60_000, 120_000, 160_000])
def test_a_full_disk_is_one_line_and_the_search_goes_on_when_there_is_room(
    small_disk: Path, whole: StudyResult, room: int
) -> None:
    """The disk fills up at different moments of the screening."""
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (DISK_BYTES - room))
    with pytest.raises(RunError, match="disk") as caught:
        study(small_disk / "run", DigitEvaluator(), SerialExecutor())
    assert "\n" not in str(caught.value)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    found = study(small_disk / "run", DigitEvaluator(), SerialExecutor())
    assert untimed(found.trials) == untimed(whole.trials)
    assert untimed(kept(small_disk / "run")) == untimed(whole.trials)


def test_a_disk_that_fills_up_with_weights(small_disk: Path, whole: StudyResult) -> None:
    screened = study(small_disk / "run", DigitEvaluator(), SerialExecutor(), replace(SETTINGS, rounds=0))
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    os.truncate(filler, filler.stat().st_size - ROOM)
    with pytest.raises(RunError, match=r"disk is full|No space left") as caught:
        study(small_disk / "run", DigitEvaluator(), SerialExecutor())
    # The weights come first; the store, which then keeps what was measured before them, may fail after them.
    errors, error = [], caught.value
    while error is not None:
        errors.append(str(error))
        error = error.__context__  # type: ignore[assignment]
    assert any("epoch1.safetensors: cannot be written (No space left on device)" in words for words in errors)
    os.truncate(filler, 0)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert len(kept(small_disk / "run")) >= len(screened.trials)
    found = study(small_disk / "run", DigitEvaluator(), SerialExecutor())
    assert untimed(found.trials) == untimed(whole.trials)
    assert not list((small_disk / "run").glob("**/.*.tmp"))


DISK_BYTES = 262_144
ROOM = 32_768 + 5 * 4_096
"""Bytes for what the store keeps beside its file while it is open, and for the weights of some trials, not of eight."""


# --- a cluster that changes ---------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("need_ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_node_leaves_and_another_joins(tmp_path: Path, whole: StudyResult) -> None:
    """Two nodes on this machine; one is killed with trials on it, then another joins; nothing is lost or doubled."""
    with Cluster(tmp_path) as cluster:
        doomed = cluster.join()
        marks = tmp_path / "marks"
        marks.mkdir()
        script = [sys.executable, "-c", SEARCH, str(tmp_path / "run"), str(marks), cluster.address]
        with subprocess.Popen(script, env=cluster.environment, stderr=subprocess.PIPE) as process:
            cluster.wait_for(lambda: len(nodes_seen(marks)) == 2, process)
            cluster.leave(doomed)
            cluster.join()
            cluster.wait_for(lambda: len(nodes_seen(marks)) == 3 or process.poll() is not None, process)
            _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()
        assert len(nodes_seen(marks)) == 3
    assert untimed(kept(tmp_path / "run")) == untimed(whole.trials)


SEARCH = """
import sys
from pathlib import Path
from fakes_executor import Paced
from spikenas.run.ray_executor import RayExecutor
from test_faults import study
if __name__ == "__main__":
    study(Path(sys.argv[1]), Paced(pause=0.4, folder=Path(sys.argv[2])), RayExecutor(sys.argv[3]))
"""


def nodes_seen(marks: Path) -> set[str]:
    return {file.name for file in marks.iterdir()}


class Cluster:
    """Ray nodes of one CPU each on this machine, under a token of their own."""

    def __init__(self, folder: Path) -> None:
        self.ray = str(Path(sys.executable).with_name("ray"))
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a-token-for-this-test-only-0123456789",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray"),  # not in the test's folder: sockets must have short names
        }
        self.environment.pop("RAY_ADDRESS", None)
        self.nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        port = self.address.split(":")[1]
        self._start("--head", f"--port={port}", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
        return self

    def __exit__(self, *error: object) -> None:
        for node in reversed(self.nodes):
            self.leave(node)
        shutil.rmtree(self.environment["RAY_TMPDIR"], ignore_errors=True)

    def join(self) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.address}", "--node-ip-address=127.0.0.1")

    def leave(self, node: subprocess.Popen[bytes]) -> None:
        """Kill everything of a node, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(node.pid, 9)
        node.wait()

    def wait_for(self, happened, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + 180
        while not happened():
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        """A node that is ready. It stays in the foreground, so that its processes are one group."""
        command = [self.ray, "start", "--block", "--num-cpus=1", "--object-store-memory=80000000", *options]
        node = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.nodes.append(node)
        assert node.stdout is not None
        said = b""
        while b"Ray runtime started" not in said:
            line = node.stdout.readline()
            assert line, said.decode()
            said += line
        return node


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
