"""SAHD's fast, shared, integer forward pass against SNASNet's published formula, written out step by step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from spikenas.errors import InputError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Layer,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
)
from spikenas.score import integer_layers, shared_forward, untrained
from spikenas.score.hamming import hamming_scores, naswot, sahd
from spikenas.score.score import Probe
from spikenas.score.shared_forward import Plan, spike_kernels
from spikenas.score.spike_kernel import codes, gram_matrix, hamming_kernel, log_determinant, sahd_kernel
from spikenas.score.untrained import Weights
from spikenas.space.macro import Variant, lower_snasnet
from spikenas.space.space import load_space

Array = npt.NDArray[np.float64]
SMALL = Variant((8, 16), hidden=32, group=10)
IMAGES = torch.randn(18, 3, 8, 8, generator=torch.Generator().manual_seed(1))
PROBE = Probe(IMAGES, torch.zeros(18, dtype=torch.int64))


def snasnet(text: str, images: torch.Tensor = IMAGES) -> Graph:
    genotype = load_space("snasnet").parse(text)
    return lower_snasnet(genotype.cells, genotype.second_pooling, SMALL, tuple(images.shape[1:]), 10)


# --- the formula, as published ------------------------------------------------------------------------------


def published_kernel(spikes: Array) -> Array:
    """Two Gram matrices per neuron layer and step, [B, N] -> [B, B]."""
    count = spikes.shape[1]
    rate = (spikes.sum(1) / count)[:, None]
    norm = (rate @ (1 - rate.T) + (1 - rate) @ rate.T) * count
    one_zero, zero_one = spikes @ (1 - spikes).T, (1 - spikes) @ spikes.T
    kernel: Array = count - 0.5 / (norm + 1e-3) * (zero_one + one_zero)
    return kernel


def published_hamming(spikes: Array) -> Array:
    return spikes @ spikes.T + (1 - spikes) @ (1 - spikes).T


def naive_kernel(graph: Graph, images: Array, weights: Weights, kernel: Any = published_kernel) -> Array:
    """The mean kernel of a network run step by step in float64, with a neuron of its own for every edge."""
    membranes: dict[tuple[str, str], Array] = {}
    before: dict[str, Array] = {}
    total, count = np.zeros((len(images),) * 2), 0
    for t in range(graph.timesteps):
        now: dict[str, Array] = {}
        for node in graph.nodes:
            name, layer = node.name, node.layer
            if isinstance(layer, Mean | Output):
                continue
            if isinstance(layer, Input):
                now[name] = images if layer.static else images[:, t]
                continue
            parts: list[Any] = [before.get(e.source, 0.0) if e.delay else now[e.source] for e in graph.sources[name]]
            x = parts[0]
            if isinstance(layer, Lif):
                for reader in graph.consumers[name]:
                    v = membranes.get((name, reader.target), np.zeros_like(x))
                    u = layer.decay * v + layer.gain * x
                    spikes = (u >= layer.threshold).astype(float)
                    reset = u * (1 - spikes) if layer.reset is Reset.ZERO else u - layer.threshold * spikes
                    membranes[name, reader.target] = reset
                    total += kernel(spikes.reshape(len(images), -1))
                    count += 1
                now[name] = spikes
            elif isinstance(layer, Add):
                now[name] = sum(parts[1:], start=parts[0])
            else:
                now[name] = naive_layer(graph, name, x, weights)
        before = now
    return total / count


def naive_layer(graph: Graph, name: str, x: Array, weights: Weights) -> Any:
    match graph[name]:
        case Conv2d(stride=stride, padding=padding, kernel_size=size, groups=groups):
            shape = graph.parameter_shapes[f"{name}.weight"]
            grid, step = weights.convolution(name, shape)
            wide = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
            windows = sliding_window_view(wide, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
            parts = zip(np.split(windows, groups, axis=1), np.split(grid.numpy() * step, groups), strict=True)
            return np.concatenate([np.einsum("bchwij,ocij->bohw", part, w) for part, w in parts], axis=1)
        case BatchNorm2d(eps=eps):
            mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
            return (x - mean) / np.sqrt(var + eps)
        case AvgPool2d(kernel_size=size, stride=stride, padding=padding):
            wide = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
            return sliding_window_view(wide, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]].mean((-1, -2))
        case Linear():
            shape = graph.parameter_shapes[f"{name}.weight"]
            maps = graph.shapes[graph.sources[graph.sources[name][0].source][0].source]
            if len(maps) == 3:  # drawn for [H, W, C], used on [C, H, W]
                channels, height, width = maps
                grid, step = weights.linear(name, shape, (height, width, channels))
                matrix = grid.view(-1, height, width, channels).permute(0, 3, 1, 2).reshape(shape).numpy() * step
            else:
                grid, step = weights.linear(name, shape, maps)
                matrix = grid.numpy() * step
            return x @ matrix.T
        case Flatten():
            return x.reshape(len(x), -1)
        case _:
            return np.zeros((len(x), 1))  # the vote: nothing spikes behind it


FORWARD = "0333 0033 0003 0000"
CELLS = (
    FORWARD,
    "0341 0023 0002 0000",  # pooling, skip, 1x1
    "0103 0010 0003 0000/p4",  # a chain of skips: nodes 0 to 2 are one
    "0303 0030 2002 0200",  # SNASNet's published cell, with feedback
    "0343 0030 0002 0200/p4",  # feedback beside pooling
)


@pytest.mark.parametrize("text", CELLS)
def test_kernel_equals_the_published_formula(text: str) -> None:
    graph = snasnet(text)
    (fast,) = spike_kernels([graph], IMAGES, sahd_kernel, seed=3)
    slow = naive_kernel(graph, IMAGES.double().numpy(), Weights(3, torch.device("cpu")))
    assert np.abs(fast - slow).max() <= 1e-6 * np.abs(slow).max()
    # The kernel is nearly constant: what tells networks apart is its distance from N.
    ceiling = slow.max()
    assert np.allclose(ceiling - fast, ceiling - slow, rtol=0.02, atol=2e-3)
    assert log_determinant(fast) == pytest.approx(log_determinant(slow), abs=0.05)


@pytest.mark.parametrize("text", CELLS[:2])
def test_hamming_kernel_equals_the_published_formula(text: str) -> None:
    graph = snasnet(text)
    (fast,) = spike_kernels([graph], IMAGES, hamming_kernel, seed=5)
    slow = naive_kernel(graph, IMAGES.double().numpy(), Weights(5, torch.device("cpu")), published_hamming)
    assert np.abs(fast - slow).max() <= 1e-4 * np.abs(slow).max()


# --- other layers -------------------------------------------------------------------------------------------


def odd_graph(images: torch.Tensor, *, static: bool, reset: Reset) -> Graph:
    """Depthwise and strided convolutions, sums of spikes, a wide pooling, a stream of frames."""
    shape = tuple(images.shape[-3:])
    nodes = [
        Node("image", Input(shape, static=static)),
        Node("lif0", Lif(0.5, 1.0, 0.4, reset)),
        Node("deep", Conv2d(shape[0], (3, 3), groups=shape[0])),
        Node("lif1", Lif(0.75, 0.5, 0.3, reset)),
        Node("sum", Add()),
        Node("down", Conv2d(6, (2, 2), (2, 2), (0, 0))),
        Node("norm", BatchNorm2d()),
        Node("wide", AvgPool2d((3, 3), (1, 1), (1, 1))),
        Node("lif2", Lif(0.5, 1.0, 0.5, reset)),
        Node("pool", AvgPool2d((4, 4), (4, 4))),
        Node("flat", Flatten()),
        Node("fc", Linear(7, bias=False)),
        Node("lif3", Lif(0.5, 1.0, 0.2, reset)),
        Node("out_fc", Linear(3)),
        Node("mean", Mean()),
        Node("out", Output()),
    ]
    names = ["image", "lif0", "deep", "lif1", "sum", "down", "norm", "wide", "lif2", "pool", "flat", "fc", "lif3"]
    pairs = [*pairwise([*names, "out_fc", "mean", "out"]), ("lif0", "sum")]
    return Graph(4, tuple(nodes), tuple(Edge(a, b) for a, b in pairs))


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("reset", list(Reset))
def test_other_layers_equal_the_published_formula(static: bool, reset: Reset) -> None:
    generator = torch.Generator().manual_seed(2)
    images = (
        torch.randn(18, 4, 8, 8, generator=generator) if static else torch.randn(18, 4, 4, 8, 8, generator=generator)
    )
    graph = odd_graph(images, static=static, reset=reset)
    (fast,) = spike_kernels([graph], images, hamming_kernel, seed=1)
    slow = naive_kernel(graph, images.double().numpy(), Weights(1, torch.device("cpu")), published_hamming)
    assert np.abs(fast - slow).max() <= 2e-3 * np.abs(slow).max()
    assert slow.std() > 0


# --- sharing, memory, hardware ------------------------------------------------------------------------------


def some_graphs() -> list[Graph]:
    space, rng = load_space("snasnet"), np.random.default_rng(4)
    cells = [space.sample(rng).cells for _ in range(12)]
    return [lower_snasnet(pair, 2, SMALL, (3, 8, 8), 10) for pair in cells] + [snasnet(FORWARD)]


@pytest.mark.parametrize("keep_bytes", [0, 100_000, 2**30])
def test_networks_together_equal_networks_apart(keep_bytes: int) -> None:
    graphs = some_graphs()
    together = spike_kernels(graphs, IMAGES, sahd_kernel, keep_bytes=keep_bytes)
    for graph, kernel in zip(graphs, together, strict=True):
        assert np.array_equal(kernel, spike_kernels([graph], IMAGES, sahd_kernel)[0])


def test_shared_beginnings_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    original = shared_forward.convolve

    def counted(*args: Any) -> Any:
        done.append(args)
        return original(*args)

    monkeypatch.setattr(shared_forward, "convolve", counted)
    graphs = [snasnet(text) for text in ("0303 0030 0003 0000", "0303 0030 0002 0000", "0303 0030 0003 0000")]
    spike_kernels(graphs, IMAGES, sahd_kernel)
    steps = 5
    # the static stem once; edges 01, 12 and 03 of the first cell once; then 23, reduction and a second cell of four
    # convolutions for each of two different networks; the third is the first again
    assert len(done) == 1 + steps * (3 + 2 * (1 + 1 + 4))


def test_blocks_and_plain_arithmetic_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = some_graphs()[:4]
    expected = spike_kernels(graphs, IMAGES, hamming_kernel)
    monkeypatch.setattr(integer_layers, "has_int8", lambda device: False)
    monkeypatch.setattr(integer_layers, "INT8_MM_ROWS", 10**6)
    monkeypatch.setattr(untrained, "ROW_CHUNK", 200)
    monkeypatch.setattr(shared_forward, "BLOCK_FLOATS", 5 * 16 * 8 * 8)
    for before, after in zip(expected, spike_kernels(graphs, IMAGES, hamming_kernel), strict=True):
        assert np.abs(before - after).max() <= 1e-4 * np.abs(before).max()  # norms add up in another order


def test_a_machine_without_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    integer_layers.has_int8.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not integer_layers.has_int8(torch.device("cpu"))
    monkeypatch.undo()
    integer_layers.has_int8.cache_clear()

    def fails(*args: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(integer_layers, "_onednn", fails)
    assert not integer_layers.has_int8(torch.device("cpu"))
    integer_layers.has_int8.cache_clear()


@pytest.mark.parametrize("rows", [3, 40])
def test_gram_matrix_is_exact(rows: int) -> None:
    spikes = torch.randint(0, 2, (rows, 70_000), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = spikes.numpy().astype(np.int64) @ spikes.numpy().astype(np.int64).T
    assert np.array_equal(gram_matrix(spikes), expected)
    distances = codes(spikes).distances
    assert distances[0, 1] == (spikes[0] != spikes[1]).sum()


# --- scores -------------------------------------------------------------------------------------------------


def test_scores_are_functions_of_graph_images_and_seed() -> None:
    graph = snasnet(FORWARD)
    assert sahd(graph, PROBE) == sahd(graph, PROBE)
    assert naswot(graph, PROBE) == hamming_scores([graph], PROBE, hamming_kernel)[0]
    other = Probe(PROBE.images, PROBE.labels, seed=1)
    assert sahd(graph, other) != sahd(graph, PROBE)


def test_repeats_are_means_on_any_number_of_threads() -> None:
    graphs, threads = some_graphs()[:3], torch.get_num_threads()
    probe = Probe(torch.cat([IMAGES, IMAGES.flip(0)]), torch.zeros(36, dtype=torch.int64), seed=3)
    serial = hamming_scores(graphs, probe, repeats=2)
    assert hamming_scores(graphs, probe, repeats=2, workers=2) == serial
    assert torch.get_num_threads() == threads
    halves = [
        log_determinant(spike_kernels(graphs[:1], images, sahd_kernel, seed=6 + number)[0])
        for number, images in enumerate(probe.images.chunk(2))
    ]
    assert serial[0] == pytest.approx(np.mean(halves))


def test_refusals() -> None:
    graph = snasnet(FORWARD)
    with pytest.raises(InputError, match="18 images, 4 repeats: give a multiple"):
        hamming_scores([graph], PROBE, repeats=4)
    with pytest.raises(InputError, match=r"images are \(1, 8, 8\): the network takes \(3, 8, 8\)"):
        sahd(graph, Probe(torch.zeros(4, 1, 8, 8), torch.zeros(4)))
    names = ("image", "flat", "fc", "mean", "out")
    layers: tuple[Layer, ...] = (Input((3, 8, 8)), Flatten(), Linear(2), Mean(), Output())
    silent = Graph(
        2,
        tuple(Node(n, layer) for n, layer in zip(names, layers, strict=True)),
        tuple(Edge(a, b) for a, b in pairwise(names)),
    )
    with pytest.raises(InputError, match="no spiking neurons"):
        sahd(silent, PROBE)


def test_a_kernel_without_numbers_is_nan() -> None:
    assert np.isnan(log_determinant(np.array([[1.0, np.nan], [0.0, 1.0]])))
    assert log_determinant(np.diag([2.0, 3.0])) == pytest.approx(np.log(6))


def test_equal_layers_have_equal_keys() -> None:
    first, second = Plan(snasnet("0303 0030 0003 0000")), Plan(snasnet("0303 0030 0002 0000"))
    assert first.keys["cell1_e12_bn"] == second.keys["cell1_e12_bn"]
    assert first.keys["cell1_e23_conv"] != second.keys["cell1_e23_conv"]
    assert first.keys["cell2_e01_conv"] != second.keys["cell2_e01_conv"]
