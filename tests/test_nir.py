"""NIR files: the same spikes in the simulators that load them, other frameworks' files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_deploy import EMBEDDED, SNASNET, float_model, graph_of, images_for

from spikenas import reference
from spikenas.deploy.float_fold import fold_into_convolutions
from spikenas.deploy.nir_format import import_nir, read_nir, write_nir
from spikenas.errors import GraphError, InputError, ModelError
from spikenas.graph import (
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
)
from spikenas.model import Model
from spikenas.snn.quantize import quantize

nir = pytest.importorskip("nir")
GENOTYPES = [*SNASNET, *EMBEDDED]


def real(images: Any) -> Any:
    return (images.astype(np.float32) - 128) / 128


# --- there and back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_what_is_written_is_read_back(genotype: str, tmp_path: Path) -> None:
    model = float_model(graph_of(genotype))
    images = images_for(model.graph)
    write_nir(model, tmp_path / "net.nir")
    imported = import_nir(tmp_path / "net.nir")
    folded = fold_into_convolutions(model)
    assert imported.assumed == ()
    assert imported.model.graph.layers.keys() >= {n for n, layer in folded.graph.layers.items() if is_kept(layer)}
    assert imported.model.graph.parameter_count == folded.graph.parameter_count
    expected, found = reference.run(folded, images), reference.run(imported.model, images)
    spiking = [name for name, layer in model.graph.layers.items() if isinstance(layer, Lif)]
    for name in spiking:
        assert model.graph[name] == imported.model.graph[name]
        np.testing.assert_array_equal(expected.values[name], found.values[name])
    np.testing.assert_allclose(found.outputs, expected.outputs, atol=1e-6)
    assert np.mean([expected.values[name].mean() for name in spiking]) > 0.02


def is_kept(layer: Any) -> bool:
    return isinstance(layer, Lif | Conv2d | Linear | AvgPool2d | Flatten)


@pytest.mark.parametrize("genotype", [SNASNET[0], EMBEDDED[1]])
def test_an_imported_network_becomes_the_same_integers(genotype: str, tmp_path: Path) -> None:
    model = float_model(graph_of(genotype))
    images = images_for(model.graph, 16)
    write_nir(model, tmp_path / "net.nir")
    integer = quantize(read_nir(tmp_path / "net.nir"), images)
    expected = reference.run(quantize(model, images), images).outputs
    np.testing.assert_array_equal(reference.run(integer, images).outputs, expected)


def test_folding_keeps_the_function() -> None:
    model = float_model(graph_of(SNASNET[0]))
    images = images_for(model.graph)
    folded = fold_into_convolutions(model)
    norms = [name for name, layer in folded.graph.layers.items() if isinstance(layer, BatchNorm2d)]
    assert norms == ["cell1_out", "cell2_out"]  # they follow sums
    before, after = reference.run(model, images), reference.run(folded, images)
    for name in folded.graph.layers.keys() - {"stem_conv", "reduce_conv"} - {n for n in before.values if "_conv" in n}:
        np.testing.assert_allclose(after.values[name], before.values[name], atol=1e-5, err_msg=name)


def test_metadata_says_what_nir_cannot(tmp_path: Path) -> None:
    model = float_model(chain(Conv2d(4, bias=True), Lif(decay=0.75, gain=0.25, reset=Reset.SUBTRACT)))
    notes = write_nir(model, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    assert graph.metadata["timesteps"] == 4
    assert graph.metadata["dt"] == 1e-4
    assert graph.metadata["reset"] == "subtract"
    assert "seconds" in graph.metadata["units"]
    assert "same image" in graph.metadata["input"]
    assert ">=" in graph.metadata["ties"]
    neuron = graph.nodes["l1"]
    np.testing.assert_allclose(1 - 1e-4 / neuron.tau, 0.75, rtol=1e-12)
    np.testing.assert_allclose(neuron.r * 1e-4 / neuron.tau, 0.25, rtol=1e-12)
    assert np.float32(neuron.v_threshold.flat[0]) == np.nextafter(np.float32(1), np.float32(0))
    assert len(notes) == 1
    assert "'l1'" in notes[0]
    assert read_nir(tmp_path / "net.nir").graph["l1"] == model.graph["l1"]
    with pytest.raises(ModelError, match="export the float model"):
        write_nir(quantize(model, images_for(model.graph, 8)), tmp_path / "net.nir")  # type: ignore[arg-type]


# --- in real simulators --------------------------------------------------------------------------------------


def spikingjelly(path: Path) -> Any:
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    pytest.importorskip("nirtorch")
    return exchange.import_from_nir(str(path))


def snntorch(path: Path) -> Any:
    module = pytest.importorskip("snntorch.import_nir")
    pytest.importorskip("nirtorch")
    return module.import_from_nir(nir.read(path))


SIMULATORS = [spikingjelly, snntorch]


def simulate(network: Any, inputs: Any, timesteps: int, watch: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """(mean output, spikes [T, N, ...] of each watched node) under torch."""
    import torch

    torch.set_num_threads(1)
    seen: dict[str, list[Any]] = {name: [] for name in watch}
    modules = dict(network.named_modules())
    for name, key in watch.items():

        def keep(module: Any, _: Any, output: Any, name: str = name) -> None:
            seen[name].append((output[0] if isinstance(output, tuple) else output).numpy().copy())

        modules[key].register_forward_hook(keep)
    state, outputs = None, []
    with torch.no_grad():
        for _ in range(timesteps):
            output, state = network(torch.from_numpy(inputs), state)
            outputs.append(output.numpy())
    return np.mean(outputs, axis=0), {name: np.stack(steps) for name, steps in seen.items()}


def watch_list(graph: Graph, path: Path) -> dict[str, str]:
    """The neurons' names here and in the file."""
    nodes = nir.read(path).nodes
    names = {node.metadata["name"]: key for key, node in nodes.items() if "name" in node.metadata}
    return {name: names[name] for name, layer in graph.layers.items() if isinstance(layer, Lif)}


@pytest.mark.parametrize("load", SIMULATORS)
@pytest.mark.parametrize("genotype", GENOTYPES)
def test_every_layer_spikes_alike_in_a_simulator(
    genotype: str, load: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = float_model(graph_of(genotype))
    images = images_for(model.graph)
    assert write_nir(model, tmp_path / "net.nir") == ()
    watch = watch_list(model.graph, tmp_path / "net.nir")
    outputs, spikes = simulate(load(tmp_path / "net.nir"), real(images), model.graph.timesteps, watch)
    trace = reference.run(model, images)
    for name, found in spikes.items():
        np.testing.assert_array_equal(found, trace.values[name], err_msg=name)
    np.testing.assert_allclose(outputs, trace.outputs, atol=1e-6)


def tied() -> tuple[Model, Any]:
    """A network of halves and quarters, whose membranes often equal the threshold."""
    graph = chain(Conv2d(4, bias=True), Lif(), Conv2d(4, bias=True), Lif())
    rng = np.random.default_rng(0)
    weights = {key: rng.integers(-4, 5, array.shape) / 4 for key, array in float_model(graph).weights.items()}
    model = Model(graph, {key: array.astype(np.float32) for key, array in weights.items()})
    return model, (rng.integers(0, 5, (4, 2, 8, 8)) * 63).astype(np.uint8) // 63 * 32 + 64


@pytest.mark.parametrize("load", SIMULATORS)
def test_ties_fire_as_here_and_would_not_without_the_nudge(
    load: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images = tied()
    path = tmp_path / "net.nir"
    write_nir(model, path)
    spikes = reference.run(model, images).values
    watch = watch_list(model.graph, path)
    _, found = simulate(load(path), real(images), 4, watch)
    assert all((found[name] == spikes[name]).all() for name in watch)
    graph = nir.read(path)
    for name in watch.values():
        graph.nodes[name].v_threshold[:] = 1.0
    nir.write(path, graph)
    _, unnudged = simulate(load(path), real(images), 4, watch)
    same = all((unnudged[name] == spikes[name]).all() for name in watch)
    assert same == (load is spikingjelly)  # it fires at the threshold too


def test_spikingjellys_own_export_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    sj = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    pytest.importorskip("nirtorch")
    from spikingjelly.activation_based import functional, layer, neuron

    class Skip(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = layer.Conv2d(2, 4, 3, padding=1, bias=False)
            self.lif1 = neuron.LIFNode(tau=4 / 3, v_reset=0.0)
            self.conv2 = layer.Conv2d(4, 4, 3, padding=1)
            self.pool = layer.AvgPool2d(2, 2)
            self.if1 = neuron.IFNode(v_threshold=0.4, v_reset=0.0)
            self.flat = layer.Flatten()
            self.fc = layer.Linear(64, 5)

        def forward(self, x: Any) -> Any:
            s = self.lif1(self.conv1(x))
            return self.fc(self.flat(self.if1(self.pool(self.conv2(s) + s))))

    torch.manual_seed(3)
    network = Skip()
    images = images_for(chain(Conv2d(4)), 4)
    with torch.no_grad():
        sj.export_to_nir(network, torch.zeros(1, 2, 8, 8), save_path=tmp_path / "sj.nir")
        functional.reset_net(network)
        steps = [network(torch.from_numpy(real(images))).numpy() for _ in range(6)]
    imported = import_nir(tmp_path / "sj.nir", timesteps=6, at_threshold=True)
    assert imported.model.graph["lif1"] == Lif(decay=0.25, gain=0.75)
    assert isinstance(neuron_ := imported.model.graph["if1"], Lif)
    assert (neuron_.decay, neuron_.gain) == (1, 1)
    assert any("dt" in sentence for sentence in imported.assumed)
    found = reference.run(imported.model, images)
    assert found.values["if1"].mean() > 0.02
    np.testing.assert_allclose(found.outputs, np.mean(steps, axis=0), atol=1e-6)


@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph")
def test_snntorchs_own_export_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    snn = pytest.importorskip("snntorch")
    export = pytest.importorskip("snntorch.export_nir")
    torch.manual_seed(1)
    leaky = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        snn.Leaky(beta=torch.full((4, 8, 8), 0.8), threshold=torch.full((4, 8, 8), 0.3), **leaky),
        torch.nn.AvgPool2d(2, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 5),
        snn.Leaky(beta=torch.full((5,), 0.5), threshold=torch.full((5,), 0.2), output=True, **leaky),
    )
    images = images_for(chain(Conv2d(4)), 4)
    inputs = torch.from_numpy(real(images))
    with torch.no_grad():
        network[1].reset_mem()
        network[5].reset_mem()
        spikes = np.mean([network(inputs)[0].numpy() for _ in range(6)], axis=0)
        nir.write(tmp_path / "snn.nir", export.export_to_nir(network, inputs[:1], ignore_dims=[0]))
    model = read_nir(tmp_path / "snn.nir", timesteps=6)
    neurons = [layer for layer in model.graph.layers.values() if isinstance(layer, Lif)]
    assert [(neuron.decay, neuron.gain) for neuron in neurons] == [(0.8, 1.0), (0.5, 1.0)]
    found = reference.run(model, images).outputs
    assert 0.05 < found.mean() < 0.95
    np.testing.assert_allclose(found, spikes, atol=1e-6)


# --- by hand -------------------------------------------------------------------------------------------------


def chain(*layers: Any) -> Graph:
    """image (2, 8, 8) -> l0 -> l1 -> ... -> flat -> fc of 3, 4 timesteps."""
    builder = GraphBuilder()
    value = builder.add(Input((2, 8, 8)), name="image")
    for place, layer in enumerate(layers):
        value = builder.add(layer, value, name=f"l{place}")
    value = builder.add(Linear(3), builder.add(Flatten(), value, name="flat"), name="fc")
    builder.add(Output(), builder.add(Mean(), value, name="mean"), name="out")
    return builder.build(4)


def lif(*shape: int, tau: float = 2e-4, r: float = 2.0, threshold: float = 1.0, **other: float) -> Any:
    full = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": threshold, "v_reset": 0.0, **other}
    return nir.LIF(**{key: np.full(shape, value) for key, value in full.items()})


def conv(weight: Any, padding: Any = 0, stride: int = 1, dilation: int = 1, groups: int = 1) -> Any:
    return nir.Conv2d((8, 8), weight, stride, padding, dilation, groups, np.zeros(len(weight)))


def saved(path: Path, nodes: dict[str, Any], edges: list[tuple[str, str]] | None = None, size: Any = (2, 8, 8)) -> Path:
    """A file of ``nodes`` between an Input and an Output, by default in a row, as a foreign tool may write it."""
    every = {"input": nir.Input(np.array(size)), **nodes, "output": nir.Output(np.array([1]))}
    names = list(every)
    row = list(pairwise(names))
    graph = nir.NIRGraph(every, row if edges is None else edges, type_check=False)
    nir.write(path / "hand.nir", graph)
    return path / "hand.nir"


def test_sum_pool_scale_same_and_dilation_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(4, 3, 2, 2))
    scale, matrix = np.array([1.0, -2.0, 0.5]), rng.normal(size=(2, 4))
    nodes = {
        "conv": conv(first, "same"),
        "scale": nir.Scale(scale.reshape(3, 1, 1)),
        "lif": lif(3, 8, 8, threshold=0.8),
        "sum": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "wide": conv(second, "valid", dilation=3),
        "flat": nir.Flatten({"input": np.array([4, 1, 1])}, 0, -1),
        "fc": nir.Linear(matrix),
    }
    path = saved(tmp_path, nodes, size=(2, 8, 8))
    model = read_nir(path, timesteps=1)
    images = images_for(model.graph, 2)
    import torch
    from torch.nn.functional import conv2d

    def by_torch(weight: Any, value: Any, **options: Any) -> Any:
        return conv2d(torch.from_numpy(value), torch.from_numpy(weight), **options).numpy()

    current = by_torch(first, (images - 128.0) / 128, padding=1) * scale.reshape(3, 1, 1)
    spikes = (current > 0.8).astype(float)
    sums = spikes.reshape(2, 3, 4, 2, 4, 2).sum(axis=(3, 5))
    assert sums.max() > 1
    maps = by_torch(second, sums, dilation=3)
    assert maps.shape == (2, 4, 1, 1)
    np.testing.assert_allclose(reference.run(model, images).outputs, maps.reshape(2, 4) @ matrix.T, atol=1e-5)


def test_a_neuron_at_its_threshold_stays_silent_as_nir_says(tmp_path: Path) -> None:
    nodes = {"conv": conv(np.full((1, 1, 1, 1), 2.0)), "lif": lif(1, 1, 1)}
    path = saved(tmp_path, nodes, size=(1, 1, 1))
    at = np.full((1, 1, 1, 1), 192, np.uint8)  # 2 * 0.5, equal to the threshold; after it 1.5
    assert reference.run(read_nir(path, timesteps=1), at).outputs == 0
    assert reference.run(read_nir(path, timesteps=1, at_threshold=True), at).outputs == 1
    assert reference.run(read_nir(path, timesteps=2), at).outputs == 0.5


def test_a_recurrent_subgraph_brings_the_step_before(tmp_path: Path) -> None:
    weights, recurrent = np.array([[0.4, 0.0], [0.0, 1.2]]), np.array([[0.0, 0.9], [-1.0, 0.3]])
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([2])),
            "lif": lif(2),
            "w_rec": nir.Affine(recurrent, np.array([0.1, 0.2])),
            "output": nir.Output(np.array([2])),
        },
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    path = saved(tmp_path, {"fc": nir.Linear(weights), "rnn": inner}, size=(2,))
    model = read_nir(path, timesteps=8)
    pixels = np.array([[255, 255]], np.uint8)
    membrane, back, fired = np.zeros(2), np.zeros(2), []
    for _ in range(8):
        membrane = 0.5 * membrane + weights @ ((pixels[0] - 128.0) / 128) + back
        spikes = membrane > 1
        membrane = np.where(spikes, 0, membrane)
        back = recurrent @ spikes + [0.1, 0.2]
        fired.append(spikes)
    assert 0 < np.mean(fired) < 1
    np.testing.assert_array_equal(reference.run(model, pixels).values["rnn.lif"][:, 0], np.array(fired))


def test_delay_nodes_and_dense_depthwise_kernels(tmp_path: Path) -> None:
    kernel = np.zeros((2, 2, 3, 3))
    kernel[[0, 1], [0, 1]] = np.random.default_rng(0).normal(size=(2, 3, 3))
    nodes = {
        "dense": conv(kernel, 1),
        "lif": lif(2, 8, 8, threshold=0.5),
        "delay": nir.Delay(np.full((2, 8, 8), 1e-4)),
        "after": lif(2, 8, 8, tau=1e-4, r=1.0, threshold=0.5),
    }
    edges = [("input", "dense"), ("dense", "lif"), ("lif", "delay"), ("delay", "after"), ("lif", "after")]
    model = read_nir(saved(tmp_path, nodes, [*edges, ("after", "output")]))
    assert model.graph["dense"] == Conv2d(2, groups=2)
    trace = reference.run(model, images_for(model.graph))
    before = np.concatenate([np.zeros_like(trace.values["lif"][:1]), trace.values["lif"][:-1]])
    assert (before != trace.values["lif"]).any()
    np.testing.assert_array_equal(trace.values["after"], np.maximum(before, trace.values["lif"]))


# --- refused -------------------------------------------------------------------------------------------------

KERNEL = np.ones((3, 2, 3, 3))
ROW = {"conv": conv(KERNEL, 1), "lif": lif(3, 8, 8), "end": lif(3, 8, 8)}
CYCLE = [("input", "conv"), ("conv", "lif"), ("lif", "end"), ("end", "output")]
CUBA = nir.CubaLIF(*(np.full((3, 8, 8), 1.0) for _ in range(5)))
REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "CubaLIF": ({**ROW, "lif": CUBA}, None, r"node 'lif' is a CubaLIF, .* use .*LIF"),
    "Conv1d": ({"c1": nir.Conv1d(8, np.ones((1, 2, 3)), 1, 0, 1, 1, np.zeros(1))}, None, "node 'c1' is a Conv1d"),
    "cycle": (
        {"a": conv(np.ones((2, 2, 3, 3)), 1), "b": conv(np.ones((2, 2, 3, 3)), 1)},
        [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")],
        r"nodes a -> b -> a are a cycle without neuron or delay: put a LIF or a Delay",
    ),
    "channels": ({"c": conv(np.ones((3, 5, 3, 3)), 1)}, None, r"'c' \(Conv2d\) has kernel \(3, 5, 3, 3\).*\(2, 8, 8\)"),
    "features": (
        {"fc": nir.Linear(np.ones((3, 5)))},
        None,
        r"node 'fc' \(Linear\) has weight \(3, 5\), .* from 'input'",
    ),
    "neurons": ({**ROW, "lif": lif(3, 7, 8)}, None, r"node 'lif' \(LIF\) has tau \(3, 7, 8\)"),
    "dilation": ({"c": conv(KERNEL, 1, dilation=10**9)}, None, r"node 'c' .*dilation \(1000000000, 1000000000\)"),
    "window": ({"c": conv(np.ones((1, 2, 9, 9)))}, None, r"node 'c' .* does not fit shape \(2, 8, 8\)"),
    "sum": ({**ROW, "end": lif(2, 8, 8)}, [*CYCLE, ("input", "end")], r"'end' adds different shapes \(lif"),
    "leak": ({**ROW, "lif": lif(3, 8, 8, v_leak=0.5)}, None, "node 'lif': v_leak is 0.5, only 0 is known"),
    "reset": ({**ROW, "lif": lif(3, 8, 8, v_reset=-1.0)}, None, "node 'lif': v_reset is -1"),
    "fast": ({**ROW, "lif": lif(3, 8, 8, tau=1e-5)}, None, r"tau is 1e-05 s, shorter than a step of 0.0001 s: .* dt"),
    "long delay": (
        {**ROW, "end": nir.Delay(np.full((3, 8, 8), 1e-2))},
        None,
        r"node 'end' delays by 0.01 s: a delay is 0 or one step",
    ),
    "nothing after": (ROW, [*CYCLE[:2], ("conv", "end"), ("end", "output")], "node 'lif' feeds nothing"),
    "nothing before": (ROW, [("input", "conv"), ("conv", "end"), *CYCLE[2:]], "node 'lif' gets nothing from the Input"),
    "two outputs": ({**ROW, "out2": nir.Output(np.array([1]))}, CYCLE, r"2 Output nodes \(out2, output\)"),
    "not finite": ({**ROW, "conv": conv(KERNEL * np.nan, 1)}, None, "node 'conv' .*'weight' holds values that are not"),
    "threshold": ({**ROW, "lif": lif(3, 8, 8, threshold=-1.0)}, None, "node 'lif': threshold is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_node_in_one_line(case: str, tmp_path: Path) -> None:
    nodes, edges, message = REFUSED[case]
    with pytest.raises(GraphError, match=message) as caught:
        read_nir(saved(tmp_path, nodes, edges))
    assert "\n" not in str(caught.value)


def test_neurons_that_differ_are_refused(tmp_path: Path) -> None:
    mixed = lif(3, 8, 8)
    mixed.tau[0] *= 2
    with pytest.raises(GraphError, match="node 'lif': tau differs between neurons"):
        read_nir(saved(tmp_path, {**ROW, "lif": mixed}))


def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    model = float_model(graph_of(EMBEDDED[1]))
    path = tmp_path / "net.nir"
    write_nir(model, path)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_nir(path)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path) -> None:
    write_nir(float_model(graph_of(EMBEDDED[1])), path := tmp_path / "net.nir")
    whole, rng, lines = path.read_bytes(), np.random.default_rng(0), list[str]()
    for _ in range(80):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(data))
        try:
            read_nir(path)
        except InputError as error:
            lines.append(str(error))
    assert len(lines) > 10
    assert not [line for line in lines if "\n" in line]


def test_a_group_that_contains_itself_ends(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    write_nir(float_model(graph_of(EMBEDDED[1])), path := tmp_path / "net.nir")
    with h5py.File(path, "a") as file:
        file["node/nodes/again"] = file["node/nodes/twice"] = file["node"]
    with pytest.raises(ModelError, match="contains itself"):
        read_nir(path)


@pytest.mark.parametrize("content", [b"", b"not HDF5", None])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=str(path)):
        read_nir(path)


def test_a_stale_metadata_loses_against_the_arrays(tmp_path: Path) -> None:
    write_nir(float_model(chain(Conv2d(4, bias=True), Lif(decay=0.5))), path := tmp_path / "net.nir")
    graph = nir.read(path)
    graph.nodes["l1"].tau[:] = 4e-4
    graph.nodes["l1"].r[:] = 4.0
    nir.write(path, graph)
    assert read_nir(path).graph["l1"] == Lif(decay=0.75)


def test_a_delayed_edge_beside_a_cycle_is_a_delay_node(tmp_path: Path) -> None:
    model = float_model(graph_of("0103 0030 3000 0020/p2"))
    notes = write_nir(model, path := tmp_path / "net.nir")
    assert "is a Delay" in notes[0]
    assert json.loads(nir.read(path).metadata["delayed_edges"])
    images = images_for(model.graph)
    np.testing.assert_array_equal(reference.run(read_nir(path), images).outputs, reference.run(model, images).outputs)
