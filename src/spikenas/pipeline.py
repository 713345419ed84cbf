"""The whole road on one page: dataset and budget in; a trained integer network that fits, and a report, out.

    search -> train -> quantize -> evaluate -> report

Each stage leaves its result in the run's folder and is skipped when that is there, so the same command goes on where
it stopped.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from spikenas.cost.budget import Budget
from spikenas.cost.cost import Cost, estimate
from spikenas.cost.target import DEFAULT_TARGET, load_target
from spikenas.data.datasets import Dataset, load_dataset
from spikenas.graph import Graph
from spikenas.model import IntegerModel, Model
from spikenas.run.artifacts import load_integer_model, load_model, plain, read_json, save_model, write_json
from spikenas.run.executor import ExecutorSettings, make_executor
from spikenas.run.folder import RunFolder, open_run
from spikenas.run.report import ReportData, write_report
from spikenas.run.search_stage import SearchTask, budget_of, search_networks
from spikenas.run.store import RunStore, open_store
from spikenas.score.structure_scores import default_measure
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import DEFAULT_STRATEGY
from spikenas.search.trial import Trial, trial_to_dict
from spikenas.snn.evaluate import evaluate
from spikenas.snn.integer_network import predict
from spikenas.snn.network import from_model
from spikenas.snn.quantize import quantize
from spikenas.snn.train import BatchStats, EpochStats, TrainConfig, train
from spikenas.space.space import load_space

# Without --epochs a network is shown about so many images, within these bounds on epochs.
IMAGES_SHOWN, EPOCHS_LEAST, EPOCHS_MOST = 100_000, 3, 60


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is told; two runs with equal settings are the same run.

    ``flash_bytes`` and ``ram_bytes`` None take the target's; ``epochs`` None suits the dataset's size.
    """

    data: str
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    energy_nj: float | None = None
    latency_ms: float | None = None
    target: str = DEFAULT_TARGET
    space: str = "embedded"
    operations: tuple[str, ...] | None = None
    strategy: str = DEFAULT_STRATEGY
    search: SearchSettings = field(default_factory=SearchSettings)
    epochs: int | None = None
    limit: int | None = None
    seed: int = 0


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
    seed: int
    seconds: Mapping[str, float]
    report: Path


class Observer(Protocol):
    """Is told what goes on; see :class:`spikenas.cli.progress.Progress` for one that draws bars."""

    def stage(self, name: str, detail: str) -> None: ...
    def message(self, text: str) -> None: ...
    def trial(self, trial: Trial) -> None: ...
    def batch(self, stats: BatchStats) -> None: ...
    def epoch(self, stats: EpochStats) -> None: ...


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
) -> RunSummary:
    """The road from end to end, in the folder ``out``; run again with the same settings, it goes on.

    ``executor``: who evaluates the search's trials; ``store_url``: a database that keeps the study instead of a file
    in ``out``. The answer depends on neither.

    Raises NothingFits when no network of the space keeps the budget, and InputError for settings that make no sense.
    """
    observer = observer or Silent()
    target = load_target(settings.target)
    budget = budget_of(settings, target)
    space = load_space(settings.space, settings.operations)
    dataset = load_dataset(settings.data, seed=settings.seed, limit=settings.limit, progress=observer.message)
    kind = dataset.input_shape, dataset.classes
    task = SearchTask(space, *kind, target, budget, settings.strategy, settings.search, dataset, settings.seed)
    with open_run(out, asdict(settings)) as folder, open_store(folder.study, asdict(settings), store_url) as store:
        with _timed(store, "search"):
            observer.stage("search", f"{settings.strategy} over space '{space.name}'")
            with closing(make_executor(executor or ExecutorSettings())) as workers:
                found = search_networks(task, folder, store, workers, observer.trial)
        chosen, trials = found.best, found.trials
        graph = space.lower(space.parse(chosen.genotype), dataset.input_shape, dataset.classes)
        epochs = settings.epochs or suitable_epochs(len(dataset.train))
        with _timed(store, "train"):
            observer.stage("train", f"{chosen.genotype}, {epochs} epochs")
            model = _train(settings, folder, graph, dataset, epochs, observer)
        with _timed(store, "quantize"):
            observer.stage("quantize", "integer weights, thresholds and membranes")
            integer = _quantize(folder, model, dataset)
        with _timed(store, "evaluate"):
            observer.stage("evaluate", f"{len(dataset.test)} test images")
            judged = evaluate(from_model(model), dataset.test)
            correct = predict(integer, dataset.test.images).argmax(axis=1) == dataset.test.labels
        cost = estimate(integer.graph, target, judged.spike_rates)
        summary = RunSummary(
            genotype=chosen.genotype,
            space=space.name,
            data=dataset.name,
            target=target.name,
            fits=not budget.violations(cost),
            violations=budget.violations(cost),
            budget=budget,
            float_accuracy=judged.accuracy,
            integer_accuracy=float(np.mean(correct)),
            spike_rate=judged.spike_rate,
            parameters=graph.parameter_count,
            cost=cost,
            trials=len(trials),
            epochs=epochs,
            seed=settings.seed,
            seconds=store.stages(),
            report=folder.report,
        )
        _write(folder, settings, summary, trials, graph)
    return summary


def suitable_epochs(images: int) -> int:
    """Epochs that show a network about IMAGES_SHOWN images.

    >>> suitable_epochs(1294), suitable_epochs(10_000), suitable_epochs(45_000)
    (60, 10, 3)
    """
    return max(EPOCHS_LEAST, min(EPOCHS_MOST, IMAGES_SHOWN // images))


def _train(
    settings: RunSettings, folder: RunFolder, graph: Graph, dataset: Dataset, epochs: int, observer: Observer
) -> Model:
    if folder.model.exists():
        observer.message("already trained")
        return load_model(folder.model)
    config = TrainConfig(epochs=epochs, seed=settings.seed)
    result = train(graph, dataset.train, dataset.val, config, on_epoch=observer.epoch, on_batch=observer.batch)
    write_json(folder.curve, [asdict(stats) for stats in result.curve])
    save_model(folder.model, result.model)
    return result.model


def _quantize(folder: RunFolder, model: Model, dataset: Dataset) -> IntegerModel:
    if folder.integer_model.exists():
        return load_integer_model(folder.integer_model)
    integer = quantize(model)
    save_model(folder.integer_model, integer)
    return integer


@contextmanager
def _timed(store: RunStore, stage: str) -> Iterator[None]:
    """Adds the stage's time to the store, also when it is interrupted."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        store.add_stage(stage, time.perf_counter() - begun)


def _write(
    folder: RunFolder, settings: RunSettings, summary: RunSummary, trials: tuple[Trial, ...], graph: Graph
) -> None:
    """The report, and the summary as JSON."""
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
        seconds=summary.seconds,
        seed=summary.seed,
        command=command_line(settings, folder.path),
        curve=read_json(folder.curve),
        trials=[trial_to_dict(trial) for trial in trials],
    )
    write_report(page, folder.report)
    write_json(folder.summary, plain(summary))


def command_line(settings: RunSettings, out: Path) -> str:
    """What to type to repeat a run.

    >>> command_line(RunSettings("digits", flash_bytes=32768, seed=1), Path("runs/demo"))
    'spikenas run --data digits --flash 32768 --seed 1 --out runs/demo'
    """
    default = RunSettings(settings.data)
    words = ["spikenas", "run", "--data", settings.data]
    for flag, name in FLAGS.items():
        value = getattr(settings, name)
        if value != getattr(default, name):
            words += [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
    usual = replace(default.search, measure=default_measure(settings.space))
    for name in ("samples", "finalists", "measure"):
        value = getattr(settings.search, name)
        if value != getattr(usual, name):
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--out", str(out)])


FLAGS = {
    "--flash": "flash_bytes",
    "--ram": "ram_bytes",
    "--energy": "energy_nj",
    "--latency": "latency_ms",
    "--target": "target",
    "--space": "space",
    "--operations": "operations",
    "--strategy": "strategy",
    "--epochs": "epochs",
    "--limit": "limit",
    "--seed": "seed",
}
"""Command-line options of a run and the settings they set."""
