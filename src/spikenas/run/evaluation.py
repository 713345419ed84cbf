"""A finished run judged again: on any split of any dataset that fits it, with exact operations and every target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from spikenas.cost.cost import Cost, estimate
from spikenas.cost.target import TARGETS, load_target
from spikenas.data.datasets import dataset_of
from spikenas.data.split import Labels, Split
from spikenas.deploy.ladder import Progress, silent
from spikenas.errors import InputError
from spikenas.run.artifacts import load_integer_model, load_model
from spikenas.run.choice import choice_of_search
from spikenas.run.folder import read_run
from spikenas.run.integer_predict import predict_integers
from spikenas.snn.network import from_model
from spikenas.snn.operations_count import count_operations

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """One layer over all images, counted: of a Lif its ``spikes`` and their rate per neuron and step, of a Conv2d or
    Linear its ``synops``."""

    name: str
    spike_rate: float | None = None
    spikes: int | None = None
    synops: int | None = None


@dataclass(frozen=True, slots=True)
class TargetCost:
    """Of one inference at the rates that were counted, as a Cost tells it; ``refusal``: why it cannot run there."""

    energy_nj: float
    latency_ms_low: float
    latency_ms: float
    energy_core_uj_low: float | None
    energy_core_uj_high: float | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """Accuracies 0 to 1; ``confusion[true][answered]`` of the integer network; ``spikes``, ``synops``, ``macs`` per
    image, the first two counted; ``targets`` by name."""

    genotype: str
    data: str
    split: str
    images: int
    class_names: tuple[str, ...]
    float_accuracy: float
    integer_accuracy: float
    loss: float
    confusion: list[list[int]]
    spike_rate: float
    spikes: float
    synops: float
    macs: float
    layers: tuple[LayerActivity, ...]
    targets: Mapping[str, TargetCost]


def evaluate_run(
    path: Path,
    data: str | None = None,
    split: str = "test",
    message: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> RunEvaluation:
    """Judge the run in ``path``, by default on its own data.

    ``message`` is told of data being read, ``progress`` how many images are done. Raises RunError, ModelError,
    DatasetError, InputError.
    """
    if split not in SPLITS:
        raise InputError(f"split '{split}' is unknown: choose from {', '.join(SPLITS)}")
    folder = read_run(path)
    model, integer = load_model(folder.finished(folder.model)), load_integer_model(folder.integers())
    settings, genotype = choice_of_search(path)
    source = data or settings.get("data")
    if source is None:
        raise InputError(f"{path}: was not made with a dataset; give --data")
    dataset = dataset_of({**settings, "data": source, "limit": None}, progress=message)
    images: Split = {"train": dataset.train, "val": dataset.val, "test": dataset.test}[split]
    classes = model.graph.shapes[model.graph.output][0]
    if dataset.classes != classes:
        raise InputError(
            f"{source} has {dataset.classes} classes, the network {classes}: give the data it was made for"
        )
    progress("float network", 0, len(images))
    counted = count_operations(
        from_model(model), images, on_batch=lambda done: progress("float network", done, len(images))
    )
    judged = counted.evaluation
    progress("integer network", 0, len(images))
    answers = predict_integers(integer, images.images).argmax(axis=1)
    targets = TARGETS if (own := settings.get("target")) is None else {**TARGETS, own: load_target(own)}
    costs = {
        name: estimate(
            integer.graph,
            target,
            judged.spike_rates,
            flash_bytes=settings.get("flash_bytes"),
            ram_bytes=settings.get("ram_bytes"),
            shifted=integer.shifted_left,
        )
        for name, target in targets.items()
    }
    layers = [
        LayerActivity(name, judged.spike_rates.get(name), counted.spikes.get(name), counted.synops.get(name))
        for name in model.graph.layers
        if name in counted.spikes or name in counted.synops
    ]
    return RunEvaluation(
        genotype=genotype,
        data=dataset.name,
        split=split,
        images=len(images),
        class_names=dataset.class_names,
        float_accuracy=judged.accuracy,
        integer_accuracy=float((answers == images.labels).mean()),
        loss=judged.loss,
        confusion=_confusion(images.labels, answers, dataset.classes).tolist(),
        spike_rate=judged.spike_rate,
        spikes=sum(counted.spikes.values()) / len(images),
        synops=sum(counted.synops.values()) / len(images),
        macs=next(iter(costs.values())).macs,
        layers=tuple(layers),
        targets={name: _on_target(cost) for name, cost in costs.items()},
    )


def _confusion(labels: Labels, answers: Labels, classes: int) -> Labels:
    """``[true, answered]`` counts."""
    return np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)


def _on_target(cost: Cost) -> TargetCost:
    refusals = cost.assignment.refusals if cost.assignment else ()
    same = {item.name: getattr(cost, item.name) for item in fields(TargetCost) if item.name != "refusal"}
    return TargetCost(**same, refusal=refusals[0] if refusals else "")
