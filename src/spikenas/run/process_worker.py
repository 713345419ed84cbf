"""The other end of :mod:`spikenas.run.process_executor`: a loop that answers messages until its pipe ends.

A message is one byte that says what it is, and a pickle. Pickles only ever pass between a driver and the processes
it started itself. This module imports next to nothing, because it is loaded before the number of threads is set.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What the driver sends: the function, once; then items.
FUNCTION, ITEM = b"f", b"i"
# What comes back: the function is loaded; a result; an exception; the reason why there is no result.
READY, ANSWER, ERROR, LOST = b"R", b"A", b"E", b"L"


def work(pipe: Connection, cpu: int | None, trial_bytes: int | None) -> None:
    """Answer until the driver closes the pipe or dies. Runs on ``cpu`` alone unless that is None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to hear; it ends its workers
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        kind, content = message[:1], memoryview(message)[1:]
        if kind == FUNCTION:
            answer, function = _load(content)
        else:
            assert function is not None
            with limited_memory(trial_bytes):
                answer = answer_to(function, content)
        del message, content
        pipe.send_bytes(answer)


@contextmanager
def limited_memory(more_bytes: int | None) -> Iterator[None]:
    """Let this process take ``more_bytes`` of writable memory beyond what it has now; the kernel of Linux sees to it.

    None is no limit. What is beyond ends in a MemoryError, or the end of the process.
    """
    if more_bytes is None:
        yield
        return
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (now_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now_kb * 1024 + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def can_limit_memory() -> bool:
    """Whether memory can be limited here."""
    return sys.platform == "linux"


def _load(content: memoryview) -> tuple[bytes, Callable[[Any], Any] | None]:
    try:
        return READY, pickle.loads(content)
    except Exception as error:
        return packed_error(error), None


def answer_to(function: Callable[[Any], Any], content: bytes | memoryview) -> bytes:
    """The message that answers a pickled item."""
    try:
        return ANSWER + pickle.dumps(function(pickle.loads(content)), pickle.HIGHEST_PROTOCOL)
    except MemoryError as error:
        return LOST + f"ran out of memory ({' '.join(str(error).split()) or 'no more to be had'})".encode()
    except Exception as error:
        return packed_error(error)


def packed_error(error: Exception) -> bytes:
    """The message of ``error``, with the worker's own traceback in its notes."""
    words = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"In worker process {os.getpid()}:\n{words}")
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # what cannot travel is told in words
        packed = pickle.dumps(RuntimeError(f"in a worker process:\n{words}"))
    return ERROR + packed


def _end_with_the_driver() -> None:
    """A driver killed with -9 closes no pipe that a worker in mid-trial would look at."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
