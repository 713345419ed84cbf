"""A study by itself: search without final training, in a folder, resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Protocol, Self

from spikenas.cost.budget import Budget
from spikenas.errors import InputError, RunError
from spikenas.graph import Shape
from spikenas.html_table import html_table
from spikenas.run.artifacts import plain, read_json, write_json
from spikenas.run.decisions import why_network
from spikenas.run.executor import ExecutorSettings, check_executor, make_executor
from spikenas.run.folder import check_run, read_run
from spikenas.run.search_stage import SearchTask, search_networks
from spikenas.run.store import RunStore, open_study
from spikenas.run.study import StudyResult
from spikenas.run.task_settings import TaskSettings
from spikenas.search.pareto import OBJECTIVES, pareto_front
from spikenas.search.trial import Trial, TrialState, fitting, trial_from_dict


@dataclass(frozen=True, slots=True)
class StudySettings(TaskSettings):
    """What a study by itself is told; without ``data`` the kind of input and the classes are. Raises InputError."""

    input_shape: Shape | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.data is None and (self.input_shape is None or self.classes is None):
            raise InputError(
                "nothing to search for: give --data, or --input and --classes for a search without training"
            )
        if self.data is not None and (self.input_shape is not None or self.classes is not None):
            raise InputError(f"--input and --classes are those of --data {self.data}: leave them out")


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """How a study ended. ``front``: the trials that no other beats in all ``objectives``, most of the first, first."""

    genotype: str
    best: Trial
    objectives: tuple[str, ...]
    front: tuple[Trial, ...] = field(repr=False)
    budget: Budget
    target: str
    space: str
    data: str | None
    strategy: str
    measure: str
    trials: int
    rejected: int
    failed: int
    trained: int
    seed: int
    seconds: Mapping[str, float]
    folder: Path
    next: str

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """What the search in ``folder`` found. Raises RunError where none has come to its end."""
        run = read_run(Path(folder))
        if not run.summary.is_file():
            raise RunError(f"{folder}: its search has not come to its end; the same command again goes on there")
        told = read_json(run.summary)
        if not isinstance(told, dict) or told.keys() != {item.name for item in fields(cls)}:
            raise RunError(f"{folder}: not the folder of a study; give --out of a search, or this one to evaluate")
        return cls(
            **told
            | {
                "best": trial_from_dict(told["best"]),
                "objectives": tuple(told["objectives"]),
                "front": tuple(map(trial_from_dict, told["front"])),
                "budget": Budget(**told["budget"]),
                "folder": Path(folder),
            }
        )

    def _repr_html_(self) -> str:
        names = ("genotype", *OBJECTIVES)
        rows = [[getattr(trial, name) for name in names] for trial in (self.best, *self.front)]
        title = f"{self.trials:,} trials over {self.space}; the one chosen, and the Pareto front"
        return html_table(rows, names, title)


class SearchObserver(Protocol):
    """Is told what goes on."""

    def stage(self, name: str, detail: str) -> None: ...
    def message(self, text: str) -> None: ...
    def trial(self, trial: Trial) -> None: ...


def search_study(
    settings: StudySettings,
    out: Path,
    observer: SearchObserver | None = None,
    executor: ExecutorSettings | None = None,
    store_url: str | None = None,
) -> SearchSummary:
    """Search only, in the folder ``out``; the same settings again go on there.

    Raises NothingFits when no network of the space keeps the budget, and InputError for settings that make no sense.
    """
    check_run(out, asdict(settings))  # before images are loaded
    progress = None if observer is None else observer.message
    executor = executor or ExecutorSettings()
    check_executor(executor)
    task = settings.task(settings.input_shape or (), settings.classes or 0, progress)
    task.evaluator.check_budget()  # before there is a folder
    with open_study(out, asdict(settings), store_url) as (folder, store):
        if observer is not None:
            observer.stage("search", f"{settings.strategy} over space '{settings.space}'")
        begun = time.perf_counter()
        try:
            with closing(make_executor(executor, heavy=task.is_heavy, progress=progress)) as workers:
                result = search_networks(task, folder, store, workers, None if observer is None else observer.trial)
            if observer is not None:
                observer.message(why_network(result))
        finally:
            store.add_stage("search", time.perf_counter() - begun)
        summary = _summary(settings, task, result, store, out)
        write_json(folder.summary, plain(summary))
    return summary


def _summary(
    settings: StudySettings, task: SearchTask, result: StudyResult, store: RunStore, out: Path
) -> SearchSummary:
    objectives = settings.search.objectives
    scored = [trial for trial in fitting(result.trials) if trial.measure == settings.search.measure]
    front = sorted(pareto_front(scored, objectives), key=lambda trial: -(trial.score or 0.0))
    states = [trial.state for trial in result.trials]
    return SearchSummary(
        genotype=result.best.genotype,
        best=result.best,
        objectives=objectives,
        front=tuple(front),
        budget=task.budget,
        target=task.target.name,
        space=task.space.name,
        data=settings.data,
        strategy=settings.strategy,
        measure=settings.search.measure,
        trials=len(result.trials),
        rejected=states.count(TrialState.REJECTED),
        failed=states.count(TrialState.FAILED),
        trained=sum(trial.accuracy is not None for trial in result.trials),
        seed=settings.seed,
        seconds=store.stages(),
        folder=out,
        next=f"spikenas train {out}" + ("" if settings.data else " --data PATH"),
    )
