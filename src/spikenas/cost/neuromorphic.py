"""Chips whose layers live on separate cores (DYNAP-CNN, Speck): does every layer find a core that holds it?

Such a core computes one convolution (or linear layer) of spikes, one map of integrate-and-fire neurons, and a sum
pooling of their spikes, in that order. A step of :mod:`spikenas.cost.steps` is what one core computes, or it cannot be
computed there. Memory of a core is counted in entries, and the chip's addressing rounds up to powers of two: with c
input channels, f output channels, a k x k kernel and maps of h x w,

    weights = c 2^(ceil(log2 k^2) + ceil(log2 f))        neurons = f 2^(ceil(log2 h) + ceil(log2 w))

(sinabs documentation, "SPECK: Overview"; the numbers of its table of features are the limits below.) What fits is a
statement about memory and wiring. The chip runs without a clock, so spikes come in another order than in our timesteps,
and an image enters as spikes: accuracy on the chip has to be measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from spikenas.cost.steps import POINT, Group, Reading, Step, Term, cut_into_steps, groups, map_size, stored_nodes
from spikenas.cost.target import Core, Target
from spikenas.graph import Conv2d, Graph, Input, Lif, Linear, Node
from spikenas.model import fold_norms

KERNEL_MAX, PADDING_MAX, CHANNELS_MAX = 16, 7, 1024
STRIDES, POOLS = (1, 2, 4, 8), (1, 2, 4)
INPUT_MAX, MAP_MAX = 128, 64
FAN_OUT_MAX = 2
WEIGHT_BITS, MEMBRANE_BITS = 8, 16


@dataclass(frozen=True, slots=True)
class CoreLayer:
    """What one core would hold: entries of weights, neurons and biases, and the layers it reads."""

    name: str
    weights: int
    neurons: int
    biases: int
    reads: tuple[str, ...]

    def fits(self, core: Core) -> bool:
        """Whether the core's memories hold it."""
        return self.weights <= core.weights and self.neurons <= core.neurons and self.biases <= core.biases


@dataclass(frozen=True, slots=True)
class Assignment:
    """``cores[name]``: the number of the layer's core. ``refusals``: why there is no assignment; empty if there is."""

    layers: tuple[CoreLayer, ...]
    cores: Mapping[str, int]
    refusals: tuple[str, ...]


def for_target(graph: Graph, target: Target) -> Graph:
    """The graph with the neurons that the target has: on neuromorphic cores they do not leak by a factor.

    >>> from spikenas.cost.target import TARGETS
    >>> from spikenas.space.space import load_space
    >>> space = load_space("embedded")
    >>> graph = for_target(space.lower(space.smallest((1, 8, 8), 10), (1, 8, 8), 10), TARGETS["speck"])
    >>> {node.layer.decay for node in graph.nodes if isinstance(node.layer, Lif)}
    {1.0}
    """
    if not target.cores:
        return graph
    nodes = (
        Node(node.name, replace(node.layer, decay=1.0)) if isinstance(node.layer, Lif) else node for node in graph.nodes
    )
    return Graph(graph.timesteps, tuple(nodes), graph.edges)


def assign(graph: Graph, cores: Sequence[Core]) -> Assignment:
    """An assignment of the graph's layers to cores, exact: if there is one, it is found."""
    graph = fold_norms(graph)
    steps, stored = cut_into_steps(graph), stored_nodes(graph)
    work = [groups(graph, step, stored) for step in steps]
    refusals = [words for pair in zip(steps, work, strict=True) for words in _refusals(graph, *pair)]
    refusals += _fan_out(graph, steps)
    if refusals:
        return Assignment((), {}, tuple(refusals))
    layers = tuple(_core_layer(graph, *pair) for pair in zip(steps, work, strict=True))
    found, failed = match(layers, cores)
    return Assignment(layers, found, () if failed is None else (_explain(layers, failed, cores),))


def match(layers: Sequence[CoreLayer], cores: Sequence[Core]) -> tuple[dict[str, int], CoreLayer | None]:
    """(core of each layer, None), or (the most that was possible, a layer for which there is none).

    Augmenting paths (Kuhn 1955): a layer that finds its cores taken moves their layers to others where it can.
    """
    taken: dict[int, CoreLayer] = {}

    def settle(layer: CoreLayer, tried: set[int]) -> bool:
        for number, core in enumerate(cores):
            if number not in tried and layer.fits(core):
                tried.add(number)
                if number not in taken or settle(taken[number], tried):
                    taken[number] = layer
                    return True
        return False

    failed = next((layer for layer in layers if not settle(layer, set())), None)
    return {layer.name: number for number, layer in sorted(taken.items())}, failed


def _explain(layers: Sequence[CoreLayer], failed: CoreLayer, cores: Sequence[Core]) -> str:
    """Why a layer has no core: it is too large for each, or layers like it have taken those it fits."""
    needs = f"layer '{failed.name}' needs {failed.weights:,} weights and {failed.neurons:,} neurons"
    fitting = [number for number, core in enumerate(cores) if failed.fits(core)]
    if not fitting:
        if all(failed.weights > core.weights for core in cores):
            return f"{needs}: no core has more than {max(c.weights for c in cores):,} weights; use fewer channels"
        if all(failed.neurons > core.neurons for core in cores):
            return f"{needs}: no core has more than {max(c.neurons for c in cores):,} neurons; use a larger stride"
        return f"{needs}: no core has both; use fewer channels or a larger stride"
    if len(layers) > len(cores):
        return f"{len(layers)} layers: there are {len(cores)} cores; use fewer layers"
    return f"{needs}: of the {len(fitting)} cores that hold it each is needed by another layer; use fewer channels"


# --- what a core cannot do --------------------------------------------------------------------------------


def _refusals(graph: Graph, step: Step, work: tuple[Group, ...]) -> list[str]:
    """Why one core cannot compute a step, each reason naming the node, the rule and the way out."""
    bare = [group for group in work if group.layer is None]
    if bare or len(work) != 1:
        names = ", ".join(f"'{group.layer or group.terms[0].source}'" for group in work)
        return [
            f"node '{step.node}' adds {names}: a core adds up one layer's weights and nothing else; use cells without "
            "skips and parallel operations"
        ]
    group, lifs = work[0], [name for name in step.writes if isinstance(graph[name], Lif)]
    layer = graph[group.layer] if group.layer else None
    assert isinstance(layer, Conv2d | Linear)
    words = []
    if step.node in step.writes and step.node != graph.output and not isinstance(graph[step.node], Lif):
        words.append(f"node '{step.node}' is kept as a real value: cores pass on nothing but spikes")
    if len(lifs) > 1:
        words.append(f"node '{step.node}' feeds {len(lifs)} sets of neurons: a core has one")
    if layer.weight_bits > WEIGHT_BITS:
        words.append(f"node '{group.layer}' has {layer.weight_bits}-bit weights: cores have {WEIGHT_BITS}")
    if isinstance(layer, Conv2d) and layer.groups > 1:
        words.append(f"node '{group.layer}' is grouped: cores connect all channels")
    if group.vote > 1:
        words.append(f"node '{step.node}' takes votes: cores add up no neighbours")
    channels, (height, width) = graph.shapes[step.node][0], map_size(graph.shapes[step.node])
    if channels > CHANNELS_MAX:
        words.append(f"node '{step.node}' has {channels} channels: cores have at most {CHANNELS_MAX}")
    if max(height, width) > MAP_MAX:
        words.append(f"node '{step.node}' has maps of {height}x{width}: cores have at most {MAP_MAX}x{MAP_MAX}")
    for name in lifs:
        words += _neuron_refusals(graph, name)
    for term in group.terms:
        words += _term_refusals(graph, group, term)
    return words


def _neuron_refusals(graph: Graph, name: str) -> list[str]:
    lif = graph[name]
    assert isinstance(lif, Lif)
    words = []
    if lif.decay != 1:
        words.append(f"node '{name}' leaks by a factor of {lif.decay}: cores leak by a constant; use decay 1")
    if lif.membrane_bits > MEMBRANE_BITS:
        words.append(f"node '{name}' has {lif.membrane_bits}-bit membranes: cores have {MEMBRANE_BITS}")
    return words


def _term_refusals(graph: Graph, group: Group, term: Term) -> list[str]:
    name, window, pool = group.layer, term.window, term.pool
    words = []
    if term.reading is Reading.DENSE and not isinstance(graph[term.source], Input):
        words.append(f"node '{name}' reads real values of '{term.source}': cores read spikes")
    if term.delay:
        words.append(f"node '{name}' reads '{term.source}' a timestep later: the chip has no timesteps; drop feedback")
    if window.kernel[0] != window.kernel[1] or window.kernel[0] > KERNEL_MAX:
        words.append(
            f"node '{name}' has a kernel of {_by(window.kernel)}: cores have square ones of at most {KERNEL_MAX}"
        )
    if set(window.stride) - set(STRIDES):
        words.append(f"node '{name}' has stride {_by(window.stride)}: cores have {', '.join(map(str, STRIDES))}")
    if max(window.padding) > PADDING_MAX:
        words.append(f"node '{name}' has padding {_by(window.padding)}: cores have at most {PADDING_MAX}")
    if pool != POINT and (pool.kernel[0] not in POOLS or len({*pool.kernel, *pool.stride}) > 1 or any(pool.padding)):
        words.append(
            f"node '{name}' reads '{term.source}' pooled {_by(pool.kernel)}: cores pool 2x2 and 4x4 without overlap"
        )
    height, width = map_size(graph.shapes[term.source])
    if max(height, width) > INPUT_MAX:
        words.append(f"node '{name}' reads maps of {height}x{width}: cores read at most {INPUT_MAX}x{INPUT_MAX}")
    return words


def _fan_out(graph: Graph, steps: Sequence[Step]) -> list[str]:
    words = []
    for node in graph.nodes:
        readers = [step.node for step in steps if node.name in step.reads]
        if isinstance(node.layer, Lif) and len(readers) > FAN_OUT_MAX:
            words.append(
                f"node '{node.name}' is read by {len(readers)} layers: a core sends its spikes to {FAN_OUT_MAX}"
            )
    return words


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


# --- memory -----------------------------------------------------------------------------------------------


def _core_layer(graph: Graph, step: Step, work: tuple[Group, ...]) -> CoreLayer:
    group = work[0]
    layer, shape = graph[group.layer or ""], graph.shapes[step.node]
    assert isinstance(layer, Conv2d | Linear)
    inputs, kernel = graph.shapes[group.terms[0].source][0], prod(group.terms[0].window.kernel)
    return CoreLayer(
        name=group.layer or "",
        weights=inputs * _rounded(kernel) * _rounded(shape[0]),
        neurons=shape[0] * prod(_rounded(side) for side in map_size(shape)),
        biases=shape[0] if layer.bias or _has_norm(graph, step) else 0,
        reads=step.reads,
    )


def _has_norm(graph: Graph, step: Step) -> bool:
    """Whether the neurons have a norm folded into them, which becomes a bias on a core."""
    return any(isinstance(lif := graph[name], Lif) and lif.folded_norm for name in step.writes)


def _rounded(number: int) -> int:
    """The next power of two.

    >>> [_rounded(n) for n in (1, 9, 16, 25)]
    [1, 16, 16, 32]
    """
    return 1 << (number - 1).bit_length()
