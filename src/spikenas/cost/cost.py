"""What a network costs on a device, layer by layer, from its graph alone.

``macs`` are multiply-accumulates that really happen: those of layers whose input is not spikes. ``synops`` are the
additions that spikes cause: the spike rate times the connections, over all timesteps. Both are counted as NeuroBench
counts effective MACs and ACs (Yik et al., arXiv 2304.04640).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod

from spikenas.cost.energy import operations_nj
from spikenas.cost.flash import code_bytes, constant_bytes
from spikenas.cost.latency import core_kind, cycles, image_work, instructions, step_work
from spikenas.cost.memory import SCRATCH, Kernels, MemoryPlan, plan_memory
from spikenas.cost.neuromorphic import Assignment, assign
from spikenas.cost.steps import groups, stored_nodes
from spikenas.cost.target import Target
from spikenas.graph import AvgPool2d, Conv2d, Graph, Kind, Lif, Linear
from spikenas.html_table import html_table
from spikenas.model import fold_norms, is_coarse_alone

# Share of neurons that spike at a step, where nobody has measured it.
DEFAULT_SPIKE_RATE = 0.15
CODE_ROW = "runtime code"
COMPACT_BELOW = 20 * 1024
"""bytes of flash of which the fast kernels' code, about 5 KB, is more than a quarter"""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer's share; ``ram_bytes`` is what its output, membranes and scratch take in the arena."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flash_bytes: int
    ram_bytes: int
    macs: float
    synops: float
    neuron_updates: float
    energy_nj: float


@dataclass(frozen=True, slots=True)
class Cost:
    """A network's cost for one inference; instructions, latency and energies are estimates (see their modules).

    ``latency_ms`` is the upper end of what it may take, so that a limit on it is kept, ``latency_ms_low`` the lower
    one. ``energy_nj`` is that of its operations alone at 45 nm; ``energy_core_uj_*`` are the chip's, the same cycles at
    its data-sheet current, None where the target has no such figure.

    On a neuromorphic chip flash and RAM are the memory for weights and for neurons that its cores would have to have,
    ``assignment`` says which core holds which layer, and there are no instructions and no latency to predict.
    """

    target: str
    flash_bytes: int
    ram_bytes: int
    macs: float
    synops: float
    energy_nj: float
    instructions: float
    latency_ms: float
    layers: tuple[LayerCost, ...] = field(repr=False)
    plan: MemoryPlan = field(repr=False)
    latency_ms_low: float = 0
    energy_core_uj_low: float | None = None
    energy_core_uj_high: float | None = None
    assignment: Assignment | None = field(default=None, repr=False)

    def _repr_html_(self) -> str:
        columns = ("layer", "kind", "parameters", "flash B", "RAM B", "MACs", "synops", "energy nJ")
        figures = [
            (x.name, x.kind, x.parameters, x.flash_bytes, x.ram_bytes, x.macs, x.synops, x.energy_nj)
            for x in self.layers
        ]
        total = ("all", "", None, self.flash_bytes, self.ram_bytes, self.macs, self.synops, self.energy_nj)
        return html_table([*figures, total], columns, f"Cost on {self.target}, {self.latency_ms:.3g} ms")


def estimate(
    graph: Graph,
    target: Target,
    spike_rates: Mapping[str, float] | None = None,
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    kernels: Kernels | None = None,
    shifted: Collection[str] | None = None,
) -> Cost:
    """The cost of ``graph`` on ``target``; ``spike_rates``: mean spikes per neuron and step, by Lif node.

    ``shifted``: the layers whose sums are shifted to the left, which takes longer: a model's ``shifted_left``;
    None: those of which that is known without the weights.
    The kernels are the fast ones; where these break ``flash_bytes`` or ``ram_bytes`` (None: all that the target has)
    and there is less than COMPACT_BELOW of flash, the compact ones, which take several times as long. ``kernels``
    overrides that.
    """
    graph = fold_norms(graph)
    if target.cores:
        return _on_cores(graph, target, spike_rates or {})
    if shifted is None:
        shifted = [name for name in graph.layers if is_coarse_alone(graph, name)]
    if kernels is not None:
        return _estimate(graph, target, spike_rates or {}, kernels, shifted)
    fast = _estimate(graph, target, spike_rates or {}, Kernels.FAST, shifted)
    limits = flash_bytes or target.flash_bytes, ram_bytes or target.ram_bytes
    if limits[0] >= COMPACT_BELOW or (fast.flash_bytes <= limits[0] and fast.ram_bytes <= limits[1]):
        return fast
    return _estimate(graph, target, spike_rates or {}, Kernels.COMPACT, shifted)


def _estimate(
    graph: Graph, target: Target, spike_rates: Mapping[str, float], kernels: Kernels, shifted: Collection[str]
) -> Cost:
    plan = plan_memory(graph, kernels)
    rates = _output_rates(graph, spike_rates)
    stored = stored_nodes(graph)
    work = [groups(graph, step, stored) for step in plan.steps]
    flash = constant_bytes(graph, plan, work)
    code = code_bytes(graph, plan, work, core_kind(target))
    total_flash = sum(flash.values()) + code
    buffers = {buffer.name: buffer.size_bytes for buffer in plan.buffers}
    own = {
        node.name: (
            flash[node.name],
            sum(buffers.get(key, 0) for key in (node.name, f"{node.name}.membrane", f"{node.name}.{SCRATCH}")),
        )
        for node in graph.nodes
    }
    total = total_flash, plan.ram_bytes
    layers = tuple(_layer_cost(graph, node.name, rates, own[node.name], total) for node in graph.nodes)
    done = sum(
        (step_work(graph, *pair, plan, rates, shifted) for pair in zip(plan.steps, work, strict=True)),
        image_work(graph),
    )
    executed = instructions(done.times(graph.views), target, kernels)
    low, high = cycles(executed)
    return Cost(
        target=target.name,
        flash_bytes=total_flash,
        ram_bytes=plan.ram_bytes,
        macs=sum(layer.macs for layer in layers),
        synops=sum(layer.synops for layer in layers),
        energy_nj=sum(layer.energy_nj for layer in layers),
        instructions=executed,
        latency_ms=target.milliseconds(high),
        layers=(*layers, LayerCost(CODE_ROW, "code", (), 0, code, 0, 0, 0, 0, 0)),
        plan=plan,
        latency_ms_low=target.milliseconds(low),
        energy_core_uj_low=target.microjoules(low),
        energy_core_uj_high=target.microjoules(high),
    )


def _on_cores(graph: Graph, target: Target, spike_rates: Mapping[str, float]) -> Cost:
    assignment = assign(graph, target.cores)
    plan, rates = plan_memory(graph), _output_rates(graph, spike_rates)
    held = {layer.name: layer for layer in assignment.layers}
    weights = sum(layer.weights for layer in assignment.layers)
    neurons = sum(2 * layer.neurons for layer in assignment.layers)
    sizes = {name: (layer.weights, 2 * layer.neurons) for name, layer in held.items()}
    layers = tuple(
        _layer_cost(graph, node.name, rates, sizes.get(node.name, (0, 0)), (weights, neurons)) for node in graph.nodes
    )
    return Cost(
        target=target.name,
        flash_bytes=weights,
        ram_bytes=neurons,
        macs=sum(layer.macs for layer in layers),
        synops=sum(layer.synops for layer in layers),
        energy_nj=sum(layer.energy_nj for layer in layers),
        instructions=0,
        latency_ms=0,
        layers=layers,
        plan=plan,
        assignment=assignment,
    )


def _layer_cost(
    graph: Graph, name: str, rates: Mapping[str, float], own: tuple[int, int], total: tuple[int, int]
) -> LayerCost:
    """``own``, ``total``: bytes of (flash, RAM), of the layer and of all."""
    layer = graph[name]
    macs, synops, updates = _operations(graph, name, rates)
    bits = layer.weight_bits if isinstance(layer, Conv2d | Linear) else 8
    return LayerCost(
        name=name,
        kind=type(layer).__name__,
        shape=graph.shapes[name],
        parameters=sum(prod(s) for key, s in graph.parameter_shapes.items() if key.rpartition(".")[0] == name),
        flash_bytes=own[0],
        ram_bytes=own[1],
        macs=macs,
        synops=synops,
        neuron_updates=updates,
        energy_nj=operations_nj(macs, synops, updates, bits, *total),
    )


def _operations(graph: Graph, name: str, rates: Mapping[str, float]) -> tuple[float, float, float]:
    """(multiply-accumulates, additions caused by spikes, neuron updates) of one layer in one inference."""
    layer, shape = graph[name], graph.shapes[name]
    times = graph.views if name in graph.static else graph.inference_steps
    match layer:
        case Conv2d() | Linear():
            weights = prod(graph.parameter_shapes[f"{name}.weight"])
            connections = weights * prod(shape[1:]) * times
            source = graph.sources[name][0].source
            if graph.kinds[source] in (Kind.SPIKES, Kind.COUNTS):
                return 0, connections * rates[source], 0
            return connections, 0, 0
        case AvgPool2d() if graph.kinds[name] is Kind.CURRENT:
            return 0, prod(shape) * prod(layer.kernel_size) * times, 0
        case Lif():
            return 0, 0, prod(shape) * graph.inference_steps
        case _:
            return 0, 0, 0


def _output_rates(graph: Graph, spike_rates: Mapping[str, float]) -> dict[str, float]:
    """Mean spikes per value of each node whose output is spikes or counts of them."""
    rates: dict[str, float] = {}
    for node in graph.nodes:
        kind = graph.kinds[node.name]
        if isinstance(node.layer, Lif):
            rates[node.name] = spike_rates.get(node.name, DEFAULT_SPIKE_RATE)
        elif kind in (Kind.SPIKES, Kind.COUNTS):
            sources = [rates[edge.source] for edge in graph.sources[node.name]]
            window = prod(node.layer.kernel_size) if isinstance(node.layer, AvgPool2d) else 1
            rates[node.name] = sum(sources) * window
    return rates
