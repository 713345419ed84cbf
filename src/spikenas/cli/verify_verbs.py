"""spikenas verify: does a run's network really fit and compute the same bits on the chip?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import RunTargetOption, SettingOption, bytes_or_none
from spikenas.cost.budget import format_bytes
from spikenas.errors import RunError
from spikenas.run.artifacts import plain

if TYPE_CHECKING:
    from spikenas.deploy.certificate import Certificate


def verify(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    target: RunTargetOption = None,
    flash: Annotated[str | None, typer.Option("--flash", help="Budget for the linker; default the run's.")] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="Budget for the linker; default the run's.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to run on the emulated chip.")] = 100,
    quantized: SettingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile for a device within the budget, run it on an emulated core, and compare every logit and spike.

    Example: `spikenas verify runs/demo --target stm32f746`
    """
    from spikenas.cli.progress import RunProgress
    from spikenas.run.report_again import refresh_report
    from spikenas.run.verification import verify_run

    budgets = {"flash_bytes": bytes_or_none(flash), "ram_bytes": bytes_or_none(ram)}
    with RunProgress() as told:
        certificate, path = verify_run(run, target, **budgets, images=images, setting=quantized, progress=told.rung)
    refresh_report(run)
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
