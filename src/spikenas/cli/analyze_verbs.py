"""spikenas analyze: which operations a space can do without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import (
    DATA_HELP,
    SOURCE,
    EncodeOption,
    EnergyOption,
    ExecutorOption,
    FlashOption,
    FramesOption,
    LatencyOption,
    LimitOption,
    RamOption,
    SeedOption,
    SpaceOption,
    TargetOption,
    WorkersOption,
    bytes_or_none,
)
from spikenas.cost.target import DEFAULT_TARGET
from spikenas.data.encode import DIRECT

if TYPE_CHECKING:
    from spikenas.run.analyze import Analysis, Row

TABLE_EPOCHS = 1_000
"""More than any table has: complete trainings."""


def analyze(
    out: Annotated[Path, typer.Option("--out", help="Folder of the analysis; the same command again goes on there.")],
    table: Annotated[Path | None, typer.Option("--table", help="Parquet file with trained networks.")] = None,
    data: Annotated[str | None, typer.Option("--data", help=DATA_HELP, **SOURCE)] = None,
    space: SpaceOption = "embedded",
    networks: Annotated[int, typer.Option("--networks", min=2, help="With --data: networks of each set.")] = 8,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="With --data: epochs of each training.")] = 2,
    flash: FlashOption = None,
    ram: RamOption = None,
    energy: EnergyOption = None,
    latency: LatencyOption = None,
    target: TargetOption = DEFAULT_TARGET,
    limit: LimitOption = None,
    encode: EncodeOption = DIRECT,
    frames: FramesOption = None,
    seed: SeedOption = 0,
    executor: ExecutorOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one operation at a time from a space and see what that does to accuracy; ends with a recommended set.

    Example: `spikenas analyze --table cifar10.parquet --out runs/operations`
    """
    from spikenas.cli.progress import RunProgress
    from spikenas.run.analyze import AnalyzeSettings
    from spikenas.run.analyze_study import CHART, AnalysisSettings, analyze_study
    from spikenas.run.executor import ExecutorSettings

    judged = AnalyzeSettings(epochs, networks, seed) if table is None else AnalyzeSettings(TABLE_EPOCHS, None, seed)
    settings = AnalysisSettings(
        table=None if table is None else str(table),
        data=data,
        space=space if table is None else "spikenas-bench",
        flash_bytes=bytes_or_none(flash),
        ram_bytes=bytes_or_none(ram),
        energy_nj=energy,
        latency_ms=latency,
        target=target,
        analyze=judged,
        limit=limit,
        encode=encode,
        frames=frames,
    )
    with RunProgress(quiet=table is not None) as progress:
        who = ExecutorSettings(executor, workers)
        analysis = analyze_study(settings, out, progress.trial, who, progress.message)
    if as_json:
        return print_json({"analysis": analysis, "chart": out / CHART})
    _print_analysis(analysis)
    print(f"chart   {out / CHART}")
    print(f"next    spikenas search --space {analysis.space} --operations {','.join(analysis.recommended)} ...")


def _print_analysis(analysis: Analysis) -> None:
    columns = ["without", "networks", "fit", "mean", "best tenth", "best", "gain", "error"]
    tested = analysis.whole.test_mean is not None
    if tested:
        columns += ["test mean", "test of best"]
    rows = [analysis.whole, *analysis.rows]
    if len(analysis.together.removed) > 1:
        rows.append(analysis.together)
    print_table(
        f"Operations of space '{analysis.space}': validation accuracy (%) without each, gain in points",
        columns,
        [_row(row, tested) for row in rows],
    )
    for operation, reason in analysis.impossible.items():
        print(f"{operation} cannot be removed: {reason}")
    dropped = [name for name in (row.removed[0] for row in analysis.rows) if name not in analysis.recommended]
    print_table("Recommended operations", ["keep", "drop"], [[", ".join(analysis.recommended), ", ".join(dropped)]])
    print(analysis.reason)


def _row(row: Row, tested: bool) -> list[str]:
    cells = [
        " and ".join(row.removed) or "nothing",
        f"{row.networks:,}",
        f"{100 * row.fitting:.0f}%",
        *(f"{100 * value:.2f}" for value in (row.mean, row.top, row.best)),
        f"{100 * row.difference:+.2f}" if row.removed else "",
        f"{100 * row.standard_error:.2f}" if row.removed else "",
    ]
    if tested:
        cells += [f"{100 * value:.2f}" for value in (row.test_mean or 0.0, row.test_best or 0.0)]
    return cells
