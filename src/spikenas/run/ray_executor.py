"""Trials on a Ray cluster, or on a Ray started here.

Ray has what a cluster needs: an object store that brings the function (and its dataset) to each node once, tasks that
run again when their worker or node dies, nodes that join in mid-run, resources set aside for each task. Its token
authentication stays on: give the driver and every node RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from spikenas.errors import MissingTool, RunError
from spikenas.run.executor import ATTEMPTS, Item, Result, lost
from spikenas.run.process_worker import ANSWER, ERROR, LOST, answer_to, limited_memory, packed_error

AHEAD = 2
"""Tasks handed over per task that can run at once: a worker that ends one must not wait for the driver."""
LOOK_SECONDS = 1.0
"""How often the driver looks whether the cluster has grown or shrunk."""
STUCK_SECONDS = 10.0
"""How long after its time a task may stay in compiled code before its whole worker is ended."""


REACH_SECONDS = 5.0
"""How long a cluster's address may take to answer at all."""
NICENESS = 15
"""Of the workers of a Ray started here, so that Ray's own processes come first: as Ray has it, if the driver has 0."""


class RayExecutor:
    """One Ray task per item.

    ``address`` is that of a cluster (``auto``: the one this machine belongs to); None starts a Ray here, with
    ``workers`` CPUs, and ends it in :meth:`close`. At most ``workers`` tasks are handed over at once; None is as many
    as there is room for. ``trial_cpus``, ``trial_gpus`` and ``trial_bytes`` are what Ray sets aside for a task. An item
    that takes more than ``trial_seconds``, or than ``trial_bytes`` beyond what its worker holds before it, is lost: see
    :meth:`spikenas.run.executor.Executor.map`.

    Raises MissingTool without Ray, RunError when no cluster answers or none of its nodes could ever hold a task.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        trial_seconds: float | None = None,
        trial_bytes: int | None = None,
        trial_cpus: float = 1.0,
        trial_gpus: float = 0.0,
    ) -> None:
        self._ray, self._ours = _connected(address, workers)
        self._workers, self._limits = workers, (trial_seconds, trial_bytes)
        self._needs = {"CPU": trial_cpus, "GPU": trial_gpus, "memory": float(trial_bytes or 0)}
        if not self._room():
            self.close()
            needs = ", ".join(f"{need:g} {name}" for name, need in self._needs.items() if need)
            raise RunError(f"no node of the Ray cluster has {needs} for one trial; ask for less or add a node")
        options = {"num_cpus": trial_cpus, "num_gpus": trial_gpus, "memory": trial_bytes}
        self._task = self._ray.remote(**options, max_retries=ATTEMPTS - 1)(_answer)
        self._function: object = None
        self._shared: Any = None

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_done: Callable[[int, Result], None] | None = None,
        on_lost: Callable[[Item, str], Result] | None = None,
    ) -> list[Result]:
        if function is not self._function:
            # cloudpickle, because what is defined in a script or a notebook is nowhere to be imported from.
            self._shared = self._ray.put(self._ray.cloudpickle.dumps(function))
            self._function = function
        results: dict[int, Result] = {}
        in_flight: dict[Any, int] = {}
        try:
            for index, message in self._answers(items, in_flight):
                kind, content = message[:1], memoryview(message)[1:]
                if kind == ERROR:
                    raise pickle.loads(content)
                if kind == ANSWER:
                    results[index] = pickle.loads(content)
                else:
                    results[index] = lost(items[index], str(content, "utf-8"), on_lost)
                if on_done is not None:
                    on_done(index, results[index])
        except BaseException:
            for task in in_flight:
                with suppress(Exception):  # whatever ended the map is what matters
                    self._ray.cancel(task, force=True)
            raise
        return [results[index] for index in range(len(items))]

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()

    def _answers(self, items: Sequence[Item], in_flight: dict[Any, int]) -> Iterator[tuple[int, bytes]]:
        waiting = deque(range(len(items)))
        most, looked = self._most(), time.monotonic()
        while waiting or in_flight:
            if time.monotonic() - looked > LOOK_SECONDS:
                most, looked = self._most(), time.monotonic()
            while waiting and len(in_flight) < most:
                packed = self._ray.cloudpickle.dumps(items[waiting[0]])
                in_flight[self._task.remote([self._shared], packed, *self._limits)] = waiting.popleft()
            tasks = list(in_flight)
            if self._ray.wait(tasks, timeout=LOOK_SECONDS)[0]:
                for task in self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]:
                    yield in_flight.pop(task), self._fetched(task)

    def _fetched(self, task: Any) -> bytes:
        """The message of a task that has ended; what Ray gave up is lost."""
        try:
            message: bytes = self._ray.get(task)
        except self._ray.exceptions.WorkerCrashedError:
            return LOST + f"its worker died {ATTEMPTS} times".encode()
        except self._ray.exceptions.RayError as error:
            words = " ".join(str(error).split())[:200]
            return LOST + f"Ray gave it up ({type(error).__name__}: {words})".encode()
        return message

    def _most(self) -> int:
        return self._workers or AHEAD * max(1, self._room())

    def _room(self) -> int:
        """Tasks that the nodes alive can run at once."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        needs = {name: need for name, need in self._needs.items() if need}
        return sum(int(min(node.get(name, 0.0) / need for name, need in needs.items())) for node in nodes)


def check_ray(address: str | None) -> None:
    """What can be known without connecting, which with nobody at ``address`` Ray would try for ten minutes.

    Raises MissingTool without Ray, RunError when nothing listens at ``address``.
    """
    if find_spec("ray") is None:
        raise MissingTool("executor 'ray': Ray is not installed; pip install 'spikenas[ray]'")
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:  # "auto", or a name that Ray itself knows or refuses
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        words = getattr(error, "strerror", None) or error
        raise RunError(f"no Ray at {address} ({words}); give --address the one that `ray start --head` told") from error


def _connected(address: str | None, workers: int | None) -> tuple[Any, bool]:
    """The module ray, connected, and whether this call connected it."""
    check_ray(address)
    for name, value in _told(address).items():
        os.environ.setdefault(name, value)
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():
        return ray, False
    options: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    try:
        # Without an address Ray would take that of a cluster from the environment.
        ray.init(address or "local", log_to_driver=False, configure_logging=False, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        words = " ".join(str(error).split())[:200]
        if address is None:
            raise RunError(f"no Ray here ({words}); choose --executor processes") from error
        raise RunError(
            f"no Ray at {address} ({words}); start one with: ray start --head, or, if it is there and refuses, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its first machine"
        ) from error
    return ray, True


def _told(address: str | None) -> dict[str, str]:
    """What Ray can be told by its environment alone, before it is loaded; what is set there stays."""
    told = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}  # it prints tasks that failed, on stdout; our own line tells of them
    if address is None:
        return told | {"RAY_worker_niceness": str(max(0, NICENESS - os.nice(0)))}
    return told | {"RAY_NUM_REDIS_GET_RETRIES": "3"}  # of twenty, each with a line of its own


_LOADED: dict[Any, Callable[[Any], Any]] = {}
"""In a worker: the function it last used, by its reference."""


def _answer(shared: list[Any], packed: bytes, seconds: float | None, limit_bytes: int | None) -> bytes:
    """What a task does. The reference comes in a list because Ray would otherwise unpack it for every task."""
    (reference,) = shared
    try:
        if reference not in _LOADED:
            _LOADED.clear()
            _LOADED[reference] = pickle.loads(importlib.import_module("ray").get(reference))
        with limited_memory(limit_bytes), _limited_time(seconds):
            return answer_to(_LOADED[reference], packed)
    except _OutOfTime:
        return LOST + f"took longer than the {seconds:g} s it may".encode()
    except Exception as error:  # a node without the modules that the driver has
        return packed_error(error)


class _OutOfTime(BaseException):
    """Not an Exception, so that nothing but the task itself catches it."""


@contextmanager
def _limited_time(seconds: float | None) -> Iterator[None]:
    """Raises _OutOfTime in the main thread, where Ray runs tasks; code that never returns to Python is killed later."""
    if seconds is None:
        yield
        return

    def out_of_time(number: int, frame: object) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, out_of_time)
    stuck = threading.Timer(seconds + STUCK_SECONDS, os._exit, (1,))
    stuck.daemon = True
    stuck.start()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        stuck.cancel()
        signal.signal(signal.SIGALRM, before)
