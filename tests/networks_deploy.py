"""Random integer models that exercise every path of the C kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Kind,
    Lif,
    Linear,
    Mean,
    Output,
    Reset,
    Vote,
)
from spikenas.model import IntegerModel, fold_norms, integer_shapes


def random_weights(graph: Graph, seed: int, *, scale: float = 1.0, threshold: int = 150) -> IntegerModel:
    """A model with weights over their whole range times ``scale``, and thresholds around ``threshold``."""
    rng = np.random.default_rng(seed)
    graph = fold_norms(graph)
    weights = {}
    for name, shape in integer_shapes(graph).items():
        node, _, parameter = name.rpartition(".")
        layer = graph[node]
        if parameter == "weight":
            assert isinstance(layer, Conv2d | Linear)
            limit = 2 ** (layer.weight_bits - 1) - 1
            values = np.rint(rng.integers(-limit, limit + 1, shape) * scale)
        elif parameter == "shift":
            assert isinstance(layer, Conv2d | Linear)
            values = np.array(random_shift(graph, node, layer, rng))
        elif parameter == "sign":
            values = rng.choice([-1, 1], shape)
        elif parameter == "threshold":
            assert isinstance(layer, Lif)
            values = rng.integers(max(threshold // 2, 1), min(2 * threshold, 2 ** (layer.membrane_bits - 1)), shape)
        else:
            values = rng.integers(-threshold // 2, threshold // 2 + 1, shape)
        weights[name] = np.asarray(values).astype(np.int32)
    return IntegerModel(graph, weights, 0.5)


def random_shift(graph: Graph, node: str, layer: Conv2d | Linear, rng: np.random.Generator) -> int:
    """Over spikes often to the left: by any number of bits, or by as many as leave room in a byte."""
    kind = graph.kinds[graph.sources[node][0].source]
    if kind not in (Kind.SPIKES, Kind.COUNTS):
        return int(rng.integers(4, 8))
    chance = rng.random()
    if chance < 0.15:
        return int(rng.integers(0, 3))
    return -int(rng.integers(0, 9 if kind is Kind.SPIKES else 9 - layer.weight_bits)) if chance < 0.5 else 0


def random_images(graph: Graph, count: int, seed: int) -> npt.NDArray[np.uint8]:
    layer = graph[graph.input]
    assert isinstance(layer, Input)
    frames = () if layer.static else (graph.timesteps,)
    return np.random.default_rng(seed).integers(0, 256, (count, *frames, *layer.shape), dtype=np.uint8)


def random_graph(seed: int) -> Graph:
    """A graph of up to a dozen layers: any kind, any source that fits, feedback, odd widths, input of every kind."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(3, 8)), int(rng.integers(3, 8)))
    channels, static = int(rng.choice([1, 2, 3])), bool(rng.random() < 0.8)
    grow = _Growth(rng, Input((channels, *size), static, mirrored=static and seed % 4 == 3))
    for _ in range(int(rng.integers(2, 9))):
        grow.layer()
    return grow.finish(int(rng.integers(1, 5)))


class _Growth:
    def __init__(self, rng: np.random.Generator, layer: Input) -> None:
        self.rng, self.b = rng, GraphBuilder()
        image = self.b.add(layer, name="image")
        self.shape = {image: layer.shape}
        self.open = {image}

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def add(self, layer: object, *sources: str) -> str:
        name = self.b.add(layer, *sources)  # type: ignore[arg-type]
        graph_shape = self.shape[sources[0]]
        self.open -= set(sources)
        self.open.add(name)
        match layer:
            case Conv2d() | AvgPool2d():
                out = layer.out_channels if isinstance(layer, Conv2d) else graph_shape[0]
                (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
                graph_shape = (out, (graph_shape[1] + 2 * ph - kh) // sh + 1, (graph_shape[2] + 2 * pw - kw) // sw + 1)
            case Flatten():
                graph_shape = (int(np.prod(graph_shape)),)
            case Linear():
                graph_shape = (layer.out_features,)
        self.shape[name] = graph_shape
        return name

    def source(self) -> str:
        """A map, preferably one that nothing reads yet."""
        maps = [name for name, shape in self.shape.items() if len(shape) == 3]
        unread = [name for name in maps if name in self.open]
        return str(self.rng.choice(unread if unread and self.rng.random() < 0.7 else maps))

    def lif(self) -> Lif:
        return Lif(
            decay=float(self.rng.choice([0.5, 0.75, 1.0, 0.3])),
            threshold=1.0,
            reset=Reset.SUBTRACT if self.rng.random() < 0.4 else Reset.ZERO,
            membrane_bits=self.pick(16, 16, 16, 8, 12),
        )

    def layer(self) -> None:
        source = self.source()
        kind = self.rng.random()
        if kind < 0.35:
            spikes = self.add(self.lif(), source) if self.rng.random() < 0.5 else source
            normed = self.add(self.conv(spikes), spikes)
            if self.rng.random() < 0.4:
                self.add(BatchNorm2d(), normed)
        elif kind < 0.55:
            self.add(self.lif(), source)
        elif kind < 0.7:
            kernel = self.pick(2, 3)
            if min(self.shape[source][1:]) >= kernel:
                same = kernel == 3 and self.rng.random() < 0.6
                pool = AvgPool2d((3, 3), (1, 1), (1, 1)) if same else AvgPool2d((kernel, 2), (self.pick(1, 2), 2))
                self.add(pool, source)
        else:
            self.join(source)

    def conv(self, source: str) -> Conv2d:
        channels, height, width = self.shape[source]
        kernel, stride = (self.pick(1, 3), self.pick(1, 3)), (self.pick(1, 1, 2), self.pick(1, 1, 2))
        padding = (kernel[0] // 2, kernel[1] // 2)
        if self.rng.random() < 0.3 and kernel[0] <= height and kernel[1] <= width:
            padding = (0, 0)
        same = self.rng.random() < 0.5
        groups = self.pick(1, 1, 1, channels)
        out = channels * self.pick(1, 2) if groups > 1 or same else self.pick(3, 8, 16, 17, 20, 34, 40)
        stride = (1, 1) if same else stride
        bits = self.pick(8, 8, 4, 2, 3, 5)
        return Conv2d(out, kernel, stride, padding, groups=groups, bias=bool(self.rng.random() < 0.5), weight_bits=bits)

    def join(self, source: str) -> None:
        alike = [name for name, shape in self.shape.items() if shape == self.shape[source]]
        others = [str(name) for name in self.rng.permutation(alike)[: self.pick(1, 2, 3)] if name != source]
        total = self.add(Add(), source, *others)
        if self.rng.random() < 0.25:
            late = str(self.rng.choice([*alike, total]))
            if late != total or self.rng.random() < 0.3:
                self.b.feedback(late, total)

    def finish(self, timesteps: int) -> Graph:
        """Everything that is still open goes through a Flatten and a Linear into one sum."""
        classes, group = self.pick(2, 5, 10), self.pick(1, 1, 3)
        branches = []
        for name in sorted(self.open):
            flat = self.add(Flatten(), name)
            if self.rng.random() < 0.2:
                flat = self.add(self.lif(), flat)
            linear = Linear(classes * group, bias=bool(self.rng.random() < 0.5), weight_bits=self.pick(8, 4))
            branches.append(self.add(linear, flat))
        value = branches[0] if len(branches) == 1 else self.add(Add(), *branches)
        if self.rng.random() < 0.3:
            value = self.add(self.lif(), value)
        if group > 1:
            value = self.add(Vote(group), value)
        self.b.add(Output(), self.b.add(Mean(), value))
        return self.b.build(timesteps)
