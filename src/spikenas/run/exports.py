"""A finished run's network as files that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.data.datasets import dataset_of
from spikenas.errors import InputError, RunError
from spikenas.run.artifacts import load_integer_model, load_model, read_json
from spikenas.run.folder import RESULT_FILE, RunFolder, read_run


def export_run(path: Path, to: str, out: Path, setting: str | None = None) -> tuple[str, ...]:
    """Write the network of the run in ``path`` in the format ``to``, a key of FORMATS; returns remarks for people.

    ``out``: a file, for ``c`` a folder. ``setting``: of `spikenas quantize`, instead of the run's own integers.
    Raises InputError for an unknown format, or one of real numbers for a ``setting``; RunError where nothing can be
    written, the setting is not there or the run is not finished.
    """
    if to not in FORMATS:
        raise InputError(f"format '{to}' is unknown: choose from {', '.join(FORMATS)}")
    if setting is not None and to not in OF_INTEGERS:
        raise InputError(f"format '{to}' holds real numbers, '{setting}' is integers: use {' or '.join(OF_INTEGERS)}")
    folder = read_run(path)
    model = folder.integers(setting) if to in OF_INTEGERS else folder.finished(folder.model)
    try:
        return FORMATS[to](folder, model, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _to_c(folder: RunFolder, file: Path, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.c_writer import class_numbers, write_firmware
    from spikenas.deploy.firmware_readme import Described, describe
    from spikenas.deploy.toolchain import core_of

    model, settings = load_integer_model(file), folder.settings
    target, told = load_target(settings["target"]), _told(folder.summary)
    core_of(target)
    budget = Budget(*(settings.get(item.name) for item in fields(Budget)))
    cost = estimate(
        model.graph,
        target,
        told.get("spike_rates"),
        flash_bytes=budget.flash_bytes,
        ram_bytes=budget.ram_bytes,
        shifted=model.shifted_left,
    )
    kernels = cost.plan.kernels
    samples, remark = _samples(settings, out)
    names = told.get("class_names") or class_numbers(model)
    write_firmware(model, out, samples=samples, class_names=names, kernels=kernels)
    found = _told(file.with_name(RESULT_FILE)) or told
    with (out / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(describe(Described(model.graph, names, target, cost, budget, found.get("integer_accuracy"))))
    unfit = [f"DOES NOT FIT: {words}" for words in budget.violations(cost)]
    return (*unfit, f"{kernels.value} kernels, {remark}")


def _told(file: Path) -> Mapping[str, Any]:
    """What a file of results says; nothing where there is none, as in an older run or one without an end."""
    return dict(read_json(file)) if file.is_file() else {}


def _samples(settings: Mapping[str, Any], out: Path) -> tuple[npt.NDArray[np.uint8] | None, str]:
    """Test images of the run, and words on them; None and why where they cannot be found."""
    try:
        images = dataset_of(settings).test.images[:SAMPLES]
    except InputError as error:
        return None, f"no sample images: {error}"
    return images, f"{len(images)} sample images; `make -C {out}` runs them here"


def _to_nir(folder: RunFolder, file: Path, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.nir_write import write_nir

    return write_nir(load_model(file), out)


def _to_onnx(folder: RunFolder, file: Path, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.onnx_format import write_onnx

    write_onnx(load_model(file), out)
    return ()


def _to_onnx_integer(folder: RunFolder, file: Path, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.onnx_format import write_onnx

    write_onnx(load_integer_model(file), out)
    return ()


SAMPLES = 4
FORMATS: dict[str, Callable[[RunFolder, Path, Path], tuple[str, ...]]] = {
    "c": _to_c,
    "nir": _to_nir,
    "onnx": _to_onnx,
    "onnx-integer": _to_onnx_integer,
}
OF_INTEGERS = ("c", "onnx-integer")
