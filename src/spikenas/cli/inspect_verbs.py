"""Verbs that only look: spikenas cost, spaces, targets. None of them loads torch."""

from __future__ import annotations

from typing import Annotated

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.search_options import SpaceOption, TargetOption
from spikenas.cost.budget import format_bytes, parse_bytes
from spikenas.cost.cost import Cost, estimate
from spikenas.cost.neuromorphic import Assignment, for_target
from spikenas.cost.target import DEFAULT_TARGET, TARGETS, load_target
from spikenas.cost.words import time_and_energy
from spikenas.errors import InputError
from spikenas.space.samples import frames_of
from spikenas.space.space import SPACES, load_space


def cost(
    genotype: Annotated[str, typer.Argument(help="A genotype string, as `spikenas run` prints it.")],
    space: SpaceOption = "embedded",
    input: Annotated[
        str, typer.Option("--input", help="Image shape, [frames x] channels x height x width.")
    ] = "3x32x32",
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 10,
    target: TargetOption = DEFAULT_TARGET,
    flash: Annotated[str | None, typer.Option("--flash", help="Flash to keep within; default the target's.")] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="RAM to keep within; default the target's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Flash, RAM, operations, energy and latency of one network, layer by layer.

    Example: `spikenas cost "0303 0030 2002 0200/p4" --space snasnet --input 3x32x32 --classes 10`
    """
    device = load_target(target)
    shape = parse_shape(input)
    chosen = load_space(space).for_frames(frames_of(shape))
    graph = for_target(chosen.lower(chosen.parse(genotype), shape, classes), device)
    limits = [None if text is None else parse_bytes(text) for text in (flash, ram)]
    result = estimate(graph, device, flash_bytes=limits[0], ram_bytes=limits[1])
    if as_json:
        return print_json({"genotype": genotype, "space": space, "parameters": graph.parameter_count, "cost": result})
    _print_cost(result, graph.parameter_count)


def spaces(as_json: JsonOption = False) -> None:
    """The search spaces, with the number of networks in each.

    Example: `spikenas spaces`
    """
    rows = [(name, load_space(name)) for name in SPACES]
    if as_json:
        return print_json({name: {"count": space.count(), "summary": space.summary} for name, space in rows})
    print_table(
        "Search spaces", ["space", "networks", "what"], [[name, f"{s.count():.3g}", s.summary] for name, s in rows]
    )


def targets(as_json: JsonOption = False) -> None:
    """The devices spikenas knows.

    Example: `spikenas targets`
    """
    if as_json:
        return print_json(TARGETS)
    print_table(
        "Targets",
        ["target", "core", "flash", "RAM", "clock", "note"],
        [
            [
                t.name,
                t.core,
                format_bytes(t.flash_bytes),
                format_bytes(t.ram_bytes),
                f"{t.clock_hz // 10**6} MHz" if t.clock_hz else "none",
                t.note,
            ]
            for t in TARGETS.values()
        ],
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """(C, H, W) from "3x32x32", (T, C, H, W) from "8x2x34x34". Raises InputError."""
    parts = text.lower().split("x")
    if len(parts) not in (3, 4) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(
            f"image shape '{text}': write channels x height x width, such as 3x32x32, with the number of frames "
            "before it where a sample is several, such as 8x2x34x34"
        )
    return tuple(int(part) for part in parts)


def _print_cost(cost: Cost, parameters: int) -> None:
    rows = [
        [
            layer.name,
            layer.kind,
            "x".join(map(str, layer.shape)),
            f"{layer.parameters:,}",
            f"{layer.flash_bytes:,}",
            f"{layer.ram_bytes:,}",
            f"{layer.macs:,.0f}",
            f"{layer.synops:,.0f}",
            f"{layer.energy_nj:,.1f}",
        ]
        for layer in cost.layers
        if layer.flash_bytes or layer.ram_bytes or layer.macs or layer.synops
    ]
    columns = ["layer", "kind", "shape", "parameters", "flash B", "RAM B", "MACs", "synops", "energy nJ"]
    print_table(_title(cost), columns, rows)
    if cost.assignment:
        return _print_assignment(cost, cost.assignment, parameters)
    peak = cost.plan.peak_step
    print(f"parameters    {parameters:,}")
    print(f"flash         {cost.flash_bytes:,} bytes ({format_bytes(cost.flash_bytes)})")
    print(
        f"RAM           {cost.ram_bytes:,} bytes ({format_bytes(cost.ram_bytes)}): arena {cost.plan.arena_bytes:,}, "
        f"stack {cost.plan.stack_bytes:,}; it peaks while computing {peak.node}"
    )
    print(f"operations    {cost.synops:,.0f} synops, {cost.macs:,.0f} MACs, {cost.instructions:,.0f} instructions")
    _print_time_and_energy(cost)


def _print_time_and_energy(cost: Cost) -> None:
    for name, words in time_and_energy(cost):
        print(f"{name:<14}{words}")


def _title(cost: Cost) -> str:
    if cost.assignment:
        return f"Cost on {cost.target} (neurons without leak; flash: weights, RAM: neurons)"
    return f"Cost on {cost.target} ({cost.plan.schedule.value} schedule, {cost.plan.kernels.value} kernels)"


def _print_assignment(cost: Cost, assignment: Assignment, parameters: int) -> None:
    """Which core holds which layer, or why none can."""
    print(f"parameters    {parameters:,}")
    print(f"operations    {cost.synops:,.0f} synops")
    _print_time_and_energy(cost)
    for refusal in assignment.refusals:
        print(f"refused       {refusal}")
    if assignment.refusals:
        return
    rows = [
        [str(assignment.cores[layer.name]), layer.name, f"{layer.weights:,}", f"{layer.neurons:,}", f"{layer.biases:,}"]
        for layer in sorted(assignment.layers, key=lambda layer: assignment.cores[layer.name])
    ]
    print_table("Assignment to cores", ["core", "layer", "weights", "neurons", "biases"], rows)
