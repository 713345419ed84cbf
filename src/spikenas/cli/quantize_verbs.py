"""spikenas quantize: a run's network at other bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import RunTargetOption
from spikenas.cost.budget import parse_bytes
from spikenas.cost.words import chip_uj, latency_ms
from spikenas.errors import InputError
from spikenas.run.artifacts import plain

if TYPE_CHECKING:
    from spikenas.run.quantization import Quantized


def quantize(
    run: Annotated[Path, typer.Argument(help="Folder of a run with a trained network.")],
    bits: Annotated[
        str | None, typer.Option("--bits", help="2 to 8, or a comma-separated list, one for each layer with weights.")
    ] = None,
    flash: Annotated[
        str | None, typer.Option("--flash", help="Choose bits by sensitivity to fit, such as 64KB.")
    ] = None,
    membrane_bits: Annotated[
        str | None, typer.Option("--membrane-bits", help="8, 12, 16, 32, or auto: by calibrated ranges.")
    ] = None,
    qat: Annotated[int, typer.Option("--qat", min=0, help="Epochs of training on with rounded weights.")] = 0,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps", help="For each look at an image. Default: as many as the network was trained with."
        ),
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Look at each image and its mirror image: twice the time, often more accurate."),
    ] = False,
    target: RunTargetOption = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Training images for calibration.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default in the run's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Quantize a trained network to other bits, and measure the integer network on the whole test set.

    Example: `spikenas quantize runs/demo --flash 24KB --qat 5`
    """
    wanted = None if bits is None else _numbers(bits)
    flash_bytes = None if flash is None else parse_bytes(flash)
    from spikenas.cli.progress import RunProgress
    from spikenas.run.quantization import QuantizeSettings, quantize_run
    from spikenas.run.report_again import refresh_report

    width = int(membrane_bits) if membrane_bits and membrane_bits.isdecimal() else membrane_bits
    settings = QuantizeSettings(wanted, flash_bytes, width, qat, images, target, seed, timesteps, mirror)
    with RunProgress() as progress:
        result = quantize_run(run, settings, progress, out)
        refresh_report(run)
    if as_json:
        return print_json(plain(result) | {"points_lost": result.points_lost})
    _print(result)
    if out is None:
        print(f"next    spikenas verify {run} --quantized {result.label}")
        print(f"        spikenas export {run} --quantized {result.label} --to c --out firmware")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(f"--bits {text}: give whole numbers of 2 to 8, such as 8 or 8,4,4,8") from error


def _change(lost: float) -> str:
    return f"{abs(lost):.2f} points {'lost' if lost >= 0 else 'gained'}"


def _print(result: Quantized) -> None:
    energy = chip_uj(result)
    rows = [
        ["bits", ", ".join(f"{name} {bits}" for name, bits in result.bits.items())],
        ["timesteps", f"{result.timesteps}{', and as many of the mirror image' if result.mirrored else ''}"],
        ["membranes", ", ".join(f"{name} {bits}" for name, bits in result.membranes.items())],
        ["flash", f"{result.flash_bytes:,} bytes, {result.kernels} kernels"],
        ["RAM", f"{result.ram_bytes:,} bytes"],
        ["latency", f"{latency_ms(result)} ms per inference on {result.target}, estimated"],
        ["energy", f"{energy} uJ per inference, estimated"]
        if energy
        else ["energy, 45 nm", f"{result.energy_nj:,.0f} nJ"],
        ["test accuracy, float", f"{100 * result.float_accuracy:.2f}%"],
        [
            "test accuracy, integer",
            f"{100 * result.integer_accuracy:.2f}% of {result.test_images:,} images, {_change(result.points_lost)}",
        ],
        ["changed spikes", ", ".join(f"{name} {100 * share:.2f}%" for name, share in result.flips.items())],
    ]
    print_table(f"quantized: {result.label}", ["", ""], rows)
    print(f"model   {result.model}")
