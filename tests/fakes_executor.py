"""What workers are given in tests; a module of its own, because a worker imports it by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fakes_search import DigitEvaluator

from spikenas.errors import GenotypeError
from spikenas.run.evaluator import Job, Outcome


def square(number: int) -> int:
    return number * number


def slow_square(number: int) -> int:
    """The earlier items take longest, so that the order of arrival is not that of the items."""
    time.sleep(max(0.0, 0.2 - 0.05 * number))
    return number * number


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@dataclass(frozen=True)
class Meeting:
    """Tells where and how an item runs, once ``workers`` processes have come by."""

    folder: Path
    workers: int

    def __call__(self, item: int) -> dict[str, Any]:
        (self.folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < self.workers and time.monotonic() < deadline:
            time.sleep(0.01)
        return {
            "process": os.getpid(),
            "cpus": sorted(os.sched_getaffinity(0)),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }


def torch_threads(item: int) -> int:
    import torch

    return torch.get_num_threads()


def take_bytes(count: int) -> int:
    return int(np.ones(count, np.uint8).nbytes)


def refuse(item: int) -> int:
    if item == 3:
        raise GenotypeError("3 is not to my taste")
    if item == 4:
        raise Unpicklable(threading.Lock())
    return item


class Unpicklable(Exception):
    pass


@dataclass(frozen=True)
class Loaded:
    """A function that counts in a file how often it was unpickled: once per worker is wanted."""

    folder: Path

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "folder", state["folder"])
        with (self.folder / "loaded").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __call__(self, item: int) -> int:
        return item + 1


@dataclass(frozen=True)
class Deadly:
    """Kills its own process with -9 in mid-item, the first ``times`` times that ``item`` comes by."""

    folder: Path
    item: int
    times: int

    def __call__(self, item: int) -> int:
        if item == self.item:
            with (self.folder / "attempts").open("a") as file:
                file.write("x")
            if (self.folder / "attempts").stat().st_size <= self.times:
                os.kill(os.getpid(), signal.SIGKILL)
        return item * item


@dataclass(frozen=True)
class Troubled(DigitEvaluator):
    """Trials of a study that kill their worker, take too long or too much memory, each by its number."""

    folder: Path = Path()
    kills_once: int = -1
    kills_always: int = -1
    hangs: int = -1
    swells: int = -1

    def __call__(self, job: Job) -> Outcome:
        if job.number == self.kills_once and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if job.number == self.kills_always:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.number == self.hangs:
            time.sleep(600)
        if job.number == self.swells:
            take_bytes(2**31)
        return super().__call__(job)


@dataclass(frozen=True)
class Paced(DigitEvaluator):
    """Leaves the name of the Ray node it ran on in ``folder``."""

    folder: Path = Path()

    def __call__(self, job: Job) -> Outcome:
        import ray

        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        return super().__call__(job)
