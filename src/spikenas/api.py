"""The road in Python, step by step: each verb calls what the verb of the same name in a terminal calls.

A step works in a folder, which it leaves to the next one, to the command line and to the report. Without ``out`` that
is a temporary one, gone when Python ends. With ``progress`` the step tells on stderr what it does.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikenas.cli.progress import RunProgress
from spikenas.cli.search_options import bytes_or_none
from spikenas.cost.budget import Budget
from spikenas.cost.target import DEFAULT_TARGET
from spikenas.data.datasets import TOLD, Dataset
from spikenas.deploy.certificate import Certificate
from spikenas.errors import DatasetError
from spikenas.pipeline import RunSummary
from spikenas.pipeline import run as run_pipeline
from spikenas.run.evaluation import RunEvaluation, evaluate_run
from spikenas.run.executor import ExecutorSettings
from spikenas.run.exports import export_run
from spikenas.run.quantization import CALIBRATION_IMAGES, Quantized, QuantizeSettings, quantize_run
from spikenas.run.report_again import refresh_report
from spikenas.run.run_settings import settings_to_train
from spikenas.run.search_study import SearchSummary, StudySettings, search_study
from spikenas.run.task_settings import search_settings
from spikenas.run.verification import IMAGES, verify_run
from spikenas.search.strategies import DEFAULT_STRATEGY
from spikenas.snn.train import TrainConfig

Run = RunSummary | Path | str
"""A finished run: what :func:`train` gives, or its folder."""


def search(
    data: Dataset,
    budget: Budget | None = None,
    *,
    target: str = DEFAULT_TARGET,
    space: str = "embedded",
    operations: tuple[str, ...] | None = None,
    strategy: str = DEFAULT_STRATEGY,
    measure: str | None = None,
    samples: int | None = None,
    finalists: int | None = None,
    workers: int = 1,
    out: Path | str | None = None,
    progress: bool = False,
) -> SearchSummary:
    """The best network found in ``space`` for ``data`` within ``budget``, as ``spikenas search`` finds it.

    Its ``front`` are the trials that no other beats in all ``objectives``. What a search has found before, here or in a
    terminal, ``SearchSummary.load(folder)`` gives again.

    ``budget`` None is all that the target has. Images and search are of one seed, that of ``load``. More than one of
    ``workers`` are processes, which a script has to keep under ``if __name__ == "__main__"``.
    Raises NothingFits when no network of the space keeps the budget, InputError for what makes no sense.
    """
    settings = StudySettings(
        **_source(data),
        **asdict(budget or Budget()),
        target=target,
        space=space,
        operations=operations,
        strategy=strategy,
        search=search_settings(space, {"measure": measure, "samples": samples, "finalists": finalists}),
    )
    who = ExecutorSettings("serial" if workers == 1 else "processes", None if workers == 1 else workers)
    with RunProgress(quiet=not progress) as told:
        return search_study(settings, _folder(out), told, who)


def train(
    network: SearchSummary | str,
    data: Dataset | None = None,
    budget: Budget | None = None,
    *,
    target: str | None = None,
    space: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    teacher: int | None = None,
    training: TrainConfig | None = None,
    out: Path | str | None = None,
    progress: bool = False,
) -> RunSummary:
    """``network`` trained, quantized, evaluated on the test images and reported, as ``spikenas train`` does it.

    ``network`` is what :func:`search` has found, whose data, budget, target and space are then the default, or a
    genotype, which needs ``data``. ``epochs`` None suits the data, or ``minutes`` on this machine.
    ``teacher``: epochs of a large network from which this one then learns. ``training``: how, but for its epochs and
    seed. Raises InputError, and TrainError for a training that cannot go on.
    """
    given: dict[str, Any] = dict.fromkeys(TOLD) if data is None else _source(data)
    given |= asdict(budget or Budget()) | {"target": target, "space": space, "epochs": epochs, "minutes": minutes}
    given |= {"teacher": teacher}
    if isinstance(network, SearchSummary):
        out = out or network.folder / "trained"
        network = str(network.folder)
    settings, folder = settings_to_train(network, _folder(out), training or TrainConfig(), given)
    with RunProgress(quiet=not progress) as told:
        return run_pipeline(settings, folder, told)


def quantize(
    run: Run,
    bits: int | tuple[int, ...] | None = None,
    *,
    flash: str | None = None,
    membrane_bits: int | str | None = None,
    qat_epochs: int = 0,
    timesteps: int | None = None,
    mirror: bool = False,
    target: str | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = False,
) -> Quantized:
    """The trained network of ``run`` at other bits, or at those that fit ``flash``, as ``spikenas quantize`` does it.

    ``timesteps`` None: as many as it was trained with. ``mirror``: an inference sees the image and its mirror image.
    Raises NothingFits for a flash budget out of reach, QuantizeError and InputError.
    """
    settings = QuantizeSettings(
        (bits,) if isinstance(bits, int) else bits,
        bytes_or_none(flash),
        membrane_bits,
        qat_epochs,
        calibration_images,
        target,
        seed,
        timesteps,
        mirror,
    )
    with RunProgress(quiet=not progress) as told:
        result = quantize_run(_path(run), settings, told, None if out is None else Path(out))
    refresh_report(_path(run))
    return result


def evaluate(run: Run, data: Dataset | None = None, *, split: str = "test") -> RunEvaluation:
    """Accuracy, confusions, exact spikes and synops of ``run``, by default on its own images. Raises InputError."""
    return evaluate_run(_path(run), None if data is None else _source(data)["data"], split)


def verify(
    run: Run,
    *,
    target: str | None = None,
    flash: str | None = None,
    ram: str | None = None,
    images: int = IMAGES,
    quantized: str | None = None,
) -> Certificate:
    """The proof that ``run`` fits and computes the same bits on an emulated chip, by default its own target's.

    ``quantized``: the label of a setting that :func:`quantize` tried, instead of the run's own bits.

    Raises TargetError when the image does not fit, and MissingTool without a cross compiler and an emulator.
    """
    limits = bytes_or_none(flash), bytes_or_none(ram)
    found = verify_run(_path(run), target, flash_bytes=limits[0], ram_bytes=limits[1], images=images, setting=quantized)
    return found[0]


def export(run: Run, out: Path | str, *, to: str = "c", quantized: str | None = None) -> Path:
    """Write the network of ``run`` to ``out``: a folder for ``c``, a file for ``nir``, ``onnx`` or ``onnx-integer``.

    ``quantized``: as in :func:`verify`; only ``c`` and ``onnx-integer`` hold integers.

    Raises InputError for another format, RunError where ``out`` cannot be written.
    """
    export_run(_path(run), to, Path(out), quantized)
    return Path(out)


def _source(data: Dataset) -> dict[str, Any]:
    if not data.told:
        raise DatasetError(
            f"dataset '{data.name}' was not loaded from anywhere, and a run has to find it again: save its images and "
            'labels with numpy.savez and give spikenas.load("FILE.npz")'
        )
    return dict(data.told)


def _path(run: Run) -> Path:
    return run.folder if isinstance(run, RunSummary) else Path(run)


def _folder(out: Path | str | None) -> Path:
    if out is not None:
        return Path(out)
    folder = Path(tempfile.mkdtemp(prefix="spikenas-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
