"""What each layer of an integer model is in ONNX: the arithmetic of :mod:`spikenas.model`, exactly.

Weights are int8 behind DequantizeLinear, the image uint8 behind it, both of scale 1, so that the numbers after it are
the integers themselves. ONNX runtimes convolve in float32, which is exact while every sum stays below 2**24; that is
checked for each output. All else is float64, exact below 2**53, where ``a >> s`` is ``Floor(a / 2**s)``.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from spikenas.deploy.onnx_float import fire, structural, windows
from spikenas.deploy.onnx_sheet import Sheet
from spikenas.errors import QuantizeError
from spikenas.graph import Add, AvgPool2d, Conv2d, Graph, Input, Kind, Layer, Lif, Linear, Vote
from spikenas.model import CURRENT_MAX, CURRENT_MIN, IntegerModel, decay_q, in_accumulator

REAL = np.float64
EXACT = 2**24
"""integers up to here are float32 numbers"""


class IntegerLayers:
    """The layers of an integer model; as FloatLayers."""

    def __init__(self, sheet: Sheet, model: IntegerModel) -> None:
        self.sheet, self.model, self.graph, self.weights = sheet, model, model.graph, model.weights

    def image(self, pixels: str, out: str) -> str:
        one, zero = self.sheet.number(1.0, np.float32), self.sheet.number(128, np.uint8)
        return self.sheet.cast(self.sheet.op("DequantizeLinear", pixels, one, zero), REAL, out=out)

    def neuron(self, name: str, layer: Lif, membrane: str | None, x: str, out: str) -> tuple[str, str]:
        sheet = self.sheet
        u = self._clip(x, CURRENT_MIN, CURRENT_MAX)
        if layer.folded_norm:
            u = sheet.op("Add", sheet.op("Mul", u, self._channels(name, "sign")), self._channels(name, "bias"))
        if membrane is not None and (q := decay_q(layer)):
            kept = self._floor_div(sheet.op("Mul", membrane, sheet.number(float(q), REAL)), 256)
            u = sheet.op("Add", kept, u)
        limit = 2 ** (layer.membrane_bits - 1)
        u = self._clip(u, -limit, limit - 1)
        return fire(sheet, layer, u, self._channels(name, "threshold"), REAL, out)

    def layer(self, name: str, layer: Layer, inputs: list[str], out: str) -> str:
        clamps = self.graph.kinds[name] is Kind.CURRENT and not in_accumulator(self.graph, name)
        if not clamps:
            return self._unclamped(name, layer, inputs, out)
        return self._clip(self._unclamped(name, layer, inputs, ""), CURRENT_MIN, CURRENT_MAX, out)

    def _unclamped(self, name: str, layer: Layer, inputs: list[str], out: str) -> str:
        sheet, x = self.sheet, inputs[0]
        match layer:
            case Conv2d() | Linear():
                left, right = self.model.shifts(name)
                y = self._weighted_sum(name, layer, x, "" if left or right or layer.bias else out)
                if right:
                    rounded = sheet.op("Add", y, sheet.number(float(1 << right >> 1), REAL))
                    y = self._floor_div(rounded, 1 << right, "" if layer.bias else out)
                elif left:
                    y = sheet.op("Mul", y, sheet.number(float(1 << left), REAL), out="" if layer.bias else out)
                return sheet.op("Add", y, self._channels(name, "bias"), out=out) if layer.bias else y
            case AvgPool2d():
                size = prod(layer.kernel_size)
                if self.graph.kinds[name] is not Kind.CURRENT:
                    return self._window_sum(name, layer, x, out)
                twice = sheet.op("Mul", self._window_sum(name, layer, x, ""), sheet.number(2.0, REAL))
                return self._floor_div(sheet.op("Add", twice, sheet.number(float(size), REAL)), 2 * size, out)
            case Vote():
                groups = sheet.op("Reshape", x, sheet.integers(0, -1, layer.group))
                return sheet.op("ReduceSum", groups, sheet.integers(2), out=out, keepdims=0)
            case _:
                return structural(sheet, layer, inputs, out)

    def mean(self, steps: list[str], timesteps: int, out: str) -> str:
        times = self.sheet.number(float(timesteps // len(steps)), REAL)
        return self.sheet.op("Mul", self.sheet.total(steps), times, out=out)

    # --- pieces -----------------------------------------------------------------------------------------------

    def _weighted_sum(self, name: str, layer: Conv2d | Linear, x: str, out: str) -> str:
        sheet, weight = self.sheet, self.weights[f"{name}.weight"]
        most = int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1).max())
        _need_exact(name, most * largest(self.graph, self.graph.sources[name][0].source))
        if np.abs(weight).max(initial=0) <= 127:
            stored = sheet.constant(f"{name}.weight", weight.astype(np.int8))
            one, zero = sheet.number(1.0, np.float32), sheet.number(0, np.int8)
            real = sheet.op("DequantizeLinear", stored, one, zero)
        else:
            real = sheet.constant(f"{name}.weight", weight.astype(np.float32))
        x = sheet.cast(x, np.float32)
        if isinstance(layer, Linear):
            return sheet.cast(sheet.op("Gemm", x, real, transB=1), REAL, out=out)
        return sheet.cast(sheet.op("Conv", x, real, **windows(layer), group=layer.groups), REAL, out=out)

    def _window_sum(self, name: str, layer: AvgPool2d, x: str, out: str) -> str:
        """A depthwise convolution with ones: AveragePool divides, and the product with the size may not be whole."""
        sheet, channels = self.sheet, self.graph.shapes[name][0]
        _need_exact(name, prod(layer.kernel_size) * largest(self.graph, self.graph.sources[name][0].source))
        shape = (channels, 1, *layer.kernel_size)
        ones = sheet.constant(f"ones:{shape}", np.ones(shape, np.float32))
        total = sheet.op("Conv", sheet.cast(x, np.float32), ones, **windows(layer), group=channels)
        return sheet.cast(total, REAL, out=out)

    def _floor_div(self, value: str, divisor: int, out: str = "") -> str:
        return self.sheet.op("Floor", self.sheet.op("Div", value, self.sheet.number(float(divisor), REAL)), out=out)

    def _clip(self, value: str, low: int, high: int, out: str = "") -> str:
        bounds = (self.sheet.number(float(bound), REAL) for bound in (low, high))
        return self.sheet.op("Clip", value, *bounds, out=out)

    def _channels(self, name: str, key: str) -> str:
        """A per-channel array, shaped to meet [N, C, H, W] or [N, C]."""
        array: npt.NDArray[np.int32] = self.weights[f"{name}.{key}"]
        ones = (1,) * (len(self.graph.shapes[name]) - 1)
        return self.sheet.constant(f"{name}.{key}", array.astype(REAL).reshape(1, -1, *ones))


def largest(graph: Graph, name: str) -> int:
    """A bound on the magnitude of a node's integer values."""
    layer = graph[name]
    sources = [edge.source for edge in graph.sources[name]]
    if isinstance(layer, Input):
        return 128
    if isinstance(layer, Lif):
        return 1
    if graph.kinds[name] is Kind.CURRENT and not in_accumulator(graph, name):
        return -CURRENT_MIN
    if isinstance(layer, AvgPool2d) and graph.kinds[name] is not Kind.CURRENT:
        return prod(layer.kernel_size) * largest(graph, sources[0])
    if isinstance(layer, Add) and not any(edge.delay for edge in graph.sources[name]):
        return sum(largest(graph, source) for source in sources)
    return EXACT if isinstance(layer, Add | Conv2d | Linear | Vote) else largest(graph, sources[0])


def _need_exact(name: str, bound: int) -> None:
    if bound >= EXACT:
        raise QuantizeError(
            f"node '{name}': sums of up to {bound} are not exact in float32 (2**24): quantize it to fewer weight bits"
        )
