"""What a firmware's README says of its network: classes, input, figures, and the flags for its core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spikenas.cost.budget import Budget, format_bytes
from spikenas.cost.cost import Cost
from spikenas.cost.target import Target
from spikenas.cost.words import time_and_energy
from spikenas.deploy.toolchain import CORES
from spikenas.graph import Conv2d, Graph, Linear


@dataclass(frozen=True, slots=True)
class Described:
    """A network and what is known of it; ``accuracy``: of test images, 0 to 1, None where nobody has measured it."""

    graph: Graph
    class_names: Sequence[str]
    target: Target
    cost: Cost
    budget: Budget
    accuracy: float | None = None


def describe(network: Described) -> str:
    """The sections, in Markdown."""
    return "\n".join(("", *_example(network), "", *_figures(network), "", *_flags(network.target), ""))


def _example(network: Described) -> Iterator[str]:
    graph = network.graph
    *frames, channels, height, width = graph.sample_shape
    steps = f"{frames[0]} frames of " if frames else ""
    yield from (
        "## From an image to a class",
        "",
        "```c",
        '#include "class_names.h"',
        '#include "spikenas.h"',
        "",
        f"uint8_t image[SPIKENAS_INPUT_BYTES]; /* {steps}{channels} x {height} x {width}: channels, rows, columns */",
        "",
        "const char *look(void) { return spikenas_class_names[spikenas_classify(image, 0)]; }",
        "```",
        "",
        f"`SPIKENAS_INPUT_BYTES` is {' x '.join(map(str, graph.sample_shape))} bytes: {steps}{_channels(channels)}, "
        f"each of {height} rows of {width} pixels. Pixels are those of the training images as they are, 0 to 255: of "
        "the same size, neither scaled nor inverted.",
        *(("", "Each image is looked at as it is and mirrored, and the logits are added.") if graph.views > 1 else ()),
        "",
        "| class | name |",
        "|---|---|",
    )
    yield from (f"| {number} | {_cell(name)} |" for number, name in enumerate(network.class_names))


def _channels(channels: int) -> str:
    if channels == 3:
        return "all of red, then green, then blue"
    return "one channel" if channels == 1 else f"{channels} channels one after the other"


def _cell(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _figures(network: Described) -> Iterator[str]:
    cost, target = network.cost, network.target
    bits = sorted({n.layer.weight_bits for n in network.graph.nodes if isinstance(n.layer, Conv2d | Linear)})
    flash, ram = network.budget.flash_bytes, network.budget.ram_bytes
    yield from (
        "## Figures",
        "",
        f"Predicted for {target.name} ({target.core}, {target.clock_hz // 10**6} MHz); `spikenas verify` proves them.",
        "",
        "| | |",
        "|---|---|",
        f"| flash | {_against(cost.flash_bytes, flash, target.flash_bytes)}, without `class_names.h` and `main.c` |",
        f"| RAM | {_against(cost.ram_bytes, ram, target.ram_bytes)}: arena {cost.plan.arena_bytes:,}, "
        f"stack at most {cost.plan.stack_bytes:,} |",
        f"| weights | {', '.join(map(str, bits))} bits |",
    )
    yield from (f"| {name} | {words} |" for name, words in time_and_energy(cost))
    if network.accuracy is not None:
        yield f"| accuracy | {100 * network.accuracy:.2f}% of the test images |"


def _against(used: int, limit: int | None, there: int) -> str:
    budget = f"of a budget of {format_bytes(limit)}" if limit else f"of the device's {format_bytes(there)}"
    return f"{used:,} bytes ({format_bytes(used)}) {budget}"


def _flags(target: Target) -> Iterator[str]:
    core = CORES[target.core]
    yield from (
        f"## For a {target.core}",
        "",
        "```",
        f'make objects CC={core.program} CFLAGS="-O2 {" ".join(core.gcc)}"',
        "```",
        "",
        "Give your project's `-mfloat-abi` and `-mfpu` too, where it has them: objects of different ones do not link.",
    )
