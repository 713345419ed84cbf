"""ONNX files against the numpy reference, executed by onnxruntime, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_deploy import EMBEDDED, SNASNET, float_model, graph_of, images_for, integer_model

from spikenas import reference
from spikenas.deploy.onnx_format import write_onnx
from spikenas.errors import QuantizeError
from spikenas.graph import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Kind,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session(source: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def execute(path: Path, images: Any, watch: list[str]) -> Mapping[str, Any]:
    """Outputs of the file as it is, and the values called ``watch`` of a copy that gives them out."""
    loaded = onnx.load(path)
    loaded.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in watch)
    found = {}
    for source in (loaded.SerializeToString(), str(path)):
        run = session(source)
        found |= dict(zip([output.name for output in run.get_outputs()], run.run(None, {"image": images}), strict=True))
    return found


def watched(trace: reference.Trace, graph: Graph) -> dict[str, Any]:
    """The reference's values by the names they have in the file."""
    inner = {name: steps for name, steps in trace.values.items() if not isinstance(graph[name], Mean | Output)}
    return {f"{name}@{t}": value for name, steps in inner.items() for t, value in enumerate(steps)}


@pytest.mark.parametrize("genotype", [*SNASNET, *EMBEDDED])
def test_float_values_agree_in_every_layer_and_step(genotype: str, tmp_path: Path) -> None:
    model = float_model(graph_of(genotype))
    images = images_for(model.graph)
    trace = reference.run(model, images)
    write_onnx(model, tmp_path / "net.onnx")
    expected = watched(trace, model.graph)
    found = execute(tmp_path / "net.onnx", images, list(expected))
    for name, value in expected.items():
        exact = model.graph.kinds[name.partition("@")[0]] is Kind.SPIKES
        np.testing.assert_allclose(found[name], value, rtol=0, atol=0 if exact else 1e-5, err_msg=name)
    np.testing.assert_allclose(found["logits"], trace.outputs, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("genotype", [*SNASNET, *EMBEDDED])
def test_integer_values_are_equal_in_every_layer_and_step(genotype: str, seed: int, tmp_path: Path) -> None:
    model = integer_model(graph_of(genotype), seed)
    images = images_for(model.graph, seed=seed)
    trace = reference.run(model, images)
    assert len(np.unique(trace.outputs)) > 1
    write_onnx(model, tmp_path / "net.onnx")
    expected = watched(trace, model.graph)
    found = execute(tmp_path / "net.onnx", images, list(expected))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    np.testing.assert_array_equal(found["integers"], trace.outputs)
    np.testing.assert_allclose(found["logits"], trace.outputs * 0.01, rtol=1e-6)


def small(**lif: Any) -> Graph:
    """Frames, a soft reset or what ``lif`` says, and every window off centre."""
    add = (builder := GraphBuilder()).add
    image = add(Input((2, 7, 6), static=False), name="image")
    conv = Conv2d(4, (3, 2), (2, 1), (1, 0), groups=2, bias=True)
    spikes = add(Lif(**lif), add(conv, image, name="conv"), name="lif")
    pooled = add(AvgPool2d((2, 3), (1, 2), (1, 0)), spikes, name="pool")
    logits = add(Linear(3), add(Flatten(), pooled, name="flat"), name="fc")
    add(Output(), add(Mean(), logits, name="mean"), name="out")
    return builder.build(4)


@pytest.mark.parametrize(
    "lif",
    [
        {"reset": Reset.SUBTRACT, "decay": 0.75, "gain": 0.25, "threshold": 0.3},
        {"decay": 1.0, "membrane_bits": 32},
        {"decay": 0.0},
    ],
)
def test_frames_and_every_kind_of_neuron(lif: dict[str, Any], tmp_path: Path) -> None:
    graph = small(**lif)
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 2, 7, 6), dtype=np.uint8)
    for model, result in ((float_model(graph), "logits"), (integer_model(graph), "integers")):
        write_onnx(model, tmp_path / "net.onnx")
        trace = reference.run(model, images)
        assert 0.02 < trace.values["lif"].mean() < 0.98
        found = execute(tmp_path / "net.onnx", images, ["lif@3"])
        np.testing.assert_array_equal(found["lif@3"], trace.values["lif"][3])
        np.testing.assert_allclose(found[result], trace.outputs, atol=1e-6)


def test_weights_are_int8_behind_dequantize(tmp_path: Path) -> None:
    model = integer_model(graph_of(EMBEDDED[0]))
    write_onnx(model, tmp_path / "net.onnx")
    stored = {entry.name: entry for entry in onnx.load(tmp_path / "net.onnx").graph.initializer}
    weights = [name for name in model.weights if name.endswith(".weight")]
    for name in weights:
        assert stored[name].data_type == onnx.TensorProto.INT8
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored[name]), model.weights[name])


def test_a_planted_wrong_weight_is_seen(tmp_path: Path) -> None:
    model = integer_model(graph_of(EMBEDDED[0]))
    images = images_for(model.graph)
    weight = model.weights["stem_conv.weight"].copy()
    weight[0, 0, 1, 1] += 20 if weight[0, 0, 1, 1] < 0 else -20
    write_onnx(replace(model, weights={**model.weights, "stem_conv.weight": weight}), tmp_path / "net.onnx")
    found = execute(tmp_path / "net.onnx", images, ["stem_bn_lif@0"] if "stem_bn_lif" in model.graph.layers else [])
    assert (found["integers"] != reference.run(model, images).outputs).any()


def test_sums_beyond_float32_are_refused_by_name(tmp_path: Path) -> None:
    nodes = tuple(
        Node(node.name, replace(node.layer, weight_bits=24) if isinstance(node.layer, Linear) else node.layer)
        for node in small().nodes
    )
    graph = Graph(4, nodes, small().edges)
    model = integer_model(graph)
    with pytest.raises(QuantizeError, match=r"node 'fc': sums of up to \d+ are not exact in float32"):
        write_onnx(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
