"""An ONNX graph under construction: constants once, operations by name."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import MissingTool

Array = npt.NDArray[Any]
OPSET = 17
IR_VERSION = 9
"""with opset 17 read by every onnxruntime since 1.14"""


def onnx_package() -> ModuleType:
    """The package onnx. Raises MissingTool."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingTool("ONNX files need the package onnx: pip install 'spikenas[onnx]'") from error
    package: ModuleType = onnx
    return package


class Sheet:
    """Operations in the order in which they were asked for."""

    def __init__(self) -> None:
        self.onnx = onnx_package()
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, array: Array) -> str:
        """An initializer; a name that is already there is not made again."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def number(self, value: float, dtype: type[np.generic]) -> str:
        """A scalar initializer, shared between all who use the value."""
        return self.constant(f"{np.dtype(dtype).name}:{value!r}", np.array(value, dtype))

    def integers(self, *values: int) -> str:
        """An int64 vector, for shapes and axes."""
        return self.constant(f"int64:{list(values)}", np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """One operation; returns the name of its output."""
        out = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def cast(self, value: str, dtype: type[np.generic], out: str = "") -> str:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", value, to=kind, out=out)

    def total(self, values: list[str], out: str = "") -> str:
        """The sum, added from the left."""
        for place, value in enumerate(values[1:], start=1):
            values = [self.op("Add", values[0], value, out=out if place == len(values) - 1 else ""), *values[1:]]
        return values[0] if len(values) > 1 or not out else self.op("Identity", values[0], out=out)
