"""The search of networks, put together: strategy, evaluator and study; the first stage of a run, or a study by itself.

Without a dataset a search is free of training: it ends with the best score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from spikenas.cost.budget import Budget, format_bytes
from spikenas.cost.target import Target
from spikenas.data.datasets import Dataset
from spikenas.data.split import thin
from spikenas.errors import BudgetError, InputError
from spikenas.graph import Shape
from spikenas.run.artifacts import read_json, write_json
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import NetworkEvaluator
from spikenas.run.executor import Executor
from spikenas.run.folder import RunFolder
from spikenas.run.learner import PredictorLearner
from spikenas.run.store import RunStore
from spikenas.run.study import StudyResult, run_study
from spikenas.score.score import Needs, Score
from spikenas.score.structure_scores import find_score
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import DEFAULT_STRATEGY, TRAINING, check_strategy, make_strategy
from spikenas.search.trial import Trial
from spikenas.space.space import Space

# A short training of the search sees this share of the images an epoch, within bounds.
RACE_SHARE, RACE_IMAGES_LEAST, RACE_IMAGES_MOST = 1 / 5, 2000, 10_000
ENOUGH_EPOCHS = 40
"""of a training, after which more bring little"""
HEAVY_IMAGES = 2000
"""an epoch of more images than these takes seconds, for which it is worth to start other processes"""


@dataclass(frozen=True)
class SearchTask:
    """What is searched, for which device, and how. Raises InputError for what needs a dataset and has none.

    ``epoch_work``: weights that an epoch of the training that follows can apply, where its time is known
    (:func:`epoch_work`): finalists that apply more see fewer images in the race.
    """

    space: Space[Any]
    input_shape: Shape
    classes: int
    target: Target
    budget: Budget
    strategy: str = DEFAULT_STRATEGY
    search: SearchSettings = field(default_factory=SearchSettings)
    dataset: Dataset | None = None
    seed: int = 0
    epoch_work: float | None = None

    def __post_init__(self) -> None:
        check_strategy(self.strategy)
        scores = self.scores
        if self.dataset is not None:
            return
        if self.strategy in TRAINING:
            raise InputError(f"strategy '{self.strategy}' trains networks: give --data, or choose another strategy")
        for score in scores:
            if score.needs is not Needs.STRUCTURE:
                raise InputError(f"measure '{score.name}' reads {score.needs}: give --data, or choose another one")

    @property
    def scores(self) -> list[Score]:
        """The scores that the search asks for. Raises InputError for one that does not exist."""
        names = self.search.measure, self.search.shortlist_measure
        return [find_score(name) for name in names if name is not None]

    @property
    def is_heavy(self) -> bool:
        """Whether a trial may take seconds."""
        return self.dataset is not None and race_images(len(self.dataset.train)) > HEAVY_IMAGES

    @cached_property
    def evaluator(self) -> NetworkEvaluator:
        """Who answers the search's proposals; trains on :func:`race_images` images, or so, if at all."""
        data = self.dataset
        evaluator = NetworkEvaluator(
            self.space, self.input_shape, self.classes, self.target, self.budget, seed=self.seed
        )
        if data is None:
            return evaluator
        # torch is loaded only where something is trained or looks at images
        from spikenas.run.trainer import ShortTrainer
        from spikenas.snn.train import TrainConfig

        images = race_images(len(data.train))
        seen, judged = (thin(split, images, np.random.default_rng(self.seed)) for split in (data.train, data.val))
        # the same for all; on rates, which rank networks as spikes do once they are used to them, in half the time
        config = TrainConfig(batch_size=TrainConfig().batch_of(images), rate_coded=1.0, threads=1)
        trainer = ShortTrainer(seen, judged, config)
        if self.epoch_work is not None:
            trainer = replace(trainer, most_work=self.epoch_work * images / len(data.train))
        evaluator = replace(evaluator, trainer=trainer)
        if all(score.needs is Needs.STRUCTURE for score in self.scores):
            return evaluator
        from spikenas.score.probe import draw_probe

        return replace(evaluator, probe=draw_probe(data.train, seed=self.seed))


def search_networks(
    task: SearchTask,
    folder: RunFolder,
    store: RunStore,
    executor: Executor,
    on_trial: Callable[[Trial], None] | None = None,
) -> StudyResult:
    """Run the study of ``task``, or the rest of it. Raises NothingFits."""
    smallest = task.space.format(task.space.smallest(task.input_shape, task.classes))
    search = task.search if task.dataset is not None else replace(task.search, finalists=0)
    learner = PredictorLearner(task.space, task.input_shape, task.classes)
    strategy = make_strategy(task.strategy, task.space, search, seed=task.seed, first=(smallest,), learner=learner)
    return run_study(strategy, task.evaluator, executor, store, Checkpoints(folder.weights), on_trial)


def epoch_work(minutes: float, folder: RunFolder, dataset: Dataset) -> float:
    """Weights that this computer applies in an epoch, of ENOUGH_EPOCHS in so many minutes of training.

    Its speed is measured once and stays in the folder, so that a search goes on as it began.
    """
    if not folder.speed.exists():
        from spikenas.run.trainer import measured_work_rate

        write_json(folder.speed, {"weights_per_s": measured_work_rate(dataset.train)})
    return float(read_json(folder.speed)["weights_per_s"]) * 60 * minutes / ENOUGH_EPOCHS


def race_images(images: int) -> int:
    """Images that a short training of the search sees an epoch, of so many.

    >>> race_images(1294), race_images(45_000), race_images(1_000_000)
    (1294, 9000, 10000)
    """
    return min(images, max(RACE_IMAGES_LEAST, min(RACE_IMAGES_MOST, round(RACE_SHARE * images))))


class Limits(Protocol):
    """Limits as settings have them; None leaves memory to the target and the rest free."""

    @property
    def flash_bytes(self) -> int | None: ...
    @property
    def ram_bytes(self) -> int | None: ...
    @property
    def energy_nj(self) -> float | None: ...
    @property
    def latency_ms(self) -> float | None: ...


def budget_of(settings: Limits, target: Target) -> Budget:
    """The limits of a search: those given, and the target's memories where none is. Raises BudgetError."""
    for name, given, there in (
        ("flash", settings.flash_bytes, target.flash_bytes),
        ("RAM", settings.ram_bytes, target.ram_bytes),
    ):
        if given is not None and given > there:
            raise BudgetError(
                f"{name} budget {format_bytes(given)}: target '{target.name}' has {format_bytes(there)}; "
                "lower the budget or choose another target"
            )
    return Budget(
        settings.flash_bytes or target.flash_bytes,
        settings.ram_bytes or target.ram_bytes,
        settings.energy_nj,
        settings.latency_ms,
    )
