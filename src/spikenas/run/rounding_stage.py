"""From the trained network to its integers, with a short training on rounded weights where rounding costs much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikenas.data.datasets import Dataset
from spikenas.data.split import thin
from spikenas.model import IntegerModel, Model
from spikenas.run.artifacts import load_integer_model, load_model, save_model
from spikenas.run.decisions import why_rounding
from spikenas.run.folder import RunFolder
from spikenas.run.integer_predict import integer_accuracy
from spikenas.run.quantization import CALIBRATION_IMAGES
from spikenas.run.train_stage import FINE_TUNING_SHARE, TrainObserver
from spikenas.snn.calibration import Calibration, calibrate
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import from_model
from spikenas.snn.precision import has_few_bits
from spikenas.snn.qat import fine_tune, qat_config
from spikenas.snn.quantize import quantize
from spikenas.snn.torchrun import processes
from spikenas.snn.train_config import TrainConfig

MOST_LOST = 0.0025
"""of validation accuracy, up to which rounding is left alone"""
JUDGED_IMAGES = 5000


def make_integers(
    folder: RunFolder,
    model: Model,
    dataset: Dataset,
    training: TrainConfig,
    observer: TrainObserver,
    teacher: Model | None = None,
) -> tuple[Model, IntegerModel]:
    """The network and its integers, from the folder where they are there.

    The network is ``model``, unless weights of few bits made it worse by more than MOST_LOST and training on with them
    rounded made it better again: then it is the one with these weights, and ``model`` stays as the unrounded one.
    """
    if folder.integer_model.exists():
        return model, load_integer_model(folder.integer_model)
    model = load_model(folder.trained)  # a run that was stopped between two files may have gone on from it
    calibration = thin(dataset.train, CALIBRATION_IMAGES, np.random.default_rng(training.seed)).images
    seen = calibrate(model, calibration)
    integer = quantize(model, seen)
    if has_few_bits(model.graph) and processes() == 1:
        model, integer = _tuned(folder, model, integer, dataset, training, calibration, seen, observer, teacher)
    save_model(folder.integer_model, integer)
    return model, integer


def _tuned(
    folder: RunFolder,
    model: Model,
    integer: IntegerModel,
    dataset: Dataset,
    training: TrainConfig,
    calibration: npt.NDArray[np.uint8],
    seen: Calibration,
    observer: TrainObserver,
    teacher: Model | None,
) -> tuple[Model, IntegerModel]:
    judged = thin(dataset.val, JUDGED_IMAGES, np.random.default_rng(training.seed))
    before, rounded = evaluate(from_model(model), judged).accuracy, integer_accuracy(integer, judged)
    if before - rounded <= MOST_LOST:
        return model, integer
    epochs = max(1, round(FINE_TUNING_SHARE * training.epochs))
    observer.message(f"rounding costs {100 * (before - rounded):.1f} points in validation: training on with it")
    tuned = fine_tune(
        model,
        dataset.train,
        dataset.val,
        qat_config(epochs, seed=training.seed),
        calibration=seen,
        teacher=teacher,
        on_epoch=observer.epoch,
        on_batch=observer.batch,
    )
    again = quantize(tuned.model, calibration, grid=tuned.grid)
    after = integer_accuracy(again, judged)
    observer.message(why_rounding(before, rounded, after, epochs))
    if after <= rounded:
        return model, integer
    save_model(folder.unrounded, model)
    save_model(folder.model, tuned.model)
    return tuned.model, again
