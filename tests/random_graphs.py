"""Random graphs and models in the style of the spaces, and beyond: for property tests."""

from __future__ import annotations

import numpy as np

from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Lif,
    Linear,
    Mean,
    Output,
    Reset,
    Vote,
)
from spikenas.model import IntegerModel, Model, float_shapes, fold_norms, integer_shapes

CELL_NODES = 4


class RandomGraph:
    """Draws a graph: stem, one or two cells with an optional feedback edge, a reduction, one of several heads."""

    def __init__(self, seed: int, *, feedback: bool | None = None, static: bool | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder()
        self.feedback = self.chance() if feedback is None else feedback
        self.static = self.chance(0.8) if static is None else static
        self.channels = int(self.rng.integers(1, 4))
        self.size = (int(self.rng.integers(4, 8)), int(self.rng.integers(4, 8)))
        self.bits = int(self.rng.integers(2, 9))
        reset = Reset.ZERO if self.chance(0.7) else Reset.SUBTRACT
        decay, gain = [(0.5, 0.5), (0.5, 1.0), (0.25, 0.75), (1.0, 1.0), (0.9, 1.0)][self.rng.integers(5)]
        self.lif = Lif(decay, gain, float(self.rng.choice([0.5, 1.0])), reset, int(self.rng.choice([12, 16, 16, 32])))

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def graph(self) -> Graph:
        add, rng = self.builder.add, self.rng
        image = add(Input((self.channels, *self.size), self.static), name="image")
        value = self.conv(image, int(rng.integers(2, 6)), depthwise=False)
        if self.chance(0.2):  # a convolution over currents
            value = self.conv(value, self.channels)
        for cell in range(int(rng.integers(1, 3))):
            if cell:
                value = self.reduction(value)
            value = self.cell(value)
        add(Output(), add(Mean(), self.head(value)))
        return self.builder.build(int(rng.integers(1, 5)))

    def conv(self, source: str, channels: int, *, stride: int = 1, depthwise: bool = True) -> str:
        kernel = int(self.rng.choice([1, 3, 5]))
        depthwise = depthwise and self.chance(0.2) and channels == self.channels
        self.channels, self.size = channels, (-(-self.size[0] // stride), -(-self.size[1] // stride))
        layer = Conv2d(
            channels,
            (kernel, kernel),
            (stride, stride),
            (kernel // 2, kernel // 2),
            groups=channels if depthwise else 1,
            bias=self.chance(0.3),
            weight_bits=self.bits,
        )
        value = self.builder.add(layer, source)
        return self.builder.add(BatchNorm2d(), value) if self.chance(0.8) else value

    def spikes(self, source: str) -> str:
        if self.chance(0.3):
            source = self.builder.add(BatchNorm2d(), source)
        return self.builder.add(self.lif, source)

    def branch(self, source: str) -> str:
        kind = self.rng.integers(4)
        if kind == 0:
            return source
        if kind == 1:
            return self.builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)), source)
        return self.conv(self.spikes(source), self.channels)

    def cell(self, source: str) -> str:
        nodes = [source]
        for _ in range(1, CELL_NODES):
            chosen = self.rng.choice(len(nodes), size=int(self.rng.integers(1, len(nodes) + 1)), replace=False)
            nodes.append(self.builder.add(Add(), *(self.branch(nodes[i]) for i in chosen)))
        last = self.builder.add(Add(), *nodes[1:])
        if self.feedback:
            self.builder.feedback(self.branch(nodes[2]), nodes[1])
        return last

    def reduction(self, source: str) -> str:
        if self.chance():
            self.size = (self.size[0] // 2, self.size[1] // 2)
            return self.builder.add(AvgPool2d((2, 2), (2, 2)), source)
        return self.conv(self.spikes(source), int(self.rng.integers(2, 6)), stride=2)

    def head(self, source: str) -> str:
        add, classes = self.builder.add, int(self.rng.integers(2, 5))
        spikes = self.spikes(source)
        kind = self.rng.integers(4)
        if kind == 0:
            return add(Linear(classes), add(Flatten(), add(AvgPool2d(self.size, self.size), spikes)))
        if kind == 1:
            return add(Linear(classes, bias=False, weight_bits=self.bits), add(Flatten(), spikes))
        hidden = add(self.lif, add(Linear(6, weight_bits=self.bits), add(Flatten(), spikes)))
        if kind == 2:
            return add(Vote(3), hidden)
        return add(Vote(2), add(Linear(2 * classes), hidden))


def random_graph(seed: int, *, feedback: bool | None = None, static: bool | None = None) -> Graph:
    return RandomGraph(seed, feedback=feedback, static=static).graph()


def random_model(graph: Graph, seed: int) -> Model:
    """Weights as a training leaves them: norms with both signs, some small channels."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in float_shapes(graph).items():
        node, _, parameter = name.rpartition(".")
        if parameter == "running_var":
            array = rng.uniform(0.2, 2.0, shape)
        elif parameter == "weight" and isinstance(graph[node], BatchNorm2d):
            array = rng.normal(1.0, 0.3, shape) * rng.choice([-1, 1], shape, p=[0.1, 0.9])
        elif parameter == "weight":
            array = rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
        else:
            array = rng.normal(0.0, 0.2, shape)
        weights[name] = array.astype(np.float32)
    return Model(graph, weights)


def random_integer_model(graph: Graph, seed: int) -> IntegerModel:
    """Integers from their whole ranges, so that currents and membranes saturate."""
    graph = fold_norms(graph)
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in integer_shapes(graph).items():
        node, _, parameter = name.rpartition(".")
        layer = graph[node]
        if parameter == "weight":
            assert isinstance(layer, Conv2d | Linear)
            limit = 2 ** (layer.weight_bits - 1) - 1
            array = rng.integers(-limit, limit + 1, shape)
        elif parameter == "shift":
            array = np.array(rng.integers(-4, 5))
        elif parameter == "threshold":
            assert isinstance(layer, Lif)
            most = int(rng.choice([100, 2 ** (layer.membrane_bits - 1)]))
            array = rng.integers(1, most, shape)
        elif parameter == "sign":
            array = rng.choice([-1, 1], shape)
        else:
            array = rng.integers(-(2**15), 2**15, shape)
        weights[name] = array.astype(np.int32)
    return IntegerModel(graph, weights, 1.0)


def random_images(graph: Graph, count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    layer = graph[graph.input]
    assert isinstance(layer, Input)
    shape = layer.shape if layer.static else (graph.timesteps, *layer.shape)
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
