"""spikenas export and import: to and from what other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json
from spikenas.cli.search_options import SettingOption, among
from spikenas.run.artifacts import save_model
from spikenas.run.exports import FORMATS, export_run


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="c (integer firmware sources), nir, onnx, or onnx-integer.", autocompletion=among(FORMATS)
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write; for c a folder.")],
    quantized: SettingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's network as C sources, as NIR or as ONNX.

    Example: `spikenas export runs/demo --to nir --out demo.nir`
    """
    remarks = export_run(run, to, out, quantized)
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
