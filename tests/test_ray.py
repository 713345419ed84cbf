"""The executor for clusters, on a real Ray; skipped by name where that is not installed."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes_executor import Deadly, Loaded, nap, take_bytes
from fakes_search import DigitEvaluator, DigitSpace
from test_executors import SETTINGS, check_contract, study, untimed

from spikenas.errors import MissingTool, RunError
from spikenas.run.executor import ExecutorSettings, SerialExecutor
from spikenas.run.folder import open_run
from spikenas.run.ray_executor import RayExecutor
from spikenas.run.search_study import StudySettings, search_study
from spikenas.space.space import Space

pytestmark = [
    pytest.mark.ray,
    # Ray leaves sockets and processes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_ray_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingTool, match=r"Ray is not installed; pip install 'spikenas\[ray\]'"):
        RayExecutor()


BY_STRUCTURE = StudySettings(input_shape=(1, 8, 8), classes=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.usefixtures("need_ray")
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:PORT", r"no Ray at 127.0.0.1:\d+ \(Connection refused\); give --address"),
        ("127.0.0.1:first", "no Ray at 127.0.0.1:first "),
        ("127.0.0.1:66000", "no Ray at 127.0.0.1:66000 "),
    ],
)
def test_an_address_where_nobody_listens_is_refused_at_once_and_leaves_no_folder(
    tmp_path: Path, address: str, words: str
) -> None:
    executor = ExecutorSettings("ray", address=address.replace("PORT", str(free_port())))
    begun = time.monotonic()
    with pytest.raises(RunError, match=words):
        search_study(BY_STRUCTURE, tmp_path / "out", executor=executor)
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("need_ray")
def test_a_second_driver_is_refused_before_it_connects(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, open_run(tmp_path / "out", {}):
        executor = ExecutorSettings("ray", address=f"127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(RunError, match="drives this run; wait for it"):
            search_study(BY_STRUCTURE, tmp_path / "out", executor=executor)


@pytest.fixture(scope="module")
def environment(need_ray: None) -> Iterator[dict[str, str]]:
    """In which workers find the modules of the tests, and Ray tells nobody of its use."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    patch.delenv("RAY_ADDRESS", raising=False)
    yield dict(os.environ)
    patch.undo()


@pytest.fixture(scope="module")
def ray_here(environment: dict[str, str]) -> Iterator[RayExecutor]:
    executor = RayExecutor(workers=2)
    yield executor
    executor.close()


def test_the_contract(ray_here: RayExecutor) -> None:
    check_contract(ray_here)


def test_the_function_travels_once_to_each_worker(ray_here: RayExecutor, tmp_path: Path) -> None:
    assert ray_here.map(Loaded(tmp_path), range(60)) == list(range(1, 61))
    loads = (tmp_path / "loaded").read_text().split()
    assert len(loads) == len(set(loads)) < 10


def test_ray_finds_what_serial_finds(ray_here: RayExecutor, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    space: Space[object] = DigitSpace()  # type: ignore[assignment]
    serial = study(tmp_path / "a", SerialExecutor(), DigitEvaluator(), space, SETTINGS)
    found = study(tmp_path / "b", RayExecutor(), DigitEvaluator(), space, SETTINGS)  # takes the Ray that is there
    assert untimed(found.trials) == untimed(serial.trials)
    assert found.best.genotype == serial.best.genotype


def test_killed_workers(ray_here: RayExecutor, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ray_here.map(Deadly(tmp_path, 2, 2), range(4)) == [0, 1, 4, 9]
    assert (tmp_path / "attempts").stat().st_size == 3
    (tmp_path / "attempts").unlink()
    found = ray_here.map(Deadly(tmp_path, 2, 100), range(4), None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert found == [0, 1, "its worker died 3 times", 9]
    with pytest.raises(RunError, match="could not be done: its worker died 3 times"):
        ray_here.map(Deadly(tmp_path, 2, 100), [2])
    time.sleep(1)  # Ray's words come from a thread
    assert capfd.readouterr().out == ""  # where the JSON of a verb would go


def test_time_and_memory_are_limited(ray_here: RayExecutor) -> None:
    timed = RayExecutor(trial_seconds=0.5)
    found = timed.map(nap, [0.0, 600.0, 0.1], None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert found == [0.0, "took longer than the 0.5 s it may", 0.1]
    small = RayExecutor(trial_bytes=2**28)
    said = small.map(take_bytes, [2**20, 2**29, 2**20], None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert said[::2] == [2**20, 2**20]
    assert str(said[1]).startswith("ran out of memory")


def test_what_no_node_has_is_refused(ray_here: RayExecutor) -> None:
    with pytest.raises(RunError, match=r"no node of the Ray cluster has 64 CPU for one trial"):
        RayExecutor(trial_cpus=64)
