"""Does the spiking network pay? The same architecture as an int8 network without spikes, run once, against T timesteps.

The dense network multiplies every weight with every position once; the spiking one adds a row of weights for every
spike, T times over, and updates its neurons. On a microcontroller both are counted in instructions. What a dense
multiply-accumulate takes is CMSIS-NN's: arm_convolve_s8 on an emulated Cortex-M4 took 4,536 thousand instructions for a
3x3 convolution of 32 to 32 channels on 16x16, which multiplies 2,167 thousand times where the window lies on the map:
2.1 each. Cores without the packed multiplications that it uses are given plain C's 12,169 thousand, 5.6 each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from spikenas.cost.cost import DEFAULT_SPIKE_RATE, estimate
from spikenas.cost.latency import seen_taps
from spikenas.cost.memory import Kernels
from spikenas.cost.steps import cut_into_steps, groups, map_size, stored_nodes
from spikenas.cost.target import Target
from spikenas.errors import TargetError
from spikenas.graph import Conv2d, Graph, Input, Lif
from spikenas.model import fold_norms

PER_MAC_DSP, PER_MAC_PLAIN = 2.1, 5.6
TIMESTEPS_MAX = 16
BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Timesteps:
    """The network run for some timesteps, at the spike rates that were measured.

    ``of_dense``: its instructions by those of the dense network. ``break_even_rate``: mean spikes per neuron and step
    at which both are equal, all layers' rates scaled alike; 0 if it never pays, 1 if it always does.
    """

    timesteps: int
    instructions: float
    of_dense: float
    break_even_rate: float


@dataclass(frozen=True, slots=True)
class DenseComparison:
    """``executed`` is None where nothing was run; then ``instructions`` is what the cost model predicted.

    Where something was, the model's predictions in ``by_timesteps`` are corrected by ``executed / predicted``.
    ``timesteps_max``: most timesteps at which the network pays at its own rates, 0 if it does at none.
    """

    target: str
    kernels: str
    timesteps: int
    spike_rate: float
    dense_macs: int
    dense_per_mac: float
    dense_instructions: float
    executed: float | None
    predicted: float
    instructions: float
    of_dense: float
    break_even_rate: float
    timesteps_max: int
    by_timesteps: tuple[Timesteps, ...]


def dense_macs(graph: Graph) -> int:
    """Multiply-accumulates of one pass without spikes, padding not counted."""
    graph = fold_norms(graph)
    stored, macs = stored_nodes(graph), 0
    for step in cut_into_steps(graph):
        for group in groups(graph, step, stored):
            if group.layer is not None:
                layer, term = graph[group.layer], group.terms[0]
                width = graph.shapes[group.layer][0] // (layer.groups if isinstance(layer, Conv2d) else 1)
                macs += seen_taps(term, map_size(graph.shapes[step.node])) * graph.shapes[term.source][0] * width
    return macs


def compare_dense(
    graph: Graph,
    target: Target,
    spike_rates: Mapping[str, float],
    *,
    executed: float | None = None,
    kernels: Kernels | None = None,
) -> DenseComparison:
    """Compare a network with its dense twin; ``spike_rates`` by Lif node, ``executed`` instructions if it was run.

    The twin looks at a mirror image where the network does.
    Raises TargetError for a target that executes no instructions.
    """
    if target.cores:
        raise TargetError(f"target '{target.name}' executes no instructions: compare on a microcontroller")
    rates = {name: spike_rates.get(name, DEFAULT_SPIKE_RATE) for name in _neurons(graph)}
    cost = estimate(graph, target, rates, kernels=kernels)
    model = _Model(target, cost.plan.kernels, 1.0 if executed is None else executed / cost.instructions)
    per_mac = PER_MAC_DSP if target.dsp else PER_MAC_PLAIN
    dense = per_mac * dense_macs(graph) * graph.views
    layer = graph[graph.input]
    steps = range(1, TIMESTEPS_MAX + 1) if isinstance(layer, Input) and layer.static else (graph.timesteps,)
    rows = tuple(_at(model, replace_timesteps(graph, t), rates, dense) for t in sorted({*steps, graph.timesteps}))
    own = next(row for row in rows if row.timesteps == graph.timesteps)
    return DenseComparison(
        target=target.name,
        kernels=cost.plan.kernels.value,
        timesteps=graph.timesteps,
        spike_rate=mean_rate(graph, rates),
        dense_macs=dense_macs(graph),
        dense_per_mac=per_mac,
        dense_instructions=dense,
        executed=executed,
        predicted=cost.instructions,
        instructions=own.instructions,
        of_dense=own.of_dense,
        break_even_rate=own.break_even_rate,
        timesteps_max=max((row.timesteps for row in rows if row.of_dense < 1), default=0),
        by_timesteps=rows,
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """The cost model, corrected by what was executed."""

    target: Target
    kernels: Kernels
    correction: float

    def instructions(self, graph: Graph, rates: Mapping[str, float]) -> float:
        return self.correction * estimate(graph, self.target, rates, kernels=self.kernels).instructions


def _at(model: _Model, graph: Graph, rates: Mapping[str, float], dense: float) -> Timesteps:
    instructions = model.instructions(graph, rates)
    return Timesteps(graph.timesteps, instructions, instructions / dense, _break_even(model, graph, rates, dense))


def _break_even(model: _Model, graph: Graph, rates: Mapping[str, float], dense: float) -> float:
    """The mean rate at which the instructions are ``dense``, by bisection: they grow with the rate."""

    def scaled(factor: float) -> dict[str, float]:
        return {name: min(rate * factor, 1.0) for name, rate in rates.items()}

    most = 1 / min((rate for rate in rates.values() if rate > 0), default=1.0)
    if model.instructions(graph, scaled(0)) >= dense:
        return 0.0
    if model.instructions(graph, scaled(most)) <= dense:
        return 1.0
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if model.instructions(graph, scaled(middle)) < dense else (low, middle)
    return mean_rate(graph, scaled(low))


def replace_timesteps(graph: Graph, timesteps: int) -> Graph:
    """The same network, run for another number of timesteps."""
    return replace(graph, timesteps=timesteps)


def mean_rate(graph: Graph, rates: Mapping[str, float]) -> float:
    """Spikes per neuron and timestep over all neurons."""
    sizes = _neurons(graph)
    return sum(rates[name] * size for name, size in sizes.items()) / max(sum(sizes.values()), 1)


def _neurons(graph: Graph) -> dict[str, int]:
    return {name: prod(graph.shapes[name]) for name, layer in graph.layers.items() if isinstance(layer, Lif)}
