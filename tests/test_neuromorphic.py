"""Layers on cores: rules and memory against hand-computed numbers, the assignment against all permutations."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenas.cli.main import main
from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.neuromorphic import Assignment, CoreLayer, assign, for_target, match
from spikenas.cost.target import DYNAP_CNN, TARGETS, Core
from spikenas.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, GraphBuilder, Input, Layer, Lif, Linear, Mean, Output

IF = Lif(decay=1.0)


def chain(*layers: Layer, shape: tuple[int, int, int] = (1, 16, 16)) -> Graph:
    """Image, the layers one after the other, and a readout."""
    g = GraphBuilder()
    value = g.add(Input(shape), name="image")
    for number, layer in enumerate(layers):
        value = g.add(layer, value, name=f"n{number}")
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), value), name="readout")))
    return g.build(4)


def refusals(*layers: Layer, shape: tuple[int, int, int] = (1, 16, 16)) -> str:
    return " | ".join(assign(chain(*layers, shape=shape), DYNAP_CNN).refusals)


def test_the_cores_are_the_chips() -> None:
    assert [core.weights // 1024 for core in DYNAP_CNN] == [16, 16, 16, 32, 32, 64, 64, 16, 16]
    assert [core.neurons // 1024 for core in DYNAP_CNN] == [64, 64, 64, 32, 32, 16, 16, 16, 16]
    assert TARGETS["speck"].cores == TARGETS["dynapcnn"].cores == DYNAP_CNN


def test_memory_by_hand() -> None:
    """The example of the chip's documentation: 16 to 32 channels, 3x3, needs 8 Ki entries of weights."""
    graph = chain(Conv2d(16), IF, Conv2d(32, bias=True), IF, AvgPool2d((4, 4), (4, 4)), shape=(2, 12, 12))
    first, second, readout = assign(graph, DYNAP_CNN).layers
    assert (first.weights, first.neurons, first.biases) == (2 * 16 * 16, 16 * 16 * 16, 0)
    assert (second.weights, second.neurons, second.biases) == (8 * 1024, 32 * 16 * 16, 32)
    # the readout's kernel is 3x3 pooled pixels of 32 channels, its 10 outputs are rounded up to 16
    assert (readout.weights, readout.neurons, readout.biases) == (32 * 16 * 16, 10, 10)


def test_every_layer_has_a_core_of_its_own_that_holds_it() -> None:
    graph = chain(Conv2d(16), IF, Conv2d(32), IF, AvgPool2d((4, 4), (4, 4)))
    found = assign(graph, DYNAP_CNN)
    assert found.refusals == ()
    assert len(set(found.cores.values())) == len(found.layers) == 3
    assert all(layer.fits(DYNAP_CNN[found.cores[layer.name]]) for layer in found.layers)


def test_the_layer_that_fails_is_named() -> None:
    # 64 to 256 channels, 3x3: 64 * 16 * 256 entries
    words = refusals(Conv2d(64, stride=(4, 4)), IF, Conv2d(256), IF)
    assert "layer 'n2' needs 262,144 weights and 4,096 neurons: no core has more than 65,536 weights" in words
    assert "layer 'n0' needs 1,024 weights and 131,072 neurons: no core has more than 65,536 neurons" in refusals(
        Conv2d(32), IF, AvgPool2d((4, 4), (4, 4)), shape=(2, 64, 64)
    )
    both = refusals(Conv2d(32, stride=(2, 2)), IF, Conv2d(48), IF, AvgPool2d((4, 4), (4, 4)), shape=(1, 64, 64))
    assert "layer 'n2' needs 32,768 weights and 49,152 neurons: no core has both" in both


def test_too_many_layers() -> None:
    layers = [layer for _ in range(9) for layer in (Conv2d(4), IF)]
    assert "10 layers: there are 9 cores" in refusals(*layers)


def test_a_crowd_on_the_large_cores() -> None:
    layers = [CoreLayer(f"l{n}", 40_000, 100, 0, ()) for n in range(3)]
    cores, failed = match(layers, DYNAP_CNN)
    assert set(cores.values()) == {5, 6}
    assert failed == layers[2]


REFUSED = {
    "leak": ([Conv2d(4), Lif(decay=0.5)], "node 'n1' leaks by a factor of 0.5: cores leak by a constant"),
    "membrane": ([Conv2d(4), Lif(decay=1.0, membrane_bits=24)], "node 'n1' has 24-bit membranes: cores have 16"),
    "weights": ([Conv2d(4, weight_bits=16), IF], "node 'n0' has 16-bit weights: cores have 8"),
    "kernel": ([Conv2d(4, (3, 5), padding=(1, 2)), IF], "node 'n0' has a kernel of 3x5: cores have square ones"),
    "large kernel": ([Conv2d(4, (17, 17), padding=(7, 7)), IF], "node 'n0' has a kernel of 17x17"),
    "stride": ([Conv2d(4, stride=(3, 3)), IF], "node 'n0' has stride 3x3: cores have 1, 2, 4, 8"),
    "padding": ([Conv2d(4, (16, 16), padding=(8, 8)), IF], "node 'n0' has padding 8x8: cores have at most 7"),
    "pooling": ([Conv2d(4), IF, AvgPool2d((8, 8), (8, 8))], "pooled 8x8: cores pool 2x2 and 4x4"),
    "overlap": ([Conv2d(4), IF, AvgPool2d((2, 2), (1, 1))], "pooled 2x2: cores pool 2x2 and 4x4 without overlap"),
    "groups": ([Conv2d(4), IF, Conv2d(4, groups=4), IF], "node 'n2' is grouped: cores connect all channels"),
    "no spikes": ([Conv2d(4), Conv2d(4), IF], "node 'n1' reads real values of 'n0': cores read spikes"),
    "channels": ([Conv2d(2048, stride=(8, 8)), IF], "node 'n0' has 2048 channels: cores have at most 1024"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_core_cannot_do_is_refused_in_words(case: str) -> None:
    layers, words = REFUSED[case]
    assert words in refusals(*layers)


def test_large_maps() -> None:
    words = refusals(Conv2d(1), IF, shape=(1, 136, 136))
    assert "node 'n0' has maps of 136x136: cores have at most 64x64" in words
    assert "node 'n0' reads maps of 136x136: cores read at most 128x128" in words


def test_sums_feedback_and_fan_out() -> None:
    from test_cost import skip_network

    words = " | ".join(assign(skip_network(feedback=True), DYNAP_CNN).refusals)
    assert "node 'total' adds " in words
    assert "a core adds up one layer's weights and nothing else; use cells without skips" in words
    g = GraphBuilder()
    spikes = g.add(IF, g.add(Conv2d(4), g.add(Input((1, 8, 8)), name="image")), name="spikes")
    branches = [g.add(IF, g.add(Conv2d(4), spikes)) for _ in range(3)]
    together = g.add(Add(), *branches)
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), together))))
    (words,) = assign(g.build(2), DYNAP_CNN).refusals
    assert words == "node 'spikes' is read by 3 layers: a core sends its spikes to 2"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
)
def test_an_assignment_is_found_whenever_there_is_one(
    layers: list[tuple[int, int]], cores: list[tuple[int, int]]
) -> None:
    wanted = [CoreLayer(str(n), *sizes, 0, ()) for n, sizes in enumerate(layers)]
    have = [Core(*sizes) for sizes in cores]
    possible = any(
        all(layer.fits(core) for layer, core in zip(wanted, order, strict=True))
        for order in permutations(have, len(wanted))
    )
    found, failed = match(wanted, have)
    assert (failed is None) == possible
    assert all(wanted[int(name)].fits(have[number]) for name, number in found.items())
    if possible:
        assert len(set(found.values())) == len(found) == len(wanted)


def test_the_budget_is_broken_by_what_the_chip_cannot_do() -> None:
    fits = estimate(chain(Conv2d(8), IF, AvgPool2d((4, 4), (4, 4))), TARGETS["speck"])
    assert Budget(flash_bytes=10**6).violations(fits) == ()
    assert fits.flash_bytes == 1 * 16 * 8 + 8 * 16 * 16  # as the cores' addressing rounds up
    leaky = estimate(chain(Conv2d(8), Lif()), TARGETS["speck"])
    assert "leaks by a factor" in Budget().violations(leaky)[0]
    (words,) = Budget(latency_ms=1).violations(fits)
    assert "latency cannot be predicted on speck" in words


def test_neurons_are_made_for_the_target() -> None:
    graph = chain(Conv2d(8), Lif(decay=0.5), AvgPool2d((4, 4), (4, 4)))
    assert for_target(graph, TARGETS["rv32"]) is graph
    assert isinstance(assign(for_target(graph, TARGETS["speck"]), DYNAP_CNN), Assignment)
    assert assign(for_target(graph, TARGETS["speck"]), DYNAP_CNN).refusals == ()


def test_cost_prints_the_assignment_or_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "t4-b8-k3s2-16:00s.00.0-32:00s.00.0-hidden64", "--target", "speck"]) == 0
    assert "Assignment to cores" in capsys.readouterr().out
    assert main(["cost", "t4-b8-k3s1-16:3s1.d1.1-pool", "--target", "dynapcnn"]) == 0
    assert "pooled 32x32: cores pool 2x2 and 4x4 without overlap" in capsys.readouterr().out
