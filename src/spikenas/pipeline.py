"""The whole road on one page: dataset and budget in; a trained integer network that fits, and a report, out.

    search -> train -> quantize -> evaluate -> report

Each stage leaves its result in the run's folder and is skipped when that is there, so the same command goes on where
it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spikenas.cost.budget import Budget
from spikenas.cost.cost import Cost, estimate
from spikenas.cost.neuromorphic import for_target
from spikenas.cost.target import Target, load_target
from spikenas.cost.words import time_and_energy
from spikenas.data.datasets import Dataset, dataset_of
from spikenas.errors import NothingFits
from spikenas.graph import Graph, Lif
from spikenas.html_table import html_table
from spikenas.model import IntegerModel
from spikenas.run.answers import look_at_answers
from spikenas.run.artifacts import plain, read_json, write_json
from spikenas.run.choice import keep_choice
from spikenas.run.decisions import why_kernels, why_network
from spikenas.run.executor import ExecutorSettings, check_executor, make_executor
from spikenas.run.folder import RunFolder
from spikenas.run.integer_predict import predict_integers
from spikenas.run.quantization import read_quantized
from spikenas.run.report import ReportData, write_report
from spikenas.run.report_again import keep_page
from spikenas.run.report_certificates import read_certificates
from spikenas.run.rounding_stage import make_integers
from spikenas.run.run_settings import RunSettings, command_line, settings_of_any
from spikenas.run.search_stage import epoch_work, search_networks
from spikenas.run.search_study import SearchObserver
from spikenas.run.store import RunStore, open_study
from spikenas.run.teach_stage import follow_teacher, train_teacher
from spikenas.run.train_stage import TrainObserver, follow_training, for_minutes, suitable_training, train_network
from spikenas.search.trial import Trial, trial_to_dict
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import from_model
from spikenas.snn.train import BatchStats, EpochStats, TrainConfig
from spikenas.space.space import load_space


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended; accuracies are 0 to 1 on the test images, which nothing before this summary has seen."""

    genotype: str
    space: str
    data: str
    target: str
    fits: bool
    violations: tuple[str, ...]
    budget: Budget
    float_accuracy: float
    integer_accuracy: float
    spike_rate: float
    parameters: int
    cost: Cost
    trials: int
    epochs: int
    processes: int
    seed: int
    seconds: Mapping[str, float]
    report: Path
    class_names: tuple[str, ...] = ()
    spike_rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The run's."""
        return self.report.parent

    def _repr_html_(self) -> str:
        limits = self.budget
        rows = [
            ("verdict", "fits" if self.fits else "; ".join(self.violations)),
            ("test accuracy, float", f"{100 * self.float_accuracy:.2f}%"),
            ("test accuracy, integer", f"{100 * self.integer_accuracy:.2f}%"),
            ("flash", f"{self.cost.flash_bytes:,} of {limits.flash_bytes:,} bytes"),
            ("RAM", f"{self.cost.ram_bytes:,} of {limits.ram_bytes:,} bytes"),
            *time_and_energy(self.cost),
            ("report", self.report),
        ]
        return html_table(rows, title=f"{self.genotype} for {self.data} on {self.target}")


class Observer(SearchObserver, TrainObserver, Protocol):
    """Is told what goes on; see :class:`spikenas.cli.progress.RunProgress` for one that draws bars."""


class Silent:
    """An observer that says nothing."""

    def stage(self, name: str, detail: str) -> None: ...
    def message(self, text: str) -> None: ...
    def trial(self, trial: Trial) -> None: ...
    def batch(self, stats: BatchStats) -> None: ...
    def epoch(self, stats: EpochStats) -> None: ...


def run(
    settings: RunSettings,
    out: Path,
    observer: Observer | None = None,
    executor: ExecutorSettings | None = None,
    store_url: str | None = None,
    *,
    tensorboard: bool = False,
) -> RunSummary:
    """The road from end to end, in the folder ``out``; run again with the same settings, it goes on.

    ``executor``: who evaluates the search's trials; ``store_url``: a database that keeps the study instead of a file
    in ``out``. The answer depends on neither. ``tensorboard``: leave event files of the training as well.

    Raises NothingFits when no network of the space keeps the budget, or a given one cannot, and InputError for settings
    that make no sense.
    """
    observer, executor = observer or Silent(), executor or ExecutorSettings()
    check_executor(executor)
    task = settings.task(progress=observer.message)
    space, target, budget, dataset = task.space, task.target, task.budget, task.dataset
    assert dataset is not None  # settings of a run name one
    if settings.genotype is None:  # before there is a folder
        task.evaluator.check_budget()
    else:
        _check_fits(_to_train(settings, settings.genotype, dataset)[0], target, budget)
    with open_study(out, asdict(settings), store_url) as (folder, store):
        if settings.genotype is None:
            observer.stage("search", f"{settings.strategy} over space '{space.name}'")
            if settings.minutes is not None:
                task = replace(task, epoch_work=epoch_work(settings.minutes, folder, dataset))
            with (
                _timed(store, "search"),
                closing(make_executor(executor, heavy=task.is_heavy, progress=observer.message)) as workers,
            ):
                found = search_networks(task, folder, store, workers, observer.trial)
                observer.message(why_network(found))
            genotype, trials = found.best.genotype, found.trials
            keep_choice(folder, genotype)
        else:
            genotype, trials = space.format(space.canonical(space.parse(settings.genotype))), ()
        graph, training = _to_train(settings, genotype, dataset)
        with _timed(store, "train"):
            observer.stage("train", genotype)
            if settings.minutes is None and settings.epochs is None:
                observer.message(f"{training.epochs} epochs, as {len(dataset.train):,} images suit")
            if settings.minutes is not None:
                training = for_minutes(settings.minutes, folder, graph, dataset, training, settings.teacher, observer)
            teacher = train_teacher(folder, dataset, training, settings.teacher, observer)
            model = train_network(folder, graph, dataset, training, observer, teacher, tensorboard=tensorboard)
        with _timed(store, "quantize"):
            observer.stage("quantize", "integer weights, thresholds and membranes")
            model, integer = make_integers(folder, model, dataset, training, observer, teacher)
        with _timed(store, "evaluate"):
            observer.stage("evaluate", f"{len(dataset.test)} test images")
            judged = evaluate(from_model(model), dataset.test)
            answers = predict_integers(integer, dataset.test.images).argmax(axis=1)
            looked = look_at_answers(integer, dataset.test, dataset.class_names, answers)
        cost = estimate(
            integer.graph,
            target,
            judged.spike_rates,
            flash_bytes=budget.flash_bytes,
            ram_bytes=budget.ram_bytes,
            shifted=integer.shifted_left,
        )
        observer.message(why_kernels(cost, integer.graph, target, budget))
        summary = RunSummary(
            genotype=genotype,
            space=space.name,
            data=dataset.name,
            target=target.name,
            fits=not budget.violations(cost),
            violations=budget.violations(cost),
            budget=budget,
            float_accuracy=judged.accuracy,
            integer_accuracy=float(np.mean(answers == dataset.test.labels)),
            spike_rate=judged.spike_rate,
            parameters=graph.parameter_count,
            cost=cost,
            trials=len(trials),
            epochs=training.epochs,
            processes=settings.processes,
            seed=settings.seed,
            seconds=store.stages(),
            report=folder.report,
            class_names=dataset.class_names,
            spike_rates=judged.spike_rates,
        )
        observer.stage("report", str(folder.report))
        _write(folder, settings, summary, trials, graph, integer, looked)
    return summary


def follow(settings: RunSettings, out: Path) -> None:
    """The part of every process of torchrun but the first, which calls :func:`run`: to train along."""
    assert settings.genotype is not None
    dataset, folder = dataset_of(asdict(settings)), RunFolder(out, {})
    graph, training = _to_train(settings, settings.genotype, dataset)
    teacher = follow_teacher(folder, dataset, training, settings.teacher)
    follow_training(folder, graph, dataset, training, teacher)


def _to_train(settings: RunSettings, genotype: str, dataset: Dataset) -> tuple[Graph, TrainConfig]:
    """The network of a genotype as the target has it, and how to train it."""
    space = load_space(settings.space).for_frames(dataset.frames)
    graph = space.lower(space.canonical(space.parse(genotype)), dataset.input_shape, dataset.classes)
    training = suitable_training(settings.training, len(dataset.train), settings.epochs, settings.seed)
    return for_target(graph, load_target(settings.target)), training


def _check_fits(graph: Graph, target: Target, budget: Budget) -> None:
    """Raise NothingFits for a network that would be over the budget if it never fired a spike."""
    silent = {node.name: 0.0 for node in graph.nodes if isinstance(node.layer, Lif)}
    least = estimate(graph, target, silent, flash_bytes=budget.flash_bytes, ram_bytes=budget.ram_bytes)
    if over := budget.violations(least):
        raise NothingFits(f"this network cannot fit: {'; '.join(over)}; raise that limit, or search for a smaller one")


@contextmanager
def _timed(store: RunStore, stage: str) -> Iterator[None]:
    """Adds the stage's time to the store, also when it is interrupted."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        store.add_stage(stage, time.perf_counter() - begun)


def _write(
    folder: RunFolder,
    settings: RunSettings,
    summary: RunSummary,
    trials: tuple[Trial, ...],
    graph: Graph,
    integer: IntegerModel,
    answers: Mapping[str, Any],
) -> None:
    """The report, and the summary as JSON."""
    repeated, out = settings, folder.path
    if settings.minutes is not None:  # which mean other epochs elsewhere
        repeated, out = replace(settings, minutes=None, epochs=summary.epochs), out.with_name(f"{out.name}-again")
    page = ReportData(
        title=f"{summary.data} on {summary.target}",
        genotype=summary.genotype,
        space=summary.space,
        data=summary.data,
        target=summary.target,
        budget=summary.budget,
        cost=summary.cost,
        graph=graph,
        float_accuracy=summary.float_accuracy,
        integer_accuracy=summary.integer_accuracy,
        spike_rate=summary.spike_rate,
        spike_rates=summary.spike_rates,
        seconds=summary.seconds,
        seed=summary.seed,
        command=command_line(repeated, out),
        minutes=settings.minutes,
        curve=read_json(folder.curve),
        trials=[trial_to_dict(trial) for trial in trials],
        train_command=command_line(settings_of_any(repeated), Path("OUT")) if trials else "",
        answers=answers,
        quantized=read_quantized(folder.path),
        certificates=read_certificates(folder.path),
    )
    keep_page(folder.path, page, integer)
    write_report(page, folder.report)
    write_json(folder.summary, plain(summary))
