"""The memory planner: which buffers a network needs on the device, when each lives, and where it lies.

The search asks this planner for RAM, and the C writer lays out its arena from the same plan, so predicted and
linked RAM cannot differ.

The network is cut into steps (:mod:`spikenas.cost.steps`), and only what a step writes occupies memory. Two
schedules run the steps; they give the same bits and differ in memory:

``LAYER_MAJOR``
    All T timesteps of a step before the next step. Spikes of all T steps are stored, but a membrane lives only
    while its pixel is computed. Not legal with feedback or streamed input.
``STEP_MAJOR``
    All steps of one timestep before the next timestep. One timestep of spikes is stored, but every membrane, every
    delayed value and the input persist for the whole inference; what depends on a static input only is recomputed.

While a step runs it also needs room for one pixel: the sums of its channels, the list of active rows, and
layer-major the pixel's membranes. That is the step's scratch, a buffer of the arena like any other, so that the
stack holds nothing but the frames of a few calls and, between an image and its mirror image, the logits of the first.

Buffers are placed greedily by size (Pisarchyk & Lee, "Efficient memory management for deep neural net inference",
arXiv 2001.03288): each at the lowest offset where it overlaps no buffer that lives at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

from spikenas.cost.steps import Group, Reading, Step, cut_into_steps, groups, stored_nodes
from spikenas.graph import Conv2d, Graph, Input, Lif, Output
from spikenas.model import fold_norms

ALIGN_BYTES = 4
# The kernels gather active rows in a list of at most this many 16-bit indices, emptied when full.
EVENT_LIST_MAX = 256
# Values of a window of real numbers that are multiplied at once.
PATCH_MAX = 128
# Channels are added up in blocks of this many.
CHANNEL_BLOCK = 16
# Frames of the calls from spikenas_classify down to the kernels, the largest that any supported core took.
STACK_BYTES = 768
STACK_ALIGN = 8
CURRENT_BYTES = 2
ACCUMULATOR_BYTES = 4
SCRATCH = "scratch"


class Kernels(StrEnum):
    """Which C computes the network; both give the same bits."""

    FAST = "fast"
    COMPACT = "compact"  # a third of the code, some times the instructions


class Schedule(StrEnum):
    """The order in which steps and timesteps nest."""

    LAYER_MAJOR = "layer-major"
    STEP_MAJOR = "step-major"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes [offset, offset + size_bytes) of the arena, in use from step ``first`` to step ``last`` inclusive."""

    name: str
    size_bytes: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``ram_bytes`` is the arena (input image and scratch included) plus an estimate of the stack."""

    schedule: Schedule
    kernels: Kernels
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    stack_bytes: int

    @property
    def ram_bytes(self) -> int:
        return self.arena_bytes + self.stack_bytes

    @property
    def peak_step(self) -> Step:
        """The first step at which live buffers take most bytes: the one to look at when RAM is too large."""
        return max(
            enumerate(self.steps),
            key=lambda item: (sum(b.size_bytes for b in self.buffers if b.first <= item[0] <= b.last), -item[0]),
        )[1]


def plan_memory(graph: Graph, kernels: Kernels = Kernels.FAST) -> MemoryPlan:
    """The plan of the legal schedule with the least RAM; layer-major, which computes less, where both are equal."""
    plans = (plan_schedule(graph, schedule, kernels) for schedule in legal_schedules(graph))
    return min(plans, key=lambda plan: plan.ram_bytes)


def legal_schedules(graph: Graph) -> tuple[Schedule, ...]:
    """Schedules that compute the graph: with feedback or a streamed input only step by step."""
    layer = graph[graph.input]
    if graph.has_feedback or (isinstance(layer, Input) and not layer.static):
        return (Schedule.STEP_MAJOR,)
    return (Schedule.LAYER_MAJOR, Schedule.STEP_MAJOR)


def plan_schedule(graph: Graph, schedule: Schedule, kernels: Kernels = Kernels.FAST) -> MemoryPlan:
    """The plan of one schedule; the graph may still hold foldable BatchNorm2d nodes."""
    graph = fold_norms(graph)
    steps, stored = cut_into_steps(graph), stored_nodes(graph)
    work = [groups(graph, step, stored) for step in steps]
    requests = _layer_major(graph, steps) if schedule is Schedule.LAYER_MAJOR else _step_major(graph, steps, work)
    for index, step in enumerate(steps):
        size = scratch(graph, step, work[index], schedule, kernels).size_bytes
        requests.append(Buffer(f"{step.node}.{SCRATCH}", size, index, index))
    buffers = place(requests)
    arena_bytes = _aligned(max(b.offset + b.size_bytes for b in buffers))
    kept = ACCUMULATOR_BYTES * graph.shapes[graph.output][0] if graph.views > 1 else 0  # the logits of the first view
    stack_bytes = STACK_ALIGN * -(-(STACK_BYTES + kept) // STACK_ALIGN)
    return MemoryPlan(schedule, kernels, steps, buffers, arena_bytes, stack_bytes)


# --- sizes ------------------------------------------------------------------------------------------------


def value_bytes(graph: Graph, name: str) -> int:
    """Bytes of one timestep of a stored value: an image's pixels, spikes packed by pixel, 16-bit currents."""
    shape = graph.shapes[name]
    match graph[name]:
        case Input():
            return prod(shape)
        case Lif():
            return prod(shape[1:]) * packed_bytes(shape[0])
        case Output():
            return ACCUMULATOR_BYTES * prod(shape)
        case _:
            return CURRENT_BYTES * prod(shape)


def packed_bytes(channels: int) -> int:
    """Bytes of one pixel's spikes: the smallest of 1, 2 or a multiple of 4 that holds a bit a channel."""
    return 1 if channels <= 8 else 2 if channels <= 16 else 4 * -(-channels // 32)


def membrane_bytes(graph: Graph, name: str) -> int:
    """Bytes of a Lif's membranes, whole bytes a neuron."""
    layer = graph[name]
    bits = layer.membrane_bits if isinstance(layer, Lif) else 0
    return prod(graph.shapes[name]) * -(-bits // 8)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Bytes that a step needs for one pixel, in this order; 0 for what it does not need.

    ``sums``: a 32-bit sum a channel. ``fixed``: the part of them that is the same at every timestep. ``partial``: sums
    of one layer that are shifted or voted on before they join the others. ``events``: active rows, or the window of
    real values. ``membranes``: one 16-bit membrane a channel and neuron (step-major only to widen those of 8 bits).
    """

    sums: int
    fixed: int
    partial: int
    events: int
    membranes: int

    @property
    def size_bytes(self) -> int:
        return self.sums + self.fixed + self.partial + self.events + self.membranes


def scratch(
    graph: Graph, step: Step, work: tuple[Group, ...], schedule: Schedule, kernels: Kernels = Kernels.FAST
) -> Scratch:
    """The scratch of a step; the compact kernels list no events and keep no part of a sum."""
    fast = kernels is Kernels.FAST
    channels = blocked(graph.shapes[step.node][0])
    layer_major = schedule is Schedule.LAYER_MAJOR
    lifs = [layer for name in step.writes if isinstance(layer := graph[name], Lif)]
    neurons = len(lifs) if layer_major else int(fast and any(lif.membrane_bits <= 8 for lif in lifs))
    mixed = fast and layer_major and work[0].static and not work[-1].static
    inner = [blocked(graph.shapes[step.node][0] * group.vote) for group in work if group.layer or group.vote > 1]
    return Scratch(
        sums=ACCUMULATOR_BYTES * channels,
        fixed=ACCUMULATOR_BYTES * channels if mixed else 0,
        partial=0 if is_alone(work) else ACCUMULATOR_BYTES * max(inner, default=0),
        events=_aligned(CURRENT_BYTES * max(_list_length(graph, work), _patch_length(graph, work))) if fast else 0,
        membranes=CURRENT_BYTES * channels * neurons,
    )


def is_alone(work: tuple[Group, ...]) -> bool:
    """Whether one layer makes up the whole sum, which then can be shifted where it lies."""
    return len(work) == 1 and work[0].vote == 1


def blocked(channels: int) -> int:
    """Channels rounded up to whole blocks."""
    return CHANNEL_BLOCK * -(-channels // CHANNEL_BLOCK)


def max_events(graph: Graph, group: Group) -> int:
    """Most entries that a group can put on the list of active rows at one pixel."""
    rows = [term for term in group.terms if term.reading is Reading.ROWS]
    return sum(term.window.taps * term.pool.taps * graph.shapes[term.source][0] for term in rows)


def _list_length(graph: Graph, work: tuple[Group, ...]) -> int:
    return min(sum(max_events(graph, group) for group in work), EVENT_LIST_MAX)


def _patch_length(graph: Graph, work: tuple[Group, ...]) -> int:
    lengths = [0]
    for group in work:
        for term in group.terms:
            if term.reading is Reading.DENSE and group.layer:
                layer = graph[group.layer]
                channels = graph.shapes[term.source][0] // (layer.groups if isinstance(layer, Conv2d) else 1)
                lengths.append(min(4 * -(-term.window.taps * channels // 4), PATCH_MAX))
    return max(lengths)


def _aligned(size_bytes: int) -> int:
    return ALIGN_BYTES * -(-size_bytes // ALIGN_BYTES)


# --- lifetimes --------------------------------------------------------------------------------------------


def _layer_major(graph: Graph, steps: tuple[Step, ...]) -> list[Buffer]:
    buffers = []
    for name, (first, last) in _lifetimes(graph, steps).items():
        times = 1 if name in graph.static or isinstance(graph[name], Output) else graph.timesteps
        buffers.append(Buffer(name, times * value_bytes(graph, name), first, last))
    return buffers


def _step_major(graph: Graph, steps: tuple[Step, ...], work: list[tuple[Group, ...]]) -> list[Buffer]:
    end = len(steps) - 1
    late, delayed = _delayed_reads(steps, work)
    buffers = []
    for name, (first, last) in _lifetimes(graph, steps).items():
        size = value_bytes(graph, name)
        if name in delayed or isinstance(graph[name], Input | Output):
            first, last = 0, end
        slots = 2 if name in late and name not in graph.static else 1
        buffers.append(Buffer(name, size * slots, first, last))
    for node in graph.nodes:
        if isinstance(node.layer, Lif):
            buffers.append(Buffer(f"{node.name}.membrane", membrane_bytes(graph, node.name), 0, end))
    return buffers


def _delayed_reads(steps: tuple[Step, ...], work: list[tuple[Group, ...]]) -> tuple[set[str], set[str]]:
    """Values that are read a timestep later; and first, which of them need two slots.

    Those are overwritten before they were read everywhere: by an earlier step of the same timestep, or by the reading
    step itself when it looks at other pixels than the one it writes.
    """
    late, delayed = set(), set()
    writer = {name: index for index, step in enumerate(steps) for name in step.writes}
    for index, step_groups in enumerate(work):
        for term in (term for group in step_groups for term in group.terms if term.delay):
            delayed.add(term.source)
            written = writer.get(term.source, -1)  # the input comes before all steps
            if written < index or (written == index and not term.pointwise):
                late.add(term.source)
    return late, delayed


def _lifetimes(graph: Graph, steps: tuple[Step, ...]) -> dict[str, tuple[int, int]]:
    """First and last step at which each stored value is needed; the image arrives before the first step."""
    spans = {graph.input: (0, 0)}
    for index, step in enumerate(steps):
        for name in step.writes:
            spans[name] = (index, index)
    for index, step in enumerate(steps):
        for name in step.reads:
            spans[name] = (spans[name][0], max(spans[name][1], index))
    return spans


# --- placement --------------------------------------------------------------------------------------------


def place(requests: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """Give every buffer an offset, largest first, so that no two that live at the same step overlap."""
    placed: list[Buffer] = []
    for request in sorted(requests, key=lambda b: (-b.size_bytes, b.first, b.name)):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            together = request.first <= other.last and other.first <= request.last
            if together and offset < other.offset + other.size_bytes and other.offset < offset + request.size_bytes:
                offset = -(-(other.offset + other.size_bytes) // ALIGN_BYTES) * ALIGN_BYTES
        placed.append(replace(request, offset=offset))
    return tuple(sorted(placed, key=lambda b: (b.first, b.offset)))
