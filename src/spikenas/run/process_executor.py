"""Trials in processes of this machine, each with one thread, on a CPU of its own, and with a pipe of its own.

concurrent.futures and loky give up the whole pool when one worker is killed, and cannot say under which item: their
workers read from one queue. With a pipe to each worker the driver knows what each was doing; a worker that dies takes
nothing along but its item, and that goes to a new worker.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any, cast

from spikenas.errors import RunError
from spikenas.run.executor import ATTEMPTS, Item, Result, lost, usable_cpus
from spikenas.run.process_worker import ANSWER, ERROR, FUNCTION, ITEM, LOST, READY, can_limit_memory, work

SPAWN = get_context("spawn")  # a forked child would inherit torch's threads as locks that nobody holds
CLOSING_SECONDS = 2.0
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Answer = tuple[int, bytes, Any]
"""Index of the item, kind of the message, and what it holds."""


@dataclass(eq=False, slots=True)
class _Worker:
    """A process, the driver's end of its pipe, and what it is doing: loading, the item ``index``, or nothing."""

    process: Any
    pipe: Connection
    cpu: int
    function: object = None
    loading: bool = False
    index: int | None = None
    since: float = 0.0

    @property
    def idle(self) -> bool:
        return self.index is None and not self.loading


class ProcessExecutor:
    """At most ``workers`` processes, started when there is work for them and kept until :meth:`close`.

    An item that takes longer than ``trial_seconds``, or more than ``trial_bytes`` of memory beyond what its worker
    holds before it, is lost: see :meth:`spikenas.run.executor.Executor.map`. Raises RunError where memory cannot be
    limited.
    """

    def __init__(self, workers: int, *, trial_seconds: float | None = None, trial_bytes: int | None = None) -> None:
        if trial_bytes is not None and not can_limit_memory():
            raise RunError("--trial-memory: only Linux can limit it for a process; leave it out")
        self._most = workers
        self._trial_seconds = trial_seconds
        self._trial_bytes = trial_bytes
        self._workers: list[_Worker] = []
        self._function: object = None
        self._pickled = b""
        self._false_starts = 0

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_done: Callable[[int, Result], None] | None = None,
        on_lost: Callable[[Item, str], Result] | None = None,
    ) -> list[Result]:
        if function is not self._function:
            self._function, self._pickled = function, pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
        results: dict[int, Result] = {}
        try:
            for index, kind, content in self._answers(items):
                if kind == ERROR:
                    raise content
                results[index] = content if kind == ANSWER else lost(items[index], content, on_lost)
                if on_done is not None:
                    on_done(index, results[index])
        except BaseException:
            # What is in flight would answer the questions of the next map, and Ctrl-C should not have to wait for it.
            self._kill(self._workers)
            raise
        return [results[index] for index in range(len(items))]

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()  # which an idle worker takes for the end
        until = time.monotonic() + CLOSING_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
        self._kill(self._workers)

    def _answers(self, items: Sequence[Item]) -> Iterator[Answer]:
        waiting, deaths = deque(range(len(items))), Counter[int]()
        while waiting or any(worker.index is not None for worker in self._workers):
            self._fill(waiting, items)
            for worker in self._speaking():
                answer = self._hear(worker, waiting, deaths)
                self._fill(waiting, items)  # before anybody looks at the answer: workers need not wait for that
                if answer is not None:
                    yield answer
            yield from self._overdue()

    def _fill(self, waiting: deque[int], items: Sequence[Item]) -> None:
        """Give what waits to the idle, and start workers while there is more than they will take."""
        for worker in self._workers:
            if worker.idle and waiting:
                self._give(worker, waiting, items)
        while len(self._workers) < self._most and sum(worker.loading for worker in self._workers) < len(waiting):
            self._workers.append(self._start())
            self._load(self._workers[-1])

    def _give(self, worker: _Worker, waiting: deque[int], items: Sequence[Item]) -> None:
        if worker.function is not self._function:
            return self._load(worker)
        worker.index, worker.since = waiting.popleft(), time.monotonic()
        self._send(worker, ITEM + pickle.dumps(items[worker.index], pickle.HIGHEST_PROTOCOL))

    def _load(self, worker: _Worker) -> None:
        worker.function, worker.loading = self._function, True
        self._send(worker, FUNCTION + self._pickled)

    def _send(self, worker: _Worker, message: bytes) -> None:
        with suppress(OSError):  # it has died, and its closed pipe will say so to whoever waits for its answer
            worker.pipe.send_bytes(message)

    def _speaking(self) -> list[_Worker]:
        """Workers with something to say, as soon as there is one or one is overdue."""
        by_pipe = {worker.pipe: worker for worker in self._workers if not worker.idle}
        patience = None
        if self._trial_seconds is not None:
            first = min((w.since for w in by_pipe.values() if w.index is not None), default=time.monotonic())
            patience = max(0.0, first + self._trial_seconds - time.monotonic()) + 0.001
        return [by_pipe[cast(Connection, pipe)] for pipe in connection.wait(list(by_pipe), patience)]

    def _hear(self, worker: _Worker, waiting: deque[int], deaths: Counter[int]) -> Answer | None:
        """What ``worker`` says. Its death is no answer while its item may be tried again."""
        index = worker.index
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._died(worker, waiting, deaths)
        kind, content = message[:1], memoryview(message)[1:]
        worker.loading, worker.index, self._false_starts = False, None, 0
        if kind == READY:
            return None
        read = str(content, "utf-8") if kind == LOST else pickle.loads(content)
        return (-1 if index is None else index, kind, read)

    def _died(self, worker: _Worker, waiting: deque[int], deaths: Counter[int]) -> Answer | None:
        index = worker.index
        worker.process.join(CLOSING_SECONDS)  # its pipe ends a moment before its exit code is known
        self._kill([worker])
        cause = _cause(worker.process.exitcode)
        if index is None:
            self._false_starts += 1
            if self._false_starts >= ATTEMPTS:
                raise RunError(f"worker processes end before they begin ({cause}); try --executor serial")
            return None
        deaths[index] += 1
        if deaths[index] >= ATTEMPTS:
            return index, LOST, f"its worker died {ATTEMPTS} times ({cause})"
        waiting.appendleft(index)
        return None

    def _overdue(self) -> Iterator[Answer]:
        """Ends workers whose item has taken too long."""
        if self._trial_seconds is None:
            return
        begun = time.monotonic() - self._trial_seconds
        for worker in [worker for worker in self._workers if worker.index is not None and worker.since < begun]:
            index = worker.index
            assert index is not None
            self._kill([worker])
            yield index, LOST, f"took longer than the {self._trial_seconds:g} s it may"

    def _start(self) -> _Worker:
        cpus = usable_cpus()
        taken = Counter(worker.cpu for worker in self._workers)
        cpu = min(cpus, key=lambda cpu: taken[cpu])
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=work, args=(there, cpu, self._trial_bytes), daemon=True)
        with _one_thread(), _no_interrupts():
            process.start()
        there.close()  # so that the pipe ends when the worker does
        return _Worker(process, here, cpu)

    def _kill(self, workers: Sequence[_Worker]) -> None:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()
        self._workers = [worker for worker in self._workers if worker not in workers]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Environment in which torch and BLAS start with one thread: as many processes as CPUs have no use for more."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """A process started in here never sees Ctrl-C, which would have it print a traceback while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause(code: int | None) -> str:
    """
    >>> _cause(-9), _cause(1)
    ('killed by SIGKILL', 'exit code 1')
    """
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
