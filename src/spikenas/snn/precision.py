"""A graph at other bits: which layers have weights, and what a list of bits means for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spikenas.cost.cost import estimate
from spikenas.cost.flash import WEIGHT_BITS
from spikenas.cost.memory import Kernels
from spikenas.cost.target import Target
from spikenas.errors import QuantizeError
from spikenas.graph import Conv2d, Graph, Lif, Linear, Node
from spikenas.model import IntegerModel, Model

LEAST_BITS, MOST_BITS = 2, 8
MEMBRANE_BITS = (8, 12, 16, 32)


def weighted_layers(graph: Graph) -> dict[str, Conv2d | Linear]:
    """The layers with weights, in the graph's order: the order of a list of bits."""
    return {node.name: node.layer for node in graph.nodes if isinstance(node.layer, Conv2d | Linear)}


def neuron_layers(graph: Graph) -> dict[str, Lif]:
    """The layers of neurons."""
    return {node.name: node.layer for node in graph.nodes if isinstance(node.layer, Lif)}


def has_few_bits(graph: Graph) -> bool:
    """Whether rounding some layer's weights may cost accuracy worth speaking of."""
    return any(layer.weight_bits < MOST_BITS for layer in weighted_layers(graph).values())


def with_bits(graph: Graph, weights: Mapping[str, int], membranes: Mapping[str, int] | None = None) -> Graph:
    """``graph`` with the bits of some layers' weights and some neurons' membranes replaced."""
    layers = {
        name: replace(layer, weight_bits=weights[name])
        for name, layer in weighted_layers(graph).items()
        if name in weights
    }
    lifs = {
        name: replace(lif, membrane_bits=membranes[name])
        for name, lif in neuron_layers(graph).items()
        if membranes and name in membranes
    }
    every = {**layers, **lifs}
    nodes = tuple(Node(node.name, every.get(node.name, node.layer)) for node in graph.nodes)
    return Graph(graph.timesteps, nodes, graph.edges)


def model_with_bits(model: Model, weights: Mapping[str, int], membranes: Mapping[str, int] | None = None) -> Model:
    """The same numbers, to be quantized at other bits."""
    return Model(with_bits(model.graph, weights, membranes), model.weights)


def bytes_by_bits(graph: Graph, target: Target, kernels: Kernels = Kernels.FAST) -> dict[str, dict[int, int]]:
    """Flash that each layer takes at each of the widths in which weights are stored.

    The fast kernels keep layers over pixels or currents, and grouped convolutions, in bytes: the flash of these does
    not depend on the bits.
    """
    names = list(weighted_layers(graph))
    found: dict[str, dict[int, int]] = {name: {} for name in names}
    for bits in WEIGHT_BITS:
        cost = estimate(with_bits(graph, dict.fromkeys(names, bits)), target, kernels=kernels)
        for layer in cost.layers:
            if layer.name in found:
                found[layer.name][bits] = layer.flash_bytes
    return found


def bits_of_list(graph: Graph, bits: tuple[int, ...], target: Target) -> dict[str, int]:
    """Bits by layer from one number, or from one for each layer with weights.

    One number leaves at 8 bits what the chip stores in bytes anyway: fewer would cost accuracy and save nothing.
    Raises QuantizeError for numbers outside 2 to 8 and for a list of another length.
    """
    for value in bits:
        if not LEAST_BITS <= value <= MOST_BITS:
            raise QuantizeError(f"--bits {value}: integers take {LEAST_BITS} to {MOST_BITS} bits")
    sizes = bytes_by_bits(graph, target)
    if len(bits) == 1:
        return {name: bits[0] if size[LEAST_BITS] < size[MOST_BITS] else MOST_BITS for name, size in sizes.items()}
    if len(bits) != len(sizes):
        raise QuantizeError(
            f"--bits with {len(bits)} numbers: this network has {len(sizes)} layers with weights "
            f"({', '.join(sizes)}); give one number, or one for each"
        )
    return dict(zip(sizes, bits, strict=True))


def bits_by_layer(model: Model | IntegerModel) -> dict[str, int]:
    """The bits that each layer has."""
    return {name: layer.weight_bits for name, layer in weighted_layers(model.graph).items()}
