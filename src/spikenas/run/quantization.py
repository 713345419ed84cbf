"""A finished run's network at other bits: after training or with a short one, and what that costs and gains.

Each setting leaves ``RUN/quantized/LABEL/integer.safetensors`` and ``quantized.json``; the report of the run reads the
latter. Calibration and fine-tuning see training images, decisions validation images, and only the figures at the end
are of test images, all of them, by the integer network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spikenas.cost.budget import Budget, format_bytes
from spikenas.cost.cost import estimate
from spikenas.cost.memory import Schedule, plan_memory
from spikenas.cost.target import Target, load_target
from spikenas.data.datasets import Dataset, dataset_of
from spikenas.data.split import thin
from spikenas.errors import InputError, NothingFits, RunError
from spikenas.graph import Graph, Input
from spikenas.model import IntegerModel, Model
from spikenas.run.artifacts import load_integer_model, load_model, plain, read_json, save_model, write_json
from spikenas.run.folder import INTEGER_FILE, RESULT_FILE, RunFolder, open_run, read_run
from spikenas.run.integer_predict import integer_accuracy
from spikenas.run.teach_stage import load_teacher
from spikenas.snn.augment import parse_augment
from spikenas.snn.bit_choice import choose_bits, least_flash
from spikenas.snn.calibration import Calibration, calibrate
from spikenas.snn.evaluate import evaluate
from spikenas.snn.flips import flipped_spikes
from spikenas.snn.learning_curve import BatchStats, EpochStats
from spikenas.snn.network import from_model
from spikenas.snn.precision import (
    MEMBRANE_BITS,
    bits_by_layer,
    bits_of_list,
    bytes_by_bits,
    model_with_bits,
    neuron_layers,
)
from spikenas.snn.qat import fine_tune, qat_config
from spikenas.snn.quantize import quantize
from spikenas.snn.ranges import MembraneRange, WeightRange, choose_widths, membrane_ranges, weight_ranges
from spikenas.snn.sensitivity import SENSITIVITY_IMAGES, Sensitivity, noise_table, sensitivities
from spikenas.snn.spike_record import record_spikes
from spikenas.snn.train_config import TrainConfig

CALIBRATION_IMAGES = 1000
FLIP_IMAGES = 200
RECORDED_AT_ONCE = 50
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class QuantizeSettings:
    """How to quantize: ``bits`` (one number, or one by layer) or ``flash_bytes`` (bits are chosen), or neither: the
    run's own bits. ``membrane_bits``: 8, 12, 16, 32, "auto", or None for the network's own. ``qat_epochs`` 0: none.
    ``timesteps``: of a view of the image, None for as many as the network was trained with. ``mirror``: an inference
    sees the image and its mirror image."""

    bits: tuple[int, ...] | None = None
    flash_bytes: int | None = None
    membrane_bits: int | str | None = None
    qat_epochs: int = 0
    calibration_images: int = CALIBRATION_IMAGES
    target: str | None = None
    seed: int = 0
    timesteps: int | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.bits is not None and self.flash_bytes is not None:
            raise InputError("--bits and --flash: bits are either given or chosen, give one of the two")
        if self.membrane_bits not in (None, AUTO, *MEMBRANE_BITS):
            widths = ", ".join(map(str, MEMBRANE_BITS))
            raise InputError(f"--membrane-bits {self.membrane_bits}: choose {widths} or {AUTO}")
        if self.timesteps is not None and self.timesteps < 1:
            raise InputError(f"--timesteps {self.timesteps}: an inference takes at least 1")

    @property
    def keeps_integers(self) -> bool:
        """Whether nothing is asked for but how the network sees an image: its weights stay what they are."""
        asked = (self.bits, self.flash_bytes, self.membrane_bits)
        return all(one is None for one in asked) and not self.qat_epochs

    @property
    def label(self) -> str:
        """A folder's name for these settings.

        >>> QuantizeSettings((8, 4), qat_epochs=3).label, QuantizeSettings(timesteps=2, mirror=True).label
        ('b8.4-qat3', 'own-t2-mirror')
        """
        words = "own" if self.bits is None else f"b{'.'.join(map(str, self.bits))}"
        parts = [f"flash{self.flash_bytes}" if self.flash_bytes is not None else words]
        parts += [f"m{self.membrane_bits}"] if self.membrane_bits is not None else []
        parts += [f"t{self.timesteps}"] if self.timesteps is not None else []
        parts += ["mirror"] if self.mirror else []
        parts += [f"qat{self.qat_epochs}"] if self.qat_epochs else []
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A network at some bits: figures over the whole test set, of the integer network.

    ``flips``: share of spikes that differ from the float network's, layer by layer, given equal inputs (of the weights
    that were quantized, so after any fine-tuning). Time and energies: as a Cost has them, at the spike rates of
    calibration images. ``float_accuracy`` is that of as many ``timesteps`` and, if ``mirrored``, both views.
    """

    label: str
    timesteps: int
    mirrored: bool
    bits: Mapping[str, int]
    membranes: Mapping[str, int]
    qat_epochs: int
    target: str
    kernels: str
    flash_bytes: int
    ram_bytes: int
    test_images: int
    float_accuracy: float
    integer_accuracy: float
    flips: Mapping[str, float]
    sensitivity: tuple[Sensitivity, ...]
    weights: tuple[WeightRange, ...]
    membrane_ranges: tuple[MembraneRange, ...]
    model: Path
    energy_nj: float
    latency_ms_low: float
    latency_ms: float
    energy_core_uj_low: float | None
    energy_core_uj_high: float | None

    @property
    def points_lost(self) -> float:
        """Percentage points of test accuracy against the float network of the same steps and views."""
        return 100 * (self.float_accuracy - self.integer_accuracy)


class Observer(Protocol):
    """Is told what goes on; a part of the pipeline's."""

    def stage(self, name: str, detail: str) -> None: ...
    def message(self, text: str) -> None: ...
    def batch(self, stats: BatchStats) -> None: ...
    def epoch(self, stats: EpochStats) -> None: ...
    def step(self, done: int, total: int, what: str) -> None: ...


def quantize_run(run: Path, settings: QuantizeSettings, observer: Observer, out: Path | None = None) -> Quantized:
    """Quantize the trained network of the run in folder ``run``; files go to ``out``, by default into the run.

    It starts from the network as its training left it; where the settings ask for no other integers, from the run's
    own, for which it may have been trained on with rounded weights. Kernels are chosen for the settings' flash, or the
    run's. Raises QuantizeError for layers that cannot be made integer and bits that make no sense, NothingFits for an
    unreachable flash budget, RunError for a folder without a trained network.
    """
    there = read_run(run)
    model = load_model(there.model if settings.keeps_integers else there.trained)
    model = Model(as_asked(there, model.graph, settings), model.weights)
    target = load_target(settings.target or there.settings["target"])
    flash_bytes = settings.flash_bytes or there.settings.get("flash_bytes")
    budget = Budget(flash_bytes, there.settings.get("ram_bytes"))
    _check_reachable(model, settings, target, budget)
    with open_run(run, there.settings) as folder:
        dataset = _dataset(folder, observer)
        teacher = load_teacher(folder, dataset) if settings.qat_epochs else None
        own = _own_integers(folder, settings) if settings.keeps_integers else None
        result, integer = quantize_model(model, dataset, settings, target, observer, budget, teacher, integer=own)
        place = out or folder.quantized / settings.label
        place.mkdir(parents=True, exist_ok=True)
        save_model(place / INTEGER_FILE, integer)
        result = replace(result, model=place / INTEGER_FILE)
        write_json(place / RESULT_FILE, plain(result) | {"points_lost": result.points_lost})
    return result


def quantize_model(
    model: Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    target: Target,
    observer: Observer,
    budget: Budget | None = None,
    teacher: Model | None = None,
    float_accuracy: float | None = None,
    integer: IntegerModel | None = None,
) -> tuple[Quantized, IntegerModel]:
    """The network at the settings' bits, measured on the whole test set.

    ``budget`` decides on the kernels; a fine-tuning learns from ``teacher`` if there is one. ``float_accuracy`` is that
    of ``model``, and ``integer`` its integers, where they are known already.
    """
    budget = budget or Budget(settings.flash_bytes)
    rng = np.random.default_rng(settings.seed)
    calibration = thin(dataset.train, settings.calibration_images, rng).images
    seen = calibrate(model, calibration if integer is None else None)
    bits, sensitivity = _bits(model, dataset, settings, target, seen, observer, budget.ram_bytes)
    membranes = _membranes(model, bits, settings, calibration, seen)
    wanted, grid = model_with_bits(model, bits, membranes), None
    if float_accuracy is None:
        float_accuracy = evaluate(from_model(model), dataset.test).accuracy
    if settings.qat_epochs:
        observer.stage("fine-tune", f"{settings.qat_epochs} epochs with rounded weights")
        config = qat_config(settings.qat_epochs, seed=settings.seed)
        tuned = fine_tune(
            wanted,
            dataset.train,
            dataset.val,
            config,
            calibration=seen,
            teacher=teacher,
            on_epoch=observer.epoch,
            on_batch=observer.batch,
        )
        wanted, grid = tuned.model, tuned.grid
    observer.stage("evaluate", f"{len(dataset.test)} test images, integers")
    observer.step(0, 3, "integer network")
    if integer is None:
        integer = quantize(wanted, seen if grid is None else calibration, grid=grid)
    accuracy = integer_accuracy(integer, dataset.test)
    cost = estimate(
        integer.graph,
        target,
        _spike_rates(integer, calibration[:FLIP_IMAGES]),
        flash_bytes=budget.flash_bytes,
        ram_bytes=budget.ram_bytes,
        shifted=integer.shifted_left,
    )
    observer.step(1, 3, "changed spikes")
    flips = flipped_spikes(wanted, integer, calibration[:FLIP_IMAGES])
    observer.step(2, 3, "ranges")
    result = Quantized(
        label=settings.label,
        timesteps=model.graph.timesteps,
        mirrored=model.graph.views > 1,
        bits=bits_by_layer(integer),
        membranes={name: lif.membrane_bits for name, lif in neuron_layers(integer.graph).items()},
        qat_epochs=settings.qat_epochs,
        target=target.name,
        kernels=cost.plan.kernels.value,
        flash_bytes=cost.flash_bytes,
        ram_bytes=cost.ram_bytes,
        test_images=len(dataset.test),
        float_accuracy=float_accuracy,
        integer_accuracy=accuracy,
        flips=flips,
        sensitivity=tuple(sensitivity),
        weights=tuple(weight_ranges(integer)),
        membrane_ranges=tuple(membrane_ranges(integer, calibration)),
        model=Path(INTEGER_FILE),
        energy_nj=cost.energy_nj,
        latency_ms_low=cost.latency_ms_low,
        latency_ms=cost.latency_ms,
        energy_core_uj_low=cost.energy_core_uj_low,
        energy_core_uj_high=cost.energy_core_uj_high,
    )
    return result, integer


def _spike_rates(integer: IntegerModel, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Mean spikes per neuron and step on ``images``, seen as they are, by Lif."""
    rates: dict[str, float] = {}
    for start in range(0, len(images), RECORDED_AT_ONCE):
        part = images[start : start + RECORDED_AT_ONCE]
        for name, spikes in record_spikes(integer, part)[1].items():
            rates[name] = rates.get(name, 0.0) + float(spikes.mean()) * len(part) / len(images)
    return rates


def read_quantized(run: Path) -> list[dict[str, Any]]:
    """The results of all settings in a run's folder, largest flash first, as JSON has them."""
    files = sorted(RunFolder(run, {}).quantized.glob(f"*/{RESULT_FILE}"))
    found: list[dict[str, Any]] = [read_json(file) for file in files]
    return sorted(found, key=lambda row: (-row["flash_bytes"], row["label"]))


def as_asked(folder: RunFolder, graph: Graph, settings: QuantizeSettings) -> Graph:
    """The folder's network with the settings' timesteps and views. Raises InputError for those that it cannot have."""
    steps = settings.timesteps
    layer = graph[graph.input]
    assert isinstance(layer, Input)
    if steps is not None and not layer.static:
        raise InputError(f"--timesteps {steps}: a sample has {graph.timesteps} frames, a step each; leave it out")
    graph = replace(graph, timesteps=steps or graph.timesteps)
    if settings.mirror:
        _check_mirrored(folder, layer)
        shown = {graph.input: replace(layer, mirrored=True)}
        graph = replace(graph, nodes=tuple(replace(n, layer=shown.get(n.name, n.layer)) for n in graph.nodes))
    return graph


def _own_integers(folder: RunFolder, settings: QuantizeSettings) -> IntegerModel:
    """The run's integers, which see an image as asked: sums over more steps stand for the same means."""
    own = load_integer_model(folder.integers())
    graph = as_asked(folder, own.graph, settings)
    return IntegerModel(graph, own.weights, own.output_scale * own.graph.inference_steps / graph.inference_steps)


def _check_mirrored(folder: RunFolder, layer: Input) -> None:
    if not layer.static:
        raise InputError("--mirror: a sample is frames, which are shown as they are; leave it out")
    channels, height, width = layer.shape
    augment = (folder.settings.get("training") or {}).get("augment", TrainConfig().augment)
    if not parse_augment(augment, (channels, height, width)).flip:
        raise InputError(
            f"--mirror: training (--augment {augment}) showed no mirror images; leave it out, or train with 'flip'"
        )


def _check_reachable(model: Model, settings: QuantizeSettings, target: Target, budget: Budget) -> None:
    """Refuse before data are loaded."""
    if settings.bits is not None:
        bits_of_list(model.graph, settings.bits, target)
    if settings.flash_bytes is None:
        return
    if (least := least_flash(model.graph, target, budget.flash_bytes, budget.ram_bytes)) > settings.flash_bytes:
        raise NothingFits(
            f"flash budget {format_bytes(settings.flash_bytes)}: this network needs {least:,} bytes at the fewest "
            "bits; raise --flash, or search for a smaller network with spikenas run"
        )


def _dataset(folder: RunFolder, observer: Observer) -> Dataset:
    told = folder.settings
    for name in ("data", "seed", "limit"):
        if name not in told:
            raise RunError(f"{folder.path}: its settings name no {name}; give the folder of a spikenas run")
    return dataset_of(told, progress=observer.message)


def _bits(
    model: Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    target: Target,
    seen: Calibration,
    observer: Observer,
    ram_bytes: int | None,
) -> tuple[dict[str, int], list[Sensitivity]]:
    """Bits by layer, and the sensitivities where they were measured to choose them."""
    if settings.flash_bytes is None:
        own = bits_by_layer(model)
        return (own if settings.bits is None else bits_of_list(model.graph, settings.bits, target)), []
    sizes = bytes_by_bits(model.graph, target)
    layers = [name for name, size in sizes.items() if min(size.values()) < max(size.values())]
    judged = thin(dataset.val, SENSITIVITY_IMAGES, np.random.default_rng(settings.seed))
    observer.stage("sensitivity", f"{len(layers)} layers on {len(judged)} validation images")
    found = sensitivities(model, layers, judged, seen, observer.step)
    return choose_bits(model.graph, noise_table(found), target, settings.flash_bytes, ram_bytes), found


def _membranes(
    model: Model,
    bits: Mapping[str, int],
    settings: QuantizeSettings,
    calibration: np.ndarray[Any, np.dtype[np.uint8]],
    seen: Calibration,
) -> dict[str, int]:
    """Membrane bits by Lif."""
    lifs = neuron_layers(model.graph)
    if settings.membrane_bits is None:
        return {name: lif.membrane_bits for name, lif in lifs.items()}
    if settings.membrane_bits != AUTO:
        return dict.fromkeys(lifs, int(settings.membrane_bits))
    wide = quantize(model_with_bits(model, bits, dict.fromkeys(lifs, 16)), seen)
    stored = plan_memory(wide.graph).schedule is Schedule.STEP_MAJOR
    return choose_widths(membrane_ranges(wide, calibration), stored=stored)
