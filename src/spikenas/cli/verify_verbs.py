"""spikenas verify: does a run's network really fit and compute the same bits on the chip?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cost.budget import format_bytes, parse_bytes
from spikenas.cost.target import load_target
from spikenas.errors import RunError
from spikenas.run.artifacts import load_integer_model, plain, write_json
from spikenas.run.folder import read_run

if TYPE_CHECKING:
    from spikenas.deploy.certificate import Certificate

CERTIFICATE_FILE = "certificate-{target}.json"


def verify(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    target: Annotated[str | None, typer.Option("--target", help="Device; default the run's.")] = None,
    flash: Annotated[str | None, typer.Option("--flash", help="Budget for the linker; default the run's.")] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="Budget for the linker; default the run's.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to run on the emulated chip.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Compile for a device within the budget, run it on an emulated core, and compare every logit and spike.

    Example: `spikenas verify runs/demo --target stm32f746`
    """
    from spikenas.data.datasets import dataset_of
    from spikenas.deploy.verify import verify as verify_model

    folder = read_run(run)
    settings = folder.settings
    device = load_target(target or settings["target"])
    budgets = [
        parse_bytes(given) if given is not None else settings[name]
        for given, name in ((flash, "flash_bytes"), (ram, "ram_bytes"))
    ]
    test = dataset_of(settings).test.images
    certificate = verify_model(
        load_integer_model(folder.integer_model),
        device,
        test,
        flash_bytes=budgets[0],
        ram_bytes=budgets[1],
        count=images,
    )
    path = folder.path / CERTIFICATE_FILE.format(target=Path(device.name).stem)  # a board's file, without its folder
    write_json(path, plain(certificate))
    if as_json:
        print_json(certificate)
    else:
        _print_certificate(certificate, path)
    if certificate.difference is not None:
        raise RunError(f"the chip's image differs from the reference: {certificate.difference}; please report it")


def _print_certificate(certificate: Certificate, path: Path) -> None:
    rows = [[name.replace("_", " "), _show(name, value)] for name, value in plain(certificate).items()]
    print_table(f"Certificate for {certificate.target}", ["", ""], rows)
    print(f"written to {path}")


def _show(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:.3g}" for key, number in value.items())
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{value:,} bytes ({format_bytes(value)})"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
