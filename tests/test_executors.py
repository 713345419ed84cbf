from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes_executor import Deadly, Loaded, Meeting, nap, refuse, slow_square, square, take_bytes, torch_threads
from fakes_search import DigitEvaluator, DigitSpace

from spikenas.cost.budget import Budget
from spikenas.cost.target import load_target
from spikenas.data.datasets import Dataset, load_dataset
from spikenas.data.split import Split
from spikenas.errors import GenotypeError, InputError, RunError
from spikenas.run.artifacts import load_model
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import Evaluator, NetworkEvaluator
from spikenas.run.executor import EXECUTORS, Executor, ExecutorSettings, SerialExecutor, make_executor, usable_cpus
from spikenas.run.folder import RunFolder
from spikenas.run.process_executor import ProcessExecutor
from spikenas.run.search_stage import SearchTask, epoch_work
from spikenas.run.store import SqliteStore
from spikenas.run.study import StudyResult, run_study
from spikenas.run.trainer import ShortTrainer
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.trial import Trial
from spikenas.snn.train import TrainConfig
from spikenas.space.space import Space, load_space

LOCAL = [name for name in EXECUTORS if name != "ray"]


@pytest.fixture
def four() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(4)
    yield executor
    executor.close()


# --- the contract of all executors --------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL)
def test_answers_are_in_order_and_each_is_reported_once(name: str) -> None:
    executor = make_executor(ExecutorSettings(name))
    check_contract(executor)
    executor.close()


def check_contract(executor: Executor) -> None:
    heard: list[tuple[int, int]] = []
    assert executor.map(slow_square, [0, 1, 2, 3], lambda *answer: heard.append(answer)) == [0, 1, 4, 9]
    assert sorted(heard) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert executor.map(square, []) == []
    assert executor.map(square, [7]) == [49]
    with pytest.raises(GenotypeError, match="3 is not to my taste"):
        executor.map(refuse, [1, 2, 3])
    assert executor.map(square, [8]) == [64]


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in [
        ({"name": "cloud"}, "executor 'cloud' is unknown: choose from auto, serial, processes, ray"),
        ({"name": "processes", "workers": 0}, "--workers 0: must be at least 1"),
        ({"name": "serial", "workers": 2}, "--workers: not with --executor serial; give --executor processes or ray"),
        ({"name": "serial", "trial_seconds": 1.0}, "--trial-seconds: not with --executor serial"),
        ({"name": "serial", "trial_bytes": 1}, "--trial-memory: not with --executor serial"),
        ({"name": "processes", "trial_seconds": -1.0}, "--trial-seconds -1.0: must be at least 0.001"),
        ({"name": "processes", "trial_seconds": float("nan")}, "--trial-seconds nan: must be at least 0.001"),
        ({"name": "processes", "address": "auto"}, "--address: not with --executor processes; give --executor ray"),
        ({"name": "processes", "trial_gpus": 1.0}, "--gpus-per-trial: not with --executor processes"),
        ({"name": "processes", "trial_cpus": 2.0}, "--cpus-per-trial: not with --executor processes"),
    ]:
        with pytest.raises(InputError) as caught:
            ExecutorSettings(**settings)  # type: ignore[arg-type]
        assert words in str(caught.value)
    assert isinstance(make_executor(ExecutorSettings()), SerialExecutor)


def test_auto_starts_processes_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikenas.run.executor.usable_cpus", lambda: (0, 1))
    assert isinstance(make_executor(ExecutorSettings(), heavy=True), ProcessExecutor)
    assert isinstance(make_executor(ExecutorSettings(trial_seconds=5.0)), ProcessExecutor)
    assert isinstance(make_executor(ExecutorSettings("serial"), heavy=True), SerialExecutor)
    monkeypatch.setattr("spikenas.run.executor.usable_cpus", lambda: (0,))
    assert isinstance(make_executor(ExecutorSettings(), heavy=True), SerialExecutor)


# --- processes ----------------------------------------------------------------------------------------------


def test_workers_are_several_pinned_with_one_thread_and_kept(four: ProcessExecutor, tmp_path: Path) -> None:
    found = four.map(Meeting(tmp_path, 4), range(8))
    processes = {answer["process"] for answer in found}
    assert len(processes) == 4
    assert os.getpid() not in processes
    assert all(len(answer["cpus"]) == 1 and set(answer["cpus"]) <= set(usable_cpus()) for answer in found)
    assert len({answer["cpus"][0] for answer in found}) == min(4, len(usable_cpus()))
    assert {answer["threads"] for answer in found} == {"1"}
    assert os.environ.get("OMP_NUM_THREADS") == FOUND_THREADS
    assert {answer["process"] for answer in four.map(Meeting(tmp_path, 4), range(8))} <= processes


FOUND_THREADS = os.environ.get("OMP_NUM_THREADS")


def worker_ids(executor: ProcessExecutor) -> list[int]:
    return [worker.process.pid for worker in executor._workers]


def test_torch_has_one_thread_in_a_worker() -> None:
    executor = ProcessExecutor(1)
    assert executor.map(torch_threads, [0]) == [1]
    executor.close()


def test_no_more_workers_than_items(four: ProcessExecutor) -> None:
    four.map(square, [1, 2])
    assert len(worker_ids(four)) <= 2


def test_the_function_travels_once_to_each_worker(four: ProcessExecutor, tmp_path: Path) -> None:
    function = Loaded(tmp_path)
    assert four.map(function, range(40)) == list(range(1, 41))
    assert four.map(function, range(40)) == list(range(1, 41))
    loads = (tmp_path / "loaded").read_text().split()
    assert len(loads) == len(set(loads)) <= 4


def test_large_items_and_answers_pass(four: ProcessExecutor) -> None:
    arrays = [np.full(2**21, value, np.float64) for value in range(3)]
    doubled = four.map(np.negative, arrays)
    assert [float(array[-1]) for array in doubled] == [0.0, -1.0, -2.0]
    assert {array.size for array in doubled} == {2**21}


def test_an_error_arrives_with_the_workers_traceback_and_leaves_the_executor_usable(four: ProcessExecutor) -> None:
    with pytest.raises(GenotypeError) as caught:
        four.map(refuse, [3])
    assert "fakes_executor.py" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Unpicklable"):
        four.map(refuse, [4])
    assert four.map(square, [5]) == [25]
    assert four.map(square, [6]) == [36]


def test_an_error_of_the_listener_leaves_no_stale_answers(four: ProcessExecutor) -> None:
    def listen(index: int, result: float) -> None:
        raise KeyError(index)

    with pytest.raises(KeyError):
        four.map(nap, [0.0, 0.3, 0.3, 0.3], listen)
    assert four.map(square, [1, 2, 3]) == [1, 4, 9]


@pytest.mark.parametrize("times", [1, 2])
def test_an_item_whose_worker_is_killed_is_done_by_another(four: ProcessExecutor, tmp_path: Path, times: int) -> None:
    assert four.map(Deadly(tmp_path, 2, times), range(6)) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "attempts").stat().st_size == times + 1


def test_an_item_that_kills_three_workers_is_given_up_and_no_other(four: ProcessExecutor, tmp_path: Path) -> None:
    deadly = Deadly(tmp_path, 2, 100)
    found = four.map(deadly, range(6), None, lambda item, reason: (item, reason))  # type: ignore[arg-type,return-value]
    assert found == [0, 1, (2, "its worker died 3 times (killed by SIGKILL)"), 9, 16, 25]
    assert (tmp_path / "attempts").stat().st_size == 3
    with pytest.raises(RunError, match=r"could not be done: its worker died 3 times \(killed by SIGKILL\)"):
        four.map(deadly, [2])


def test_an_item_out_of_time_is_lost_and_no_other() -> None:
    executor = ProcessExecutor(2, trial_seconds=0.5)
    begun = time.monotonic()
    found = executor.map(nap, [0.0, 600.0, 0.1, 0.0], None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert found == [0.0, "took longer than the 0.5 s it may", 0.1, 0.0]
    assert time.monotonic() - begun < 30
    executor.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process can only be limited on Linux")
def test_an_item_out_of_memory_is_lost_and_no_other() -> None:
    executor = ProcessExecutor(2, trial_bytes=2**28)
    found = executor.map(take_bytes, [2**20, 2**29, 2**20], None, lambda item, reason: reason)  # type: ignore[arg-type,return-value]
    assert found[::2] == [2**20, 2**20]
    assert str(found[1]).startswith("ran out of memory (Unable to allocate 512. MiB")
    executor.close()


def test_workers_that_cannot_start_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = ProcessExecutor(2)
    monkeypatch.setattr("spikenas.run.process_executor.work", os._exit)  # which wants other arguments
    with pytest.raises(
        RunError, match=r"worker processes end before they begin \(exit code 1\); try --executor serial"
    ):
        executor.map(square, [1, 2, 3])
    executor.close()


MAP = """
import sys
from fakes_executor import nap
from spikenas.run.process_executor import ProcessExecutor
if __name__ == "__main__":
    executor = ProcessExecutor(2)
    executor.map(nap, [0.0, 0.0])
    print(*(worker.process.pid for worker in executor._workers), flush=True)
    executor.map(nap, [600.0, 600.0])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_driver(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C reaches the whole group of processes, and only the driver may have something to say about it."""
    script = tmp_path / "map.py"
    script.write_text(MAP)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert workers
        time.sleep(0.3)
        if how is signal.SIGINT:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        _, words = process.communicate(timeout=20)
    assert process.returncode == -how
    assert words.count(b"Traceback") == (how is signal.SIGINT)
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- the same answer everywhere -----------------------------------------------------------------------------

SETTINGS = SearchSettings(samples=120, batch=20, parents=8, finalists=8, first_epochs=1, rounds=3)


def study(
    folder: Path, executor: Executor, evaluator: Evaluator, space: Space[object], settings: SearchSettings
) -> StudyResult:
    with SqliteStore(folder / "study.sqlite") as store:
        strategy = make_strategy("screen-and-race", space, settings, seed=3)
        try:
            return run_study(strategy, evaluator, executor, store, Checkpoints(folder / "weights"))
        finally:
            executor.close()


def untimed(trials: tuple[Trial, ...]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


@pytest.mark.parametrize("workers", [1, 4])
def test_processes_find_what_serial_finds(tmp_path: Path, workers: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    space: Space[object] = DigitSpace()  # type: ignore[assignment]
    serial = study(tmp_path / "a", SerialExecutor(), DigitEvaluator(), space, SETTINGS)
    found = study(tmp_path / "b", ProcessExecutor(workers), DigitEvaluator(), space, SETTINGS)
    assert untimed(found.trials) == untimed(serial.trials)
    assert found.best.genotype == serial.best.genotype


def trainings() -> NetworkEvaluator:
    """Real, tiny trainings on two kinds of noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.integers(0, 256, (48, 1, 8, 8)) // (1 + labels[:, None, None, None])
    split = Split(images.astype(np.uint8), labels.astype(np.int64))
    trainer = ShortTrainer(split, split, TrainConfig(batch_size=16, threads=1))
    return NetworkEvaluator(
        load_space("embedded"), (1, 8, 8), 2, load_target("cortex-m4"), Budget(flash_bytes=40_000), trainer, seed=1
    )


def test_what_could_not_be_trained_long_is_shown_fewer_images() -> None:
    labels = np.arange(40_000) % 4
    split = Split(np.zeros((len(labels), 1, 8, 8), np.uint8), labels)
    space = load_space("embedded")
    graphs = [space.lower(space.parse(f"t{steps}-b8-k3s1-32:003.00.0-pool"), (1, 8, 8), 4) for steps in (2, 4)]
    # stem once, conv3x3, readout; 85% of the epochs that follow are on rates, of one step
    works = [64 * (9 * 32 + steps * 9 * 32 * 32) + steps * 4 * 32 for steps in (0.85 + 0.15 * 2, 0.85 + 0.15 * 4)]
    trainer = ShortTrainer(split, split, TrainConfig(threads=1), most_work=1e10)
    shown = [trainer.shown(graph) for graph in graphs]
    assert [len(images) for images in shown] == [round(1e10 / work) for work in works]
    assert np.ptp(np.bincount(shown[0].labels)) <= 1
    assert len(replace(trainer, most_work=1e12).shown(graphs[0])) == len(split)
    assert len(replace(trainer, most_work=1.0).shown(graphs[0])) == 1000
    assert replace(trainer, most_work=None).shown(graphs[0]) is split

    data = Dataset("noise", split, split, split, ("a", "b", "c", "d"))
    task = SearchTask(space, (1, 8, 8), 4, load_target("cortex-m4"), Budget(), dataset=data, epoch_work=1e11)
    assert task.evaluator.trainer is not None
    assert task.evaluator.trainer.most_work == pytest.approx(1e11 / 5)  # type: ignore[attr-defined]


def test_the_work_of_an_epoch_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 epochs in two minutes of so many weights a second."""
    folder, data = RunFolder(tmp_path, {}), load_dataset("digits", seed=0)
    found = epoch_work(2.0, folder, data)
    monkeypatch.setattr("spikenas.run.trainer.measured_work_rate", None)
    assert epoch_work(1.0, folder, data) == found / 2
    rate = json.loads(folder.speed.read_text())["weights_per_s"]
    assert found == rate * 2 * 60 / 40
    assert 1e8 < rate < 1e13


def test_real_trainings_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    settings = SearchSettings(samples=6, batch=6, parents=4, finalists=3, first_epochs=1, rounds=2)
    found = []
    for name, executor in (("serial", SerialExecutor()), ("two", ProcessExecutor(2))):
        (tmp_path / name).mkdir()
        found.append(study(tmp_path / name, executor, trainings(), load_space("embedded"), settings))
    assert untimed(found[1].trials) == untimed(found[0].trials)
    assert sum(trial.accuracy is not None for trial in found[0].trials) >= 3
    names = sorted(file.name for file in (tmp_path / "serial" / "weights").iterdir())
    assert len(names) >= 3
    for name in names:
        one, two = (load_model(tmp_path / folder / "weights" / name) for folder in ("serial", "two"))
        assert {key: array.tobytes() for key, array in one.weights.items()} == {
            key: array.tobytes() for key, array in two.weights.items()
        }
