"""ONNX: the network unrolled over its timesteps, for onnxruntime and whatever else reads the format.

The file takes the pixels themselves, ``image`` uint8 [N, C, H, W] ([N, T, C, H, W] for frames), and gives ``logits``
float32 [N, classes]; an integer model gives ``integers`` int32 as well, the sums that the chip computes. The value of
layer ``x`` at step ``t`` is called ``x@t`` (``x@0`` alone where it is the same at every step). Mirror images, where the
network looks at them, follow the images in the batch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spikenas.deploy.onnx_float import FloatLayers
from spikenas.deploy.onnx_integer import IntegerLayers
from spikenas.deploy.onnx_sheet import IR_VERSION, OPSET, Sheet
from spikenas.graph import Edge, Graph, Input, Layer, Lif, Mean, Output
from spikenas.model import IntegerModel, Model


def write_onnx(model: Model | IntegerModel, path: Path) -> None:
    """Write ``model`` as one feed-forward ONNX graph, opset 17.

    A float model agrees with :func:`spikenas.reference.run` within float32 (a spike may differ where a membrane is
    that close to its threshold), an integer model exactly: int8 weights behind DequantizeLinear, integers throughout.

    Raises QuantizeError when an integer sum leaves float32's exact range, MissingTool without the package onnx.
    """
    sheet = Sheet()
    layers: _Layers = IntegerLayers(sheet, model) if isinstance(model, IntegerModel) else FloatLayers(sheet, model)
    result = _unroll(model.graph, sheet, layers)
    outputs = _outputs(sheet, model, result)
    _save(sheet, _model(sheet, model.graph, outputs), Path(path))


class _Layers(Protocol):
    def image(self, pixels: str, out: str) -> str: ...
    def neuron(self, name: str, layer: Lif, membrane: str | None, x: str, out: str) -> tuple[str, str]: ...
    def layer(self, name: str, layer: Layer, inputs: list[str], out: str) -> str: ...
    def mean(self, steps: list[str], timesteps: int, out: str) -> str: ...


def _unroll(graph: Graph, sheet: Sheet, layers: _Layers) -> str:
    """The name of the mean over time (integer: the sum)."""
    values: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    membranes: dict[str, str] = {}
    for t in range(graph.timesteps):
        for node in graph.nodes:
            if isinstance(node.layer, Mean | Output) or (t and node.name in graph.static):
                continue
            out = f"{node.name}@{t}"
            if isinstance(node.layer, Input):
                value = layers.image(_pixels(sheet, node.layer, t), out)
            else:
                present = [name for edge in graph.sources[node.name] if (name := _value(values, edge, t))]
                if isinstance(node.layer, Lif):
                    before = membranes.get(node.name)
                    value, membranes[node.name] = layers.neuron(node.name, node.layer, before, present[0], out)
                else:
                    value = layers.layer(node.name, node.layer, present, out)
            values[node.name].append(value)
    mean = graph.sources[graph.output][0].source
    steps = values[graph.sources[mean][0].source]
    if graph.views > 1:
        steps = [view for step in steps for view in _split(sheet, step, graph.shapes[mean])]
    return layers.mean(steps, graph.inference_steps, mean)


def _pixels(sheet: Sheet, layer: Input, t: int) -> str:
    """The image, behind it in the same batch its mirror image where the Input is mirrored; or the frame of step t."""
    if not layer.static:
        return sheet.op("Gather", "image", sheet.number(t, np.int64), axis=1)
    if not layer.mirrored:
        return "image"
    columns = sheet.integers(*reversed(range(layer.shape[2])))
    return sheet.op("Concat", "image", sheet.op("Gather", "image", columns, axis=3), axis=0)


def _split(sheet: Sheet, value: str, shape: tuple[int, ...]) -> list[str]:
    """The two halves of a batch."""
    halves = sheet.op("Reshape", value, sheet.integers(2, -1, *shape))
    return [sheet.op("Gather", halves, sheet.number(half, np.int64), axis=0) for half in range(2)]


def _value(values: dict[str, list[str]], edge: Edge, t: int) -> str | None:
    """What an edge brings at step ``t``; nothing comes out of a delay at the first."""
    if edge.delay and not t:
        return None
    steps = values[edge.source]
    return steps[min(t - edge.delay, len(steps) - 1)]


def _outputs(sheet: Sheet, model: Model | IntegerModel, result: str) -> list[Any]:
    describe, kinds = sheet.onnx.helper.make_tensor_value_info, sheet.onnx.TensorProto
    shape = ["N", *model.graph.shapes[model.graph.output]]
    if isinstance(model, IntegerModel):
        sheet.cast(result, np.int32, out="integers")
        scaled = sheet.op("Mul", result, sheet.number(model.output_scale, np.float64))
        sheet.cast(scaled, np.float32, out="logits")
        return [describe("logits", kinds.FLOAT, shape), describe("integers", kinds.INT32, shape)]
    sheet.op("Identity", result, out="logits")
    return [describe("logits", kinds.FLOAT, shape)]


def _model(sheet: Sheet, graph: Graph, outputs: list[Any]) -> Any:
    helper, layer = sheet.onnx.helper, graph[graph.input]
    assert isinstance(layer, Input)
    shape = ["N", *(() if layer.static else (graph.timesteps,)), *layer.shape]
    image = helper.make_tensor_value_info("image", sheet.onnx.TensorProto.UINT8, shape)
    body = helper.make_graph(sheet.nodes, "spikenas", [image], outputs, list(sheet.constants.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="spikenas")
    model.ir_version = IR_VERSION
    sheet.onnx.checker.check_model(model)
    return model


def _save(sheet: Sheet, model: Any, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        sheet.onnx.save(model, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
