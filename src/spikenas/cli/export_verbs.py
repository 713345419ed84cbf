"""spikenas export and import: to and from what other tools read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.data.datasets import dataset_of
from spikenas.errors import InputError, RunError
from spikenas.run.artifacts import load_integer_model, load_model, save_model
from spikenas.run.folder import RunFolder, read_run


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    to: Annotated[str, typer.Option("--to", help="c (integer firmware sources), nir, onnx, or onnx-integer.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for c a folder.")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's network as C sources, as NIR or as ONNX.

    Example: `spikenas export runs/demo --to nir --out demo.nir`
    """
    if to not in FORMATS:
        raise InputError(f"format '{to}' is unknown: choose from {', '.join(FORMATS)}")
    folder = read_run(run)
    try:
        remarks = FORMATS[to](folder, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    if as_json:
        return print_json({"written": out, "format": to, "remarks": remarks})
    print(f"wrote {out}")
    for remark in remarks:
        print(f"  {remark}")


def import_(
    file: Annotated[Path, typer.Argument(help="A NIR file of any framework.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write (safetensors).")],
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", min=1, help="Steps to run, if the file is silent.")
    ] = None,
    at_threshold: Annotated[
        bool, typer.Option("--at-threshold", help="The network fires at v = threshold too, as spikingjelly's do.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a NIR graph of convolutions, linear layers, pooling, IF and LIF neurons as one of ours.

    Example: `spikenas import demo.nir --out imported.safetensors`
    """
    from spikenas.deploy.nir_read import import_nir

    imported = import_nir(file, timesteps=timesteps, at_threshold=at_threshold)
    save_model(out, imported.model)
    if as_json:
        return print_json({"written": out, "assumed": imported.assumed})
    print(f"wrote {out}: {imported.model.graph.parameter_count:,} parameters")
    for assumption in imported.assumed:
        print(f"  assumed: {assumption}")


def _to_c(folder: RunFolder, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.c_writer import write_firmware

    model, settings = load_integer_model(folder.integer_model), folder.settings
    target = load_target(settings["target"])
    limits = {name: settings[name] for name in ("flash_bytes", "ram_bytes")}
    kernels = estimate(model.graph, target, **limits).plan.kernels
    test = dataset_of(settings).test.images
    write_firmware(model, out, samples=test[:SAMPLES], target=target, kernels=kernels)
    return (f"{kernels.value} kernels, {len(test[:SAMPLES])} sample images; `make -C {out}` runs them here",)


def _to_nir(folder: RunFolder, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.nir_write import write_nir

    return write_nir(load_model(folder.model), out)


def _to_onnx(folder: RunFolder, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.onnx_format import write_onnx

    write_onnx(load_model(folder.model), out)
    return ()


def _to_onnx_integer(folder: RunFolder, out: Path) -> tuple[str, ...]:
    from spikenas.deploy.onnx_format import write_onnx

    write_onnx(load_integer_model(folder.integer_model), out)
    return ()


SAMPLES = 4
FORMATS: dict[str, Callable[[RunFolder, Path], tuple[str, ...]]] = {
    "c": _to_c,
    "nir": _to_nir,
    "onnx": _to_onnx,
    "onnx-integer": _to_onnx_integer,
}
