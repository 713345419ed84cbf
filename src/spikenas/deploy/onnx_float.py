"""What each layer is in ONNX, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikenas.deploy.onnx_sheet import Sheet
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Layer,
    Lif,
    Linear,
    Reset,
    Vote,
)
from spikenas.model import Model

REAL = np.float32


class FloatLayers:
    """The layers of a float model; every method adds operations to the sheet and names the result ``out``."""

    def __init__(self, sheet: Sheet, model: Model) -> None:
        self.sheet, self.graph = sheet, model.graph
        self.weights = {name: np.asarray(array, REAL) for name, array in model.weights.items()}

    def image(self, pixels: str, out: str) -> str:
        """``(pixel - 128) / 128``, exact."""
        sheet = self.sheet
        shifted = sheet.op("Sub", sheet.cast(pixels, REAL), sheet.number(128.0, REAL))
        return sheet.op("Div", shifted, sheet.number(128.0, REAL), out=out)

    def neuron(self, name: str, layer: Lif, membrane: str | None, x: str, out: str) -> tuple[str, str]:
        """(spikes, membrane after the reset)."""
        sheet = self.sheet
        u = x if layer.gain == 1 else sheet.op("Mul", x, sheet.number(layer.gain, REAL))
        if membrane is not None and layer.decay:
            kept = sheet.op("Mul", membrane, sheet.number(layer.decay, REAL))
            u = sheet.op("Add", kept, u)
        threshold = sheet.number(layer.threshold, REAL)
        return fire(sheet, layer, u, threshold, REAL, out)

    def layer(self, name: str, layer: Layer, inputs: list[str], out: str) -> str:
        sheet, x = self.sheet, inputs[0]
        match layer:
            case Conv2d():
                parameters = [self._weight(name, key) for key in ("weight", "bias")[: 1 + layer.bias]]
                return sheet.op("Conv", x, *parameters, out=out, **windows(layer), group=layer.groups)
            case Linear():
                parameters = [self._weight(name, key) for key in ("weight", "bias")[: 1 + layer.bias]]
                return sheet.op("Gemm", x, *parameters, out=out, transB=1)
            case BatchNorm2d():
                keys = ("weight", "bias", "running_mean", "running_var")
                parameters = [self._weight(name, key) for key in keys]
                return sheet.op("BatchNormalization", x, *parameters, out=out, epsilon=layer.eps)
            case AvgPool2d():
                return sheet.op("AveragePool", x, out=out, **windows(layer), count_include_pad=1)
            case Vote():
                groups = sheet.op("Reshape", x, sheet.integers(0, -1, layer.group))
                return sheet.op("ReduceMean", groups, out=out, axes=[2], keepdims=0)
            case _:
                return structural(sheet, layer, inputs, out)

    def mean(self, steps: list[str], timesteps: int, out: str) -> str:
        if len(steps) == 1:
            return self.sheet.op("Identity", steps[0], out=out)
        return self.sheet.op("Div", self.sheet.total(steps), self.sheet.number(float(len(steps)), REAL), out=out)

    def _weight(self, name: str, key: str) -> str:
        return self.sheet.constant(f"{name}.{key}", self.weights[f"{name}.{key}"])


def fire(sheet: Sheet, layer: Lif, u: str, threshold: str, dtype: type[np.generic], out: str) -> tuple[str, str]:
    """(spikes, membrane after the reset) of the membrane ``u`` before it."""
    fires = sheet.op("GreaterOrEqual", u, threshold)
    spikes = sheet.cast(fires, dtype, out=out)
    if layer.reset is Reset.ZERO:
        return spikes, sheet.op("Where", fires, sheet.number(0.0, dtype), u)
    return spikes, sheet.op("Sub", u, sheet.op("Mul", spikes, threshold))


def windows(layer: Conv2d | AvgPool2d) -> dict[str, Any]:
    """The attributes of a window that slides."""
    return {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": layer.padding * 2}


def structural(sheet: Sheet, layer: Layer, inputs: list[str], out: str) -> str:
    match layer:
        case Add():
            return sheet.total(inputs, out=out)
        case Flatten():
            return sheet.op("Flatten", inputs[0], out=out, axis=1)
        case _:
            raise NotImplementedError(f"ONNX has no rule for {type(layer).__name__}")
