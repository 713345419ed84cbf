"""The analysis of operations in a folder: on a table for free, on a dataset by short trainings, resumable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spikenas.cost.target import DEFAULT_TARGET, load_target
from spikenas.data.datasets import dataset_of
from spikenas.data.encode import DIRECT
from spikenas.data.images import Progress
from spikenas.errors import InputError
from spikenas.run.analyze import Analysis, AnalyzeSettings, TestAccuracy, analyze
from spikenas.run.analyze_chart import draw_analysis
from spikenas.run.artifacts import plain, write_bytes, write_json
from spikenas.run.evaluator import Evaluator
from spikenas.run.executor import ExecutorSettings, check_executor, make_executor
from spikenas.run.replay import TableEvaluator
from spikenas.run.search_stage import SearchTask, budget_of
from spikenas.run.store import open_study
from spikenas.score.table import load_table
from spikenas.search.trial import Trial
from spikenas.space.space import Space, load_space

CHART = "analysis.svg"


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """What an analysis is told: a ``table`` of trained networks, or ``data`` to train some on. Raises InputError."""

    table: str | None = None
    data: str | None = None
    space: str = "embedded"
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    energy_nj: float | None = None
    latency_ms: float | None = None
    target: str = DEFAULT_TARGET
    analyze: AnalyzeSettings = field(default_factory=AnalyzeSettings)
    limit: int | None = None
    encode: str = DIRECT
    frames: int | None = None

    def __post_init__(self) -> None:
        if (self.table is None) == (self.data is None):
            raise InputError("what to judge operations by: give either --table or --data")


def analyze_study(
    settings: AnalysisSettings,
    out: Path,
    on_trial: Callable[[Trial], None] | None = None,
    executor: ExecutorSettings | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Judge each operation, in the folder ``out``; the same settings again go on there. Leaves a chart beside.

    Raises InputError for settings that make no sense, and when too few networks fit or could be trained.
    """
    executor = executor or ExecutorSettings()
    check_executor(executor)
    space, evaluator, frames, test_accuracy = _judge(settings, progress)
    with open_study(out, asdict(settings)) as (folder, store):
        with closing(make_executor(executor, progress=progress)) as workers:
            analysis = analyze(
                space,
                settings.analyze,
                evaluator,
                workers,
                store,
                frames=frames,
                test_accuracy=test_accuracy,
                on_trial=on_trial,
            )
        write_bytes(out / CHART, draw_analysis(analysis).encode())
        write_json(folder.summary, plain(analysis))
    return analysis


def _judge(
    settings: AnalysisSettings, progress: Progress | None
) -> tuple[Space[Any], Evaluator, int | None, TestAccuracy | None]:
    """The space, who trains its networks, the frames of a sample, and what is known of networks on test images."""
    if settings.table is not None:
        table = TableEvaluator(load_table(Path(settings.table)), {}, curves=False)
        return table.space, table, None, table.test_accuracy
    target = load_target(settings.target)
    budget = budget_of(settings, target)
    space = load_space(settings.space)
    seed = settings.analyze.seed
    dataset = dataset_of(asdict(settings) | {"seed": seed}, progress=progress)
    space = space.for_frames(dataset.frames)
    task = SearchTask(space, dataset.input_shape, dataset.classes, target, budget, dataset=dataset, seed=seed)
    task.evaluator.check_budget()
    return space, task.evaluator, dataset.frames, None
