"""Where trials run. An executor moves items to a function and results back; it knows nothing about search."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from spikenas.errors import InputError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

AUTO = "auto"
SEVERAL = (AUTO, "processes", "ray")
"""executors that can have several workers, and stop one"""
ATTEMPTS = 3
"""Workers that may die under one item before it is given up: the first deaths may have been somebody else's fault."""


class Executor(Protocol):
    """The one seam for processes and clusters.

    ``function`` is the same object for every call of a study: an executor may send it (with the dataset it holds)
    to a worker once. It must not depend on which worker runs it, so an item whose worker died can be run again.
    """

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_done: Callable[[int, Result], None] | None = None,
        on_lost: Callable[[Item, str], Result] | None = None,
    ) -> list[Result]:
        """``[function(item) for item in items]``, in that order whoever ends first.

        ``on_done(index, result)`` is called in the calling process as each result arrives. What ``function`` raises
        is raised here and ends the map. An item without a result, because it killed its worker :data:`ATTEMPTS`
        times or took more time or memory than it may, has the result ``on_lost(item, reason)``; without ``on_lost``
        that is a RunError.
        """
        ...

    def close(self) -> None:
        """Let go of the workers."""
        ...


class SerialExecutor:
    """Everything here, one after the other.

    >>> SerialExecutor().map(abs, [-1, 2])
    [1, 2]
    """

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_done: Callable[[int, Result], None] | None = None,
        on_lost: Callable[[Item, str], Result] | None = None,
    ) -> list[Result]:
        results = []
        for index, item in enumerate(items):
            results.append(function(item))
            if on_done is not None:
                on_done(index, results[-1])
        return results

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Who evaluates. Not part of a run's settings: the same run may go on elsewhere and gives the same answer.

    ``workers`` None is one per CPU that this process may use (with ``ray``: as many as the cluster has room for);
    ``address`` of a Ray cluster, None starts one here; a trial that takes more than ``trial_seconds`` or
    ``trial_bytes`` has failed; ``trial_cpus`` and ``trial_gpus`` are what Ray sets aside for each. Raises
    InputError for numbers that make no sense, and for what the executor cannot do.
    """

    name: str = "auto"
    workers: int | None = None
    address: str | None = None
    trial_seconds: float | None = None
    trial_bytes: int | None = None
    trial_cpus: float = 1.0
    trial_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in (AUTO, *EXECUTORS):
            raise InputError(f"executor {self.name!r} is unknown: choose from {', '.join((AUTO, *EXECUTORS))}")
        for flag, value, least in (
            ("--workers", self.workers, 1),
            ("--trial-seconds", self.trial_seconds, 0.001),
            ("--trial-memory", self.trial_bytes, 1),
            ("--cpus-per-trial", self.trial_cpus, 0.001),
            ("--gpus-per-trial", self.trial_gpus, 0),
        ):
            if value is not None and not value >= least:
                raise InputError(f"{flag} {value}: must be at least {least}")
        for flag, asked, able in (
            ("--workers", (self.workers or 1) > 1, SEVERAL),
            ("--trial-seconds", self.trial_seconds is not None, SEVERAL),
            ("--trial-memory", self.trial_bytes is not None, SEVERAL),
            ("--address", self.address is not None, ("ray",)),
            ("--cpus-per-trial", self.trial_cpus != 1, ("ray",)),
            ("--gpus-per-trial", self.trial_gpus != 0, ("ray",)),
        ):
            if asked and self.name not in able:
                ways = " or ".join(name for name in able if name != AUTO)
                raise InputError(f"{flag}: not with --executor {self.name}; give --executor {ways}")

    @property
    def needs_processes(self) -> bool:
        """Whether only executors of several processes can do what is asked."""
        return (self.workers or 1) > 1 or self.trial_seconds is not None or self.trial_bytes is not None


def check_executor(settings: ExecutorSettings) -> None:
    """Look whether the executor can be had, before there is a folder. Raises MissingTool and RunError."""
    if settings.name == "ray":
        from spikenas.run.ray_executor import check_ray

        check_ray(settings.address)


def make_executor(
    settings: ExecutorSettings, *, heavy: bool = False, progress: Callable[[str], None] | None = None
) -> Executor:
    """The executor of that name; its workers start when the first items come. Raises MissingTool without Ray.

    ``auto`` is ``processes`` for ``heavy`` work where there are several CPUs, or where only it can do what is asked,
    else ``serial``. ``progress`` is told of a Ray that is started or connected to, which takes some seconds.
    """
    name = settings.name
    if name == AUTO:
        several = settings.needs_processes or (heavy and len(usable_cpus()) > 1)
        name = "processes" if several else "serial"
    if name == "ray" and progress is not None:
        where = "starting Ray" if settings.address is None else f"connecting to Ray at {settings.address}"
        progress(f"{where}; each of its workers first loads spikenas and the dataset")
    return EXECUTORS[name](settings)


def lost(item: Item, reason: str, on_lost: Callable[[Item, str], Result] | None) -> Result:
    """The result of an item that has none. Raises RunError when there is nobody who knows what that is."""
    if on_lost is None:
        raise RunError(f"the work could not be done: {reason}")
    return on_lost(item, reason)


def usable_cpus() -> tuple[int, ...]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _serial(settings: ExecutorSettings) -> Executor:
    return SerialExecutor()


def _processes(settings: ExecutorSettings) -> Executor:
    from spikenas.run.process_executor import ProcessExecutor

    workers = settings.workers or len(usable_cpus())
    return ProcessExecutor(workers, trial_seconds=settings.trial_seconds, trial_bytes=settings.trial_bytes)


def _ray(settings: ExecutorSettings) -> Executor:
    from spikenas.run.ray_executor import RayExecutor

    return RayExecutor(
        settings.address,
        workers=settings.workers,
        trial_seconds=settings.trial_seconds,
        trial_bytes=settings.trial_bytes,
        trial_cpus=settings.trial_cpus,
        trial_gpus=settings.trial_gpus,
    )


EXECUTORS: dict[str, Callable[[ExecutorSettings], Executor]] = {
    "serial": _serial,
    "processes": _processes,
    "ray": _ray,
}
