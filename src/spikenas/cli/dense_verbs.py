"""spikenas compare-dense: where a spiking network stops paying against the same network without spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import RunTargetOption
from spikenas.cost.dense import PER_MAC_DSP, DenseComparison
from spikenas.cost.target import load_target
from spikenas.run.artifacts import load_integer_model
from spikenas.run.folder import read_run

IMAGES = 10


def compare_dense(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    target: RunTargetOption = None,
    images: Annotated[
        int, typer.Option("--images", min=1, help="Test images to execute on the emulated chip.")
    ] = IMAGES,
    as_json: JsonOption = False,
) -> None:
    """Executed instructions of a run's network beside one pass of the same network as dense int8.

    Example: `spikenas compare-dense runs/demo --target stm32f405`
    """
    from spikenas.data.datasets import dataset_of
    from spikenas.deploy.verify import verify

    folder = read_run(run)
    settings = folder.settings
    device = load_target(target or settings["target"])
    model = load_integer_model(folder.integer_model)
    test = dataset_of(settings).test.images[:images]
    certificate = verify(
        model,
        device,
        test,
        flash_bytes=settings["flash_bytes"],
        ram_bytes=settings["ram_bytes"],
        count=images,
    )
    comparison = certificate.against_dense(model.graph, device)
    if as_json:
        return print_json(comparison)
    _print_comparison(comparison, certificate.chip_images)


def _print_comparison(result: DenseComparison, images: int) -> None:
    rows = [
        [
            f"{row.timesteps}{' (this network)' if row.timesteps == result.timesteps else ''}",
            f"{row.instructions / 1e6:.2f}",
            f"{row.of_dense:.2f}",
            _rate(row.break_even_rate),
        ]
        for row in result.by_timesteps
    ]
    columns = ["timesteps", "M instructions", "of dense", "pays below this spike rate"]
    print_table(f"Spiking against dense on {result.target}, at {result.spike_rate:.1%} spikes", columns, rows)
    print(
        f"dense      {result.dense_instructions / 1e6:.2f} M instructions: {result.dense_macs:,} multiply-accumulates "
        f"at {result.dense_per_mac}, {'as CMSIS-NN takes' if result.dense_per_mac == PER_MAC_DSP else 'in plain C'}"
    )
    print(
        f"spiking    {result.instructions / 1e6:.2f} M executed, mean of {images} images, {result.kernels} kernels "
        f"(the cost model: {result.predicted / 1e6:.2f} M); other timesteps and rates by the cost model"
    )
    print(f"verdict    {_verdict(result)}")


def _rate(rate: float) -> str:
    return "never" if rate <= 0 else "any" if rate >= 1 else f"{rate:.1%}"


def _verdict(result: DenseComparison) -> str:
    share = f"the spiking network takes {result.of_dense:.2f} times the instructions of the dense one"
    if not result.timesteps_max:
        return f"{share}; at these spike rates it pays at no number of timesteps"
    below = f"with {result.timesteps} below {_rate(result.break_even_rate)} spikes"
    return f"{share}; it pays up to {result.timesteps_max} timesteps at these spike rates, {below}"
