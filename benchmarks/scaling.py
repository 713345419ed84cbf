"""How far a study scales: cost of handing out a trial, efficiency of two workers, and a cluster on paper.

    python benchmarks/scaling.py overhead            # per no-op trial, of each executor that is installed
    python benchmarks/scaling.py efficiency          # real trainings with one and with two workers
    python benchmarks/scaling.py simulate            # SpikeNAS-Bench as trainings, on 1 to 1000 workers

The table is looked for in the folder named by SPIKENAS_DATA, by default ../shared/data. Prints Markdown.
"""

from __future__ import annotations

import argparse
import heapq
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from spikenas.cost.budget import Budget
from spikenas.cost.target import DEFAULT_TARGET, load_target
from spikenas.data.split import Split
from spikenas.errors import NothingFits, SpikenasError
from spikenas.run.evaluator import Job, NetworkEvaluator, Outcome
from spikenas.run.executor import Executor, ExecutorSettings, make_executor
from spikenas.run.store import SqliteStore
from spikenas.run.study import run_study
from spikenas.search.strategy import Plan, PlannedStrategy
from spikenas.search.trial import TRAIN, Proposal, Trial
from spikenas.space.space import load_space

TABLE = Path(os.environ.get("SPIKENAS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "spikenas-bench"
GENOTYPE = "t4-b8-k3s1-16:30s.01.3-32:003.00.0-pool"
DISPATCH_SECONDS = 0.002
"""What the driver spends on a trial: about what `overhead` shows for a study on Ray."""
WORKERS = (1, 10, 100, 300, 1000)


# --- overhead -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoOp:
    """An evaluator that does nothing."""

    def __call__(self, job: Job) -> Outcome:
        return Outcome(Trial(job.number, job.proposal.genotype, job.proposal.measure, score=1.0))

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        return NothingFits("nothing was tried")


def overhead(count: int) -> None:
    """Milliseconds per trial that does nothing, median of five, in the executor alone and in a whole study."""
    print("| executor | map, ms per trial | study with store, ms per trial |\n|---|---|---|")
    for settings in (
        ExecutorSettings("serial"),
        ExecutorSettings("processes", workers=1),
        ExecutorSettings("processes", workers=2),
        ExecutorSettings("ray", workers=2),
    ):
        if settings.name == "ray" and find_spec("ray") is None:
            print("| ray | not installed | |")
            continue
        executor = make_executor(settings)
        jobs = [Job(number, Proposal(GENOTYPE, "structure")) for number in range(count)]
        evaluator = NoOp()
        executor.map(evaluator, jobs)  # starts the workers
        mapped = median(_seconds(partial(executor.map, evaluator, jobs)) for _ in range(5))
        studied = median(_seconds(partial(_study, evaluator, executor, count)) for _ in range(5))
        executor.close()
        name = settings.name if settings.workers is None else f"{settings.name}, {settings.workers} workers"
        print(f"| {name} | {1e3 * mapped / count:.3f} | {1e3 * studied / count:.3f} |", flush=True)


def _study(evaluator: NoOp, executor: Executor, count: int) -> None:
    def plan() -> Plan[None]:
        yield [Proposal(GENOTYPE, "structure")] * count

    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "study.sqlite") as store:
        run_study(PlannedStrategy(plan()), evaluator, executor, store)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# --- efficiency ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """Trains, and tells what CPU time that took."""

    evaluator: NetworkEvaluator

    def __call__(self, job: Job) -> float:
        begun = time.process_time()
        self.evaluator(job)
        return time.process_time() - begun


def efficiency(trainings: int, epochs: int) -> None:
    """The same trainings with one and with two workers, each on a CPU of its own.

    By the clock on the wall, which counts only where nothing else runs, and by CPU time, which shows what two workers
    take from each other and is hardly moved by what else runs.
    """
    train = Timed(_trainer())
    jobs = [Job(number, Proposal(GENOTYPE, TRAIN, epochs)) for number in range(trainings)]
    warm = [Job(number, Proposal(GENOTYPE, TRAIN, 1)) for number in range(4)]
    seconds: dict[int, float] = {}
    cpu: dict[int, float] = {}
    print("| workers | trainings | seconds | efficiency | CPU s per training | efficiency by CPU | load before |")
    print("|---|---|---|---|---|---|---|")
    for workers in (1, 2):
        executor = make_executor(ExecutorSettings("processes", workers=workers))
        executor.map(train, warm)
        load = os.getloadavg()[0]
        begun = time.perf_counter()
        cpu[workers] = float(np.mean(executor.map(train, jobs)))
        seconds[workers] = time.perf_counter() - begun
        executor.close()
        figures = f"{seconds[workers]:.1f} | {seconds[1] / (workers * seconds[workers]):.0%} | {cpu[workers]:.1f}"
        print(f"| {workers} | {trainings} | {figures} | {cpu[1] / cpu[workers]:.0%} | {load:.1f} |", flush=True)


def _trainer() -> NetworkEvaluator:
    from spikenas.run.trainer import ShortTrainer
    from spikenas.snn.train import TrainConfig

    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    images = rng.integers(0, 256, (1000, 1, 8, 8)) // (1 + labels[:, None, None, None] % 3)
    split = Split(images.astype(np.uint8), labels.astype(np.int64))
    trainer = ShortTrainer(split, split, TrainConfig(threads=1))
    return NetworkEvaluator(load_space("embedded"), (1, 8, 8), 10, load_target(DEFAULT_TARGET), Budget(), trainer)


# --- simulation ---------------------------------------------------------------------------------------------


def simulate(durations: Sequence[float], workers: int, dispatch_seconds: float, batch: int | None = None) -> float:
    """Seconds until all trainings are done and known.

    ``workers`` take trainings in order, in batches (all at once when None) each of which ends before the next begins,
    as a strategy that needs its answers has it. One driver hands out and takes back, one trial at a time, and spends
    ``dispatch_seconds`` on each.

    >>> simulate([2.0, 2.0, 2.0], workers=2, dispatch_seconds=0.0)
    4.0
    >>> simulate([2.0, 2.0, 2.0, 2.0], workers=2, dispatch_seconds=1.0)  # begins at 1, 2, 4, 5; the last ends at 7
    8.0
    >>> simulate([3.0, 1.0, 3.0, 1.0], workers=2, dispatch_seconds=0.0, batch=2)
    6.0
    """
    now = 0.0
    size = batch or len(durations)
    for start in range(0, len(durations), size):
        now = _simulated_batch(durations[start : start + size], workers, dispatch_seconds, now)
    return now


def _simulated_batch(durations: Sequence[float], workers: int, dispatch_seconds: float, now: float) -> float:
    """The driver's clock when the last answer of a batch that begins at ``now`` is known."""
    running: list[float] = []
    for index, duration in enumerate(durations):
        if index >= workers:
            now = max(now, heapq.heappop(running))
        now += dispatch_seconds  # takes back the one and hands out the next
        heapq.heappush(running, now + duration)
    for end in sorted(running):
        now = max(now, end) + dispatch_seconds
    return now


def cluster() -> None:
    """The table of SpikeNAS-Bench as trainings; what keeps workers from being busy, one cause after the other."""
    seconds, params = _table()
    shuffled = np.random.default_rng(0).permutation(len(seconds))
    seconds, params = seconds[shuffled], params[shuffled]
    longest_first = seconds[np.argsort(-params, kind="stable")]
    print(f"{len(seconds):,} trainings of {seconds.mean():,.0f} s on average, {seconds.max():,.0f} s at most\n")
    cases: list[tuple[str, npt.NDArray[np.float64], int | None]] = [
        ("all asked at once", seconds, None),
        ("all at once, largest network first", longest_first, None),
        ("batches of 10,000", seconds, 10_000),
        ("batches of 1,000", seconds, 1_000),
        ("batches of 100", seconds, 100),
    ]
    _print_busy("table as it is", cases)
    short = [(name, 5.0 * values / values.mean(), batch) for name, values, batch in cases[:1]]
    for dispatch in (0.0005, DISPATCH_SECONDS, 0.005, 0.015):
        _print_busy(f"scaled to trainings of 5 s, driver {1e3 * dispatch:g} ms per trial", short, dispatch)


def _print_busy(
    title: str,
    cases: Sequence[tuple[str, npt.NDArray[np.float64], int | None]],
    dispatch_seconds: float = DISPATCH_SECONDS,
) -> None:
    print(f"| {title} | " + " | ".join(f"{workers:,} workers" for workers in WORKERS) + " |")
    print("|---" * (1 + len(WORKERS)) + "|")
    for name, durations, batch in cases:
        busy = [
            durations.sum() / (workers * simulate(durations.tolist(), workers, dispatch_seconds, batch))
            for workers in WORKERS
        ]
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in busy) + " |")
    print(flush=True)


def _table() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """train_seconds and params of all networks."""
    from pyarrow import parquet

    path = TABLE / "cifar10.parquet"
    if not path.is_file():
        raise SystemExit(f"{path} is absent: set SPIKENAS_DATA to the folder that holds spikenas-bench")
    table = parquet.read_table(path, columns=["train_seconds", "params"])
    return tuple(np.asarray(table[name].to_numpy(), np.float64) for name in ("train_seconds", "params"))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["overhead", "efficiency", "simulate"])
    parser.add_argument("--trials", type=int, default=1000, help="no-op trials per repetition")
    parser.add_argument("--trainings", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    if options.part == "overhead":
        overhead(options.trials)
    elif options.part == "efficiency":
        efficiency(options.trainings, options.epochs)
    else:
        cluster()


if __name__ == "__main__":
    main()
