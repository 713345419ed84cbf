"""BatchNorm2d folded into the convolution in front of it, in floating point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spikenas.graph import BatchNorm2d, Conv2d, Edge, Graph, Node
from spikenas.model import Model, norm_targets


def norm_scale(model: Model, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A BatchNorm2d as ``scale * x + offset``, each (C,), float64."""
    layer = model.graph[name]
    assert isinstance(layer, BatchNorm2d)
    weight, bias, mean, variance = (
        model.weights[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + layer.eps)
    return scale, bias - mean * scale


def fold_into_convolutions(model: Model) -> Model:
    """The same function with fewer BatchNorm2d nodes: those that alone follow a Conv2d are in its weights and bias.

    A BatchNorm2d behind anything else stays. The products are rounded to float32 once, so outputs agree with the
    unfolded model's to about 1e-6 relative, not bit for bit.
    """
    into_conv, _ = norm_targets(model.graph)
    norm_of = {conv: norm for norm, conv in into_conv.items()}
    weights = {key: array for key, array in model.weights.items() if key.rpartition(".")[0] not in into_conv}
    nodes: list[Node] = []
    for node in model.graph.nodes:
        if node.name in into_conv:
            continue
        if (norm := norm_of.get(node.name)) is not None and isinstance(node.layer, Conv2d):
            scale, offset = norm_scale(model, norm)
            kernel = model.weights[f"{node.name}.weight"] * scale[:, None, None, None]
            bias = model.weights.get(f"{node.name}.bias", np.zeros(1, np.float32)) * scale + offset
            weights[f"{node.name}.weight"] = kernel.astype(np.float32)
            weights[f"{node.name}.bias"] = bias.astype(np.float32)
            node = Node(node.name, replace(node.layer, bias=True))
        nodes.append(node)
    edges = tuple(
        Edge(into_conv.get(edge.source, edge.source), edge.target, edge.delay)
        for edge in model.graph.edges
        if edge.target not in into_conv
    )
    return Model(Graph(model.graph.timesteps, tuple(nodes), edges), weights)
