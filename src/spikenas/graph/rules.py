"""What each kind of layer does to shapes and kinds, and which arrays it trains."""

from __future__ import annotations

from math import prod

from spikenas.errors import GraphError
from spikenas.graph.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Input,
    Kind,
    Layer,
    Lif,
    Linear,
    Output,
    Shape,
    Vote,
)


def shape_of(name: str, layer: Layer, incoming: list[Shape]) -> Shape:
    """Output shape of the node ``name`` from the shapes that enter it. Raises GraphError where they do not go."""
    if isinstance(layer, Input):
        return layer.shape
    first = incoming[0]
    match layer:
        case Conv2d():
            _need_rank(name, first, 3)
            if first[0] % layer.groups or layer.out_channels % layer.groups:
                raise GraphError(
                    f"node '{name}': groups={layer.groups} does not divide {first[0]} -> {layer.out_channels} channels"
                )
            return (layer.out_channels, *_window(name, layer, first))
        case AvgPool2d():
            _need_rank(name, first, 3)
            return (first[0], *_window(name, layer, first))
        case BatchNorm2d():
            _need_rank(name, first, 3)
            return first
        case Linear():
            _need_rank(name, first, 1)
            return (layer.out_features,)
        case Flatten():
            return (prod(first),)
        case Vote():
            _need_rank(name, first, 1)
            if first[0] % layer.group:
                raise GraphError(f"node '{name}': groups of {layer.group} do not divide {first[0]} features")
            return (first[0] // layer.group,)
        case Add():
            if any(shape != first for shape in incoming):
                raise GraphError(f"node '{name}' adds shapes {incoming}: they must be equal")
            return first
        case Output():
            _need_rank(name, first, 1)
            return first
        case _:
            return first


def _need_rank(name: str, shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        wanted = "(channels, height, width)" if rank == 3 else "(features,)"
        raise GraphError(f"node '{name}' gets shape {shape}: it needs {wanted}")


def _window(name: str, layer: Conv2d | AvgPool2d, shape: Shape) -> tuple[int, ...]:
    sizes = tuple(
        (size + 2 * pad - kernel) // stride + 1
        for size, kernel, stride, pad in zip(shape[1:], layer.kernel_size, layer.stride, layer.padding, strict=True)
    )
    if any(size < 1 for size in sizes):
        raise GraphError(f"node '{name}': a {layer.kernel_size} window does not fit into {shape[1:]}")
    return sizes


def kind_of(layer: Layer, incoming: list[Kind]) -> Kind:
    """What a layer makes of what enters it."""
    match layer:
        case Input():
            return Kind.IMAGE
        case Lif():
            return Kind.SPIKES
        case AvgPool2d() if incoming[0] is Kind.SPIKES:
            return Kind.COUNTS
        case AvgPool2d() | Flatten():
            return incoming[0]
        case Add() if all(kind in (Kind.SPIKES, Kind.COUNTS) for kind in incoming):
            return Kind.COUNTS
        case _:
            return Kind.CURRENT


def parameters_of(layer: Layer, incoming: list[Shape]) -> dict[str, Shape]:
    """Shape of each trained array of a layer, by name."""
    match layer:
        case Conv2d():
            shape = (layer.out_channels, incoming[0][0] // layer.groups, *layer.kernel_size)
            return {"weight": shape, **({"bias": (layer.out_channels,)} if layer.bias else {})}
        case Linear():
            matrix = (layer.out_features, incoming[0][0])
            return {"weight": matrix, **({"bias": (layer.out_features,)} if layer.bias else {})}
        case BatchNorm2d():
            channels = incoming[0][:1]
            return {"weight": channels, "bias": channels}
        case _:
            return {}
