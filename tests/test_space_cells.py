"""Cells: canonical form, counts and layers, against brute force over connection matrices."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenas.errors import GenotypeError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Lif,
    Linear,
    Mean,
    Output,
)
from spikenas.space.cell_space import CellSpace
from spikenas.space.cells import lower_cell
from spikenas.space.genotype import Cell, Connection, cell_text, pairs, parse_cell
from spikenas.space.operations import CODES, OPERATIONS, Sharing

OPS = ("none", "skip", "avgpool3x3", "lif_conv1x1", "lif_conv3x3", "lif_dwconv3x3")


def whole(cell: Cell, channels: int = 2) -> Graph:
    """A graph around a lowered cell: image -> conv -> cell -> flatten -> readout."""
    sharing = Sharing(GraphBuilder())
    add = sharing.builder.add
    stem = add(Conv2d(channels), add(Input((1, 5, 5)), name="image"), name="stem")
    value = lower_cell(sharing, cell, stem, name="cell", channels=channels, lif=Lif(), weight_bits=4)
    readout = add(Linear(3), add(Flatten(), value, name="flat"), name="readout")
    add(Output(), add(Mean(), readout, name="mean"), name="out")
    return sharing.builder.build(2)


def genotype_paths(cell: Cell, node: int = 0) -> Counter[tuple[str, ...]]:
    """Every path from ``node`` to the output as the operations on it that are not skips (forward cells)."""
    if node == cell.nodes - 1:
        return Counter({(): 1})
    paths: Counter[tuple[str, ...]] = Counter()
    for edge in cell.connections:
        if edge.source == node:
            head = () if edge.operation == "skip" else (edge.operation,)
            for rest, times in genotype_paths(cell, edge.target).items():
                paths[head + rest] += times
    return paths


def graph_paths(graph: Graph, name: str = "stem") -> Counter[tuple[str, ...]]:
    """The same, read from the layers: walk all edges from the stem to the flatten layer."""
    paths: Counter[tuple[str, ...]] = Counter()
    for edge in graph.consumers[name]:
        match graph[edge.target]:
            case Flatten():
                paths[()] += 1
                continue
            case AvgPool2d():
                head: tuple[str, ...] = ("avgpool3x3",)
            case Conv2d(groups=groups, kernel_size=(kernel, _)):
                head = (f"lif_{'dw' if groups > 1 else ''}conv{kernel}x{kernel}",)
            case _:
                head = ()
        for rest, times in graph_paths(graph, edge.target).items():
            paths[head + rest] += times
    return paths


@given(st.lists(st.sampled_from(OPS), min_size=6, max_size=6))
@settings(max_examples=150, deadline=None)
def test_a_lowered_cell_has_the_paths_of_its_connections(operations: list[str]) -> None:
    cell = Cell.of(dict(zip(pairs(4), operations, strict=True)))
    expected = genotype_paths(cell)
    assert cell.is_live == bool(expected)
    if not expected:
        with pytest.raises(GenotypeError, match="no path from input to output"):
            whole(cell)
        return
    graph = whole(cell)
    assert graph_paths(graph) == expected
    assert graph == whole(cell.canonical)
    assert genotype_paths(cell.canonical) == expected
    convs = [layer for name, layer in graph.layers.items() if isinstance(layer, Conv2d) and name != "stem"]
    assert len(convs) == sum(e.operation.startswith("lif") for e in cell.canonical.connections)
    assert all(conv.weight_bits == 4 for conv in convs)
    lifs = [(graph.sources[name][0].source, layer) for name, layer in graph.layers.items() if isinstance(layer, Lif)]
    assert len(lifs) == len(set(lifs))


def closure(adjacency: np.ndarray) -> np.ndarray:
    """Reachability in any number of steps, (..., n, n) booleans, by matrix powers."""
    nodes = adjacency.shape[-1]
    reach = adjacency | np.eye(nodes, dtype=bool)
    for _ in range(nodes):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return reach


def brute_force(nodes: int, operations: int, *, backward: bool, direct: bool) -> np.ndarray:
    """All canonical live matrices with entries 0..operations, one row of nodes * nodes digits each."""
    per_pair = []
    for low, high in pairs(nodes):
        outer = (low, high) == (0, nodes - 1)
        ways = [(op, 0) for op in range(1 if outer and direct else 0, operations + 1)]
        ways += [(0, op) for op in range(1, operations + 1)] if backward and not outer else []
        per_pair.append(ways)
    matrices = np.zeros((int(np.prod([len(ways) for ways in per_pair])), nodes, nodes), dtype=np.int8)
    drawn = np.array(list(product(*per_pair)), dtype=np.int8)
    for place, (low, high) in enumerate(pairs(nodes)):
        matrices[:, low, high] = drawn[:, place, 0]
        matrices[:, high, low] = drawn[:, place, 1]
    fed = closure(np.triu(matrices > 0))[:, 0, :]
    inner = (matrices > 0) & fed[:, :, None] & fed[:, None, :]
    useful = closure(inner)[:, :, nodes - 1]
    live = inner & useful[:, None, :]
    canonical = (matrices * live)[fed[:, nodes - 1]]
    return np.unique(canonical.reshape(len(canonical), -1), axis=0)


@pytest.mark.parametrize(
    ("nodes", "operations", "backward", "direct"),
    [
        (3, 4, False, False),
        (4, 4, False, False),
        (4, 4, False, True),
        (4, 4, True, True),
        (4, 2, True, False),
        (5, 1, False, False),
    ],
)
def test_cells_are_counted_and_enumerated_as_by_brute_force(
    nodes: int, operations: int, backward: bool, direct: bool
) -> None:
    names = ("none", "skip", "avgpool3x3", "lif_conv1x1", "lif_conv3x3")[: operations + 1]
    space = CellSpace(names, nodes=nodes, backward=backward, direct=direct)
    expected = brute_force(nodes, operations, backward=backward, direct=direct)
    assert space.count() == len(expected)
    matrices = np.zeros((space.count(), nodes, nodes), dtype=np.int8)
    for row, cell in enumerate(space.enumerate()):
        for edge in cell.connections:
            matrices[row, edge.source, edge.target] = names.index(edge.operation)
    assert np.array_equal(np.unique(matrices.reshape(len(matrices), -1), axis=0), expected)


def test_canonical_of_a_hand_made_cell() -> None:
    # node 1 is fed but leads nowhere, node 2 leads to the output but nothing feeds it
    cell = Cell.of({(0, 1): "skip", (2, 3): "skip", (0, 3): "lif_conv3x3"})
    assert cell.canonical == Cell.of({(0, 3): "lif_conv3x3"})
    assert not Cell.of({(0, 1): "skip", (2, 3): "skip"}).is_live
    assert Cell.of({(0, 1): "skip", (2, 3): "skip"}).canonical == Cell.of({})


def test_feedback_keeps_a_node_alive_and_a_node_fed_by_feedback_alone_is_dead() -> None:
    # node 2 reaches the output only through node 1 of the next step
    through = Cell.of({(0, 3): "skip", (0, 1): "skip", (0, 2): "lif_conv1x1", (2, 1): "skip", (1, 3): "skip"})
    assert through.canonical == through
    past_only = Cell.of({(0, 3): "skip", (0, 2): "skip", (2, 3): "skip", (2, 1): "skip", (1, 3): "skip"})
    assert past_only.canonical == Cell.of({(0, 3): "skip", (0, 2): "skip", (2, 3): "skip"})


def test_backward_connections_become_delayed_edges_into_the_add_of_the_earlier_node() -> None:
    forward = {(0, 1): "skip", (0, 3): "lif_conv3x3", (1, 2): "skip", (2, 3): "skip"}
    graph = whole(Cell.of({**forward, (3, 1): "skip"}))
    assert [edge for edge in graph.edges if edge.delay] == [Edge("cell_n3", "cell_n1", delay=1)]
    assert isinstance(graph["cell_n1"], Add)
    assert [edge.source for edge in graph.sources["cell_n1"]] == ["stem", "cell_n3"]
    into_input = whole(Cell.of({(0, 3): "skip", (0, 1): "lif_conv1x1", (1, 2): "skip", (2, 0): "lif_conv1x1"}))
    assert [edge for edge in into_input.edges if edge.delay] == [Edge("cell_e20_bn", "cell_n0", delay=1)]
    assert isinstance(into_input["cell_n0"], Add)
    assert into_input.sources["flat"] == (Edge("cell_n0", "flat"),)


def test_conv_edges_of_a_node_share_its_neurons_unless_thresholds_differ() -> None:
    same = whole(Cell.of({(0, 1): "lif_conv3x3", (0, 3): "lif_conv1x1", (1, 3): "skip"}))
    assert sum(isinstance(layer, Lif) for layer in same.layers.values()) == 1
    low, high = "lif_conv3x3_th0.5", "lif_conv3x3_th1.5"
    other = whole(Cell.of({(0, 1): low, (0, 2): low, (0, 3): high, (1, 3): "skip", (2, 3): "skip"}))
    thresholds = [layer.threshold for layer in other.layers.values() if isinstance(layer, Lif)]
    assert thresholds == [0.5, 1.5]


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "none"])
def test_every_operation_keeps_the_shape_and_counts_its_parameters(name: str) -> None:
    channels = 6
    empty = whole(Cell.of({(0, 3): "skip"}), channels).parameter_count
    graph = whole(Cell.of({(0, 3): name}), channels)
    assert graph.shapes["flat"] == (channels * 5 * 5,)
    by_hand = {
        "skip": 0,
        "avgpool3x3": 0,
        "lif_conv1x1": 6 * 6 + 12,
        "lif_conv5x5": 6 * 6 * 25 + 12,
        "lif_dwconv1x1": 6 + 12,
        "lif_dwconv3x3": 6 * 9 + 12,
    }
    assert graph.parameter_count - empty == by_hand.get(name, 6 * 6 * 9 + 12)
    if name.startswith("lif"):
        kinds = [type(layer) for layer in graph.layers.values()]
        start = kinds.index(Lif)
        assert kinds[start : start + 3] == [Lif, Conv2d, BatchNorm2d]


def test_layer_names_are_identifiers() -> None:
    graph = whole(Cell.of(dict.fromkeys(pairs(4), "lif_conv3x3")))
    assert all(name.isidentifier() for name in graph.layers)


def test_malformed_cells_are_refused() -> None:
    with pytest.raises(GenotypeError, match=r"two different nodes of 0\.\.3"):
        Cell.of({(0, 4): "skip"})
    with pytest.raises(GenotypeError, match="two different nodes"):
        Cell.of({(1, 1): "skip"})
    with pytest.raises(GenotypeError, match="connected twice"):
        Cell.of({(0, 1): "skip", (1, 0): "skip"})
    with pytest.raises(GenotypeError, match="'conv' cannot be on a connection: choose from none, skip"):
        Cell.of({(0, 1): "conv"})
    with pytest.raises(GenotypeError, match=r"make it with Cell\.of"):
        Cell((Connection(1, 2, "skip"), Connection(0, 1, "skip")))
    space = CellSpace(("none", "skip"))
    with pytest.raises(GenotypeError, match="'avgpool3x3' is not one of none, skip"):
        space.encode(Cell.of({(0, 3): "avgpool3x3"}))
    with pytest.raises(GenotypeError, match="runs backward"):
        space.check(Cell.of({(3, 1): "skip"}))
    with pytest.raises(GenotypeError, match="cells of 4 nodes"):
        space.check(Cell.of({(0, 2): "skip"}, nodes=3))
    with pytest.raises(GenotypeError, match="connected directly"):
        CellSpace(("none", "skip"), direct=True).check(Cell.of({(0, 1): "skip", (1, 3): "skip"}))
    with pytest.raises(GenotypeError, match="a pair of nodes is not connected"):
        CellSpace(("skip",)).check(Cell.of({(0, 3): "skip"}))


def test_cell_text_is_short_and_read_back() -> None:
    cell = Cell.of({(0, 1): "lif_conv3x3", (0, 3): "skip", (1, 2): "lif_dwconv1x1", (2, 3): "avgpool3x3"})
    assert cell_text(cell) == "30s.i0.a"
    assert parse_cell("30s.i0.a") == cell
    with pytest.raises(GenotypeError, match=r"one letter per pair of 4 nodes, such as 00s\.00\.0"):
        parse_cell("30s.i0")
    with pytest.raises(GenotypeError, match="letter 'x' is not one of 0 none, s skip"):
        parse_cell("30x.i0.a")
    with pytest.raises(GenotypeError, match="no path"):
        parse_cell("300.00.a")
    assert len(set(CODES.values())) == len(CODES)
