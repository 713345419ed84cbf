"""A finished run's network as files that other tools read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.data.datasets import dataset_of
from spikenas.errors import InputError, RunError
from spikenas.run.artifacts import load_integer_model, load_model
from spikenas.run.folder import RunFolder, read_run


def export_run(path: Path, to: str, out: Path, setting: str | None = None) -> tuple[str, ...]:
    """Write the network of the run in ``path`` in the format ``to``, a key of FORMATS; returns remarks for people.

    ``out``: a file, for ``c`` a folder. ``setting``: of `spikenas quantize`, instead of the run's own integers.
    Raises InputError for an unknown format, or one of real numbers for a ``setting``; RunError where nothing can be
    written or the setting is not there.
    """
    if to not in FORMATS:
        raise InputError(f"format '{to}' is unknown: choose from {', '.join(FORMATS)}")
    if setting is not None and to not in OF_INTEGERS:
        raise InputError(f"format '{to}' holds real numbers, '{setting}' is integers: use {' or '.join(OF_INTEGERS)}")
    folder = read_run(path)
    model = folder.integers(setting) if to in OF_INTEGERS else folder.model
    try:
        return FORMATS[to](folder, model, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _to_c(folder: RunFolder, file: Path, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.c_writer import write_firmware

    model, settings = load_integer_model(file), folder.settings
    target = load_target(settings["target"])
    limits = {name: settings[name] for name in ("flash_bytes", "ram_bytes")}
    kernels = estimate(model.graph, target, **limits).plan.kernels
    test = dataset_of(settings).test.images
    write_firmware(model, out, samples=test[:SAMPLES], target=target, kernels=kernels)
    return (f"{kernels.value} kernels, {len(test[:SAMPLES])} sample images; `make -C {out}` runs them here",)


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
