"""Networks with made-up numbers that spike in every layer, for tests of file formats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikenas.graph import Conv2d, Graph, Linear
from spikenas.model import IntegerModel, Model, float_shapes, fold_norms, integer_shapes
from spikenas.space.embedded import EmbeddedSpace
from spikenas.space.macro import Variant, lower_snasnet
from spikenas.space.snasnet import SnasnetSpace

SNASNET = (
    "0303 0030 2002 0200/p2",  # convolution fed back
    "0443 0030 0003 0400/p4",  # a cycle of poolings only
    "0022 0000 0001 0000/p2",  # no feedback
)
EMBEDDED = (
    "t3-b8-k3s1-8:30s.01.0-8:003.00.0-pool",
    "t3-b4-k5s4-4:ids.ai.1-pool",  # depthwise, skip, pooling of currents
    "t3-b2-k3s4-8:501.s1.d-8:03s.00.d-8:ias.31.5-hidden64",
    "t2-b5-k3s2-4:ss0.s0.3-hidden32",  # a value added to itself
)


def graph_of(genotype: str) -> Graph:
    """A small network of the space that the text belongs to."""
    if genotype.startswith("t"):
        return EmbeddedSpace().lower(EmbeddedSpace().parse(genotype), (2, 8, 8), 5)
    snasnet = SnasnetSpace().parse(genotype)
    return lower_snasnet(snasnet.cells, snasnet.second_pooling, Variant((4, 8), 16, 2), (2, 16, 16), 5)


def float_model(graph: Graph, seed: int = 0) -> Model:
    """Random weights of the size that training leaves."""
    rng = np.random.default_rng(seed)
    draw = {
        "running_var": lambda shape: rng.uniform(0.5, 1.5, shape),
        "running_mean": lambda shape: rng.normal(0, 0.1, shape),
        "bias": lambda shape: rng.normal(0.2, 0.2, shape),
    }
    weights = {}
    for name, shape in float_shapes(graph).items():
        fan_in = np.prod(shape[1:])
        usual = rng.uniform(0.8, 1.6, shape) if len(shape) == 1 else rng.normal(0, 1.5 / np.sqrt(fan_in), shape)
        array = draw[kind](shape) if (kind := name.rpartition(".")[2]) in draw else usual
        weights[name] = np.asarray(array, np.float32)
    return Model(graph, weights)


def integer_model(graph: Graph, seed: int = 0) -> IntegerModel:
    """Random integers over the whole of their ranges."""
    rng, folded = np.random.default_rng(seed), fold_norms(graph)
    weights: dict[str, npt.NDArray[np.int32]] = {}
    for name, shape in integer_shapes(folded).items():
        node, _, kind = name.rpartition(".")
        layer = folded[node]
        limit = 2 ** (layer.weight_bits - 1) if isinstance(layer, Conv2d | Linear) else 0
        array = {
            "weight": lambda shape, limit: rng.integers(1 - limit, limit, shape),
            "shift": lambda shape, _: rng.integers(0, 4, shape),
            "sign": lambda shape, _: rng.choice([-1, 1], shape),
            "bias": lambda shape, _: rng.integers(-50, 100, shape),
            "threshold": lambda shape, _: rng.integers(1, 300, shape),
        }[kind](shape, limit)
        weights[name] = np.asarray(array, np.int32)
    return IntegerModel(folded, weights, 0.01)


def images_for(graph: Graph, count: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    shape = graph.shapes[graph.input]
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
