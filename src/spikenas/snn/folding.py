"""BatchNorm2d out of the way: into the weights before it, or into the neurons after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenas.errors import QuantizeError
from spikenas.graph import BatchNorm2d, Conv2d, Graph, Kind, Lif, Linear
from spikenas.model import Model, fold_norms, norm_targets

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """A Conv2d or Linear: ``weight`` [out, in, ...] and ``bias`` [out], in real units."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """What a neuron's input goes through first: ``g * x + b`` per channel."""

    g: Floats
    b: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A float model without BatchNorm2d: the integer graph, its layers by node, and the norms of its Lif nodes."""

    graph: Graph
    layers: Mapping[str, Weighted]
    norms: Mapping[str, Affine]


def fold(model: Model) -> Folded:
    """Fold every BatchNorm2d. Raises QuantizeError for one that cannot be, and for bits outside 2..8."""
    graph = fold_norms(model.graph)
    _check(graph)
    into_conv, into_lif = norm_targets(model.graph)
    layers = {
        name: _weighted(model, name) for name, layer in graph.layers.items() if isinstance(layer, Conv2d | Linear)
    }
    for norm, conv in into_conv.items():
        affine, plain = _affine(model, norm), layers[conv]
        g = affine.g.reshape(-1, *[1] * (plain.weight.ndim - 1))
        layers[conv] = Weighted(plain.weight * g, plain.bias * affine.g + affine.b)
    norms = {edge.target: _affine(model, name) for name in into_lif for edge in model.graph.consumers[name]}
    return Folded(graph, layers, norms)


def _weighted(model: Model, name: str) -> Weighted:
    weight = model.weights[f"{name}.weight"].astype(np.float64)
    bias = model.weights.get(f"{name}.bias")
    return Weighted(weight, np.zeros(len(weight)) if bias is None else bias.astype(np.float64))


def _affine(model: Model, name: str) -> Affine:
    layer = model.graph[name]
    assert isinstance(layer, BatchNorm2d)
    weight, bias, mean, var = (
        model.weights[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    )
    g = weight / np.sqrt(var + layer.eps)
    return Affine(g, bias - g * mean)


def _check(graph: Graph) -> None:
    for name, layer in graph.layers.items():
        match layer:
            case BatchNorm2d():
                source = graph.sources[name][0].source
                raise QuantizeError(
                    f"node '{name}': BatchNorm2d after {type(graph[source]).__name__} '{source}' cannot be folded: "
                    "it must alone follow a Conv2d, or feed only Lif nodes"
                )
            case Conv2d() | Linear() if not 2 <= layer.weight_bits <= 8:
                raise QuantizeError(f"node '{name}': weights of {layer.weight_bits} bits: integers take 2 to 8")
            case Lif() if layer.folded_norm:
                source = graph.sources[name][0].source
                if graph.kinds[source] in (Kind.SPIKES, Kind.COUNTS):
                    raise QuantizeError(
                        f"node '{name}': the BatchNorm2d before it normalizes spike counts of '{source}', numbers "
                        "too coarse for its bias: put a Conv2d before the BatchNorm2d"
                    )
            case _:
                pass
