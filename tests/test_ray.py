"""The executor for clusters, on a real Ray; skipped by name where that is not installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes_executor import Deadly, Loaded, nap, take_bytes
from fakes_search import DigitEvaluator, DigitSpace
from test_executors import SETTINGS, check_contract, study, untimed

from spikenas.errors import MissingTool, RunError
from spikenas.run.executor import SerialExecutor
from spikenas.run.ray_executor import RayExecutor
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


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """In which workers find the modules of the tests, and Ray tells nobody of its use."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'spikenas[ray]'")
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


def test_killed_workers(ray_here: RayExecutor, tmp_path: Path) -> None:
    assert ray_here.map(Deadly(tmp_path, 2, 2), range(4)) == [0, 1, 4, 9]
    assert (tmp_path / "attempts").stat().st_size == 3
    (tmp_path / "attempts").unlink()
    found = ray_here.map(Deadly(tmp_path, 2, 100), range(4), None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert found == [0, 1, "its worker died 3 times", 9]
    with pytest.raises(RunError, match="could not be done: its worker died 3 times"):
        ray_here.map(Deadly(tmp_path, 2, 100), [2])


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
