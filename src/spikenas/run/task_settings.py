"""What every search is told, be it a study by itself or the first stage of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spikenas.cost.target import DEFAULT_TARGET, load_target
from spikenas.data.datasets import dataset_of
from spikenas.data.encode import DIRECT
from spikenas.data.images import Progress
from spikenas.graph import Shape
from spikenas.run.search_stage import SearchTask, budget_of
from spikenas.score.structure_scores import default_measure
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import DEFAULT_STRATEGY
from spikenas.space.samples import frames_of
from spikenas.space.space import load_space, searched_operations


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """A dataset, limits, a target, and what to search how; ``flash_bytes``, ``ram_bytes`` None take the target's.

    ``operations``: see :func:`spikenas.space.space.searched_operations`. ``encode`` and ``frames`` make frames of
    images (:mod:`spikenas.data.encode`), ``frames`` alone of events.
    """

    data: str | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    energy_nj: float | None = None
    latency_ms: float | None = None
    target: str = DEFAULT_TARGET
    space: str = "embedded"
    operations: tuple[str, ...] | None = None
    strategy: str = DEFAULT_STRATEGY
    search: SearchSettings = field(default_factory=SearchSettings)
    limit: int | None = None
    encode: str = DIRECT
    frames: int | None = None
    seed: int = 0

    def task(self, shape: Shape = (), classes: int = 0, progress: Progress | None = None) -> SearchTask:
        """The task, its dataset loaded; ``shape`` and ``classes`` where there is none.

        Raises InputError for settings that make no sense.
        """
        target = load_target(self.target)
        budget, dataset = budget_of(self, target), None
        space = load_space(self.space, searched_operations(self.space, self.operations))
        if self.data is not None:
            dataset = dataset_of(asdict(self), progress=progress)
            shape, classes = dataset.input_shape, dataset.classes
        space = space.for_frames(frames_of(shape))
        return SearchTask(space, shape, classes, target, budget, self.strategy, self.search, dataset, self.seed)


def search_settings(space: str, given: Mapping[str, Any]) -> SearchSettings:
    """The defaults of a space, and those of ``given``, by name, that are not None. Raises InputError."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(SearchSettings(measure=default_measure(space)), **chosen)
