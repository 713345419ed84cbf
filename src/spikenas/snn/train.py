"""The training loop: a warm-up and a cosine, the best epoch on validation kept, and a way back when it goes wrong.

The test split is no argument of anything here. The same seed, threads and data give the same weights on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import Graph
from spikenas.model import Model, float_shapes
from spikenas.snn.allocator import keep_freed_memory
from spikenas.snn.evaluate import check_split
from spikenas.snn.hardware import threads, threads_for
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult, TrainState, best_epoch
from spikenas.snn.network import Network
from spikenas.snn.train_config import TrainConfig
from spikenas.snn.training_run import TrainingRun, Unsound

__all__ = ["BatchStats", "EpochStats", "TrainConfig", "TrainResult", "TrainState", "best_epoch", "train"]

FALLBACK, LEAST_SCALE = 0.5, 0.1
"""what the learning rate is multiplied by each time, and where it is given up"""


def train(
    graph: Graph,
    train_split: Split,
    val_split: Split,
    config: TrainConfig,
    *,
    start: Model | None = None,
    build: Callable[..., Network] = Network,
    teacher: Model | None = None,
    resume: TrainState | None = None,
    stop_after: int | None = None,
    on_epoch: Callable[[EpochStats], None] | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
    on_state: Callable[[TrainState], None] | None = None,
    on_fallback: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a network of ``graph``, from fresh weights, from those of ``start``, or on from ``resume``.

    ``build`` makes the network, by default a Network. ``teacher``, if there is one, is the trained network from which
    it learns (:mod:`spikenas.snn.teacher`).
    ``stop_after`` ends after that many epochs of the schedule, to be resumed. ``on_state`` is given the state after
    each epoch; what it keeps stays valid whatever happens next. Callbacks may raise: nothing is left half done.
    Where the loss is no number or a neuron stops firing, ``on_fallback`` is told which, and the training goes on from
    the last epoch at half the rate. Raises TrainError when that does not help either, when the splits do not fit the
    graph, or when ``start`` or ``resume`` is another graph's.
    """
    for split in (train_split, val_split):
        check_split(graph, split)
    if len(train_split) < 2:
        raise TrainError("1 training image: at least 2 are needed to normalize a batch")
    if start is not None and float_shapes(start.graph) != float_shapes(graph):
        raise TrainError("the weights to start from are another network's: give those of the same genotype")
    keep_freed_memory()
    with threads(threads_for(graph, config)):
        run = TrainingRun(graph, train_split, val_split, config, start, build, teacher)
        if resume is not None:
            run.restore(resume)
        good = run.state()
        while not run.is_over and run.epoch < (stop_after or config.epochs):
            try:
                stats = run.one_epoch(on_batch)
            except Unsound as trouble:
                good = fall_back(run, good, trouble, on_fallback)
                continue
            if on_epoch is not None:
                on_epoch(stats)
            good = run.state()
            if on_state is not None:
                on_state(good)
        return run.result()


def fall_back(run: TrainingRun, good: TrainState, trouble: Unsound, told: Callable[[str], None] | None) -> TrainState:
    """Go back to ``good`` at half the learning rate, which is returned. Raises TrainError when it is low already."""
    scale, rate = good.rate_scale * FALLBACK, run.config.learning_rate
    if scale < LEAST_SCALE:
        raise TrainError(f"{trouble}; train again with a learning rate below {good.rate_scale * rate:g}")
    if told is not None:
        told(f"{trouble}; going on from epoch {good.epoch} at {scale:g} of the learning rate")
    slower = replace(good, rate_scale=scale)
    run.restore(slower)
    return slower
