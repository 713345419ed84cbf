"""The vocabulary: shapes by hand, every refusal in words, JSON there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from spikenas.errors import GraphError
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
    Kind,
    Layer,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Vote,
    from_json,
    to_json,
)


def chain(*layers: Layer, timesteps: int = 2) -> Graph:
    """Layers named a, b, c, ... one after the other."""
    names = "abcdefghijklmnop"[: len(layers)]
    nodes = tuple(Node(name, layer) for name, layer in zip(names, layers, strict=True))
    return Graph(timesteps, nodes, tuple(Edge(source, target) for source, target in pairwise(names)))


def small() -> Graph:
    return chain(Input((1, 4, 4)), Conv2d(2), Lif(), Flatten(), Linear(3), Mean(), Output())


def test_shapes_and_parameters_by_hand() -> None:
    graph = chain(
        Input((3, 32, 30)),
        Conv2d(8, (5, 3), (2, 1), (2, 0)),  # (32 + 4 - 5) // 2 + 1 = 16, 30 - 3 + 1 = 28
        BatchNorm2d(),
        Lif(),
        Conv2d(12, groups=4, bias=True),
        AvgPool2d((3, 3), (2, 2), (1, 1)),  # (16 + 2 - 3) // 2 + 1 = 8, (28 + 2 - 3) // 2 + 1 = 14
        Flatten(),
        Linear(20),
        Vote(5),
        Mean(),
        Output(),
    )
    shapes = [(3, 32, 30), *[(8, 16, 28)] * 3, (12, 16, 28), (12, 8, 14), (1344,), (20,), *[(4,)] * 3]
    assert list(graph.shapes.values()) == shapes
    assert graph.parameter_count == 8 * 3 * 15 + 16 + (12 * 2 * 9 + 12) + (20 * 1344 + 20)
    assert graph.in_shape("e") == (8, 16, 28)


def test_kinds_follow_what_flows() -> None:
    graph = chain(
        Input((1, 4, 4)), Lif(), AvgPool2d((2, 2), (2, 2)), Flatten(), Linear(2), Lif(), Vote(1), Mean(), Output()
    )
    assert [graph.kinds[name] for name in "abcdef"] == [
        *(Kind.IMAGE, Kind.SPIKES, Kind.COUNTS, Kind.COUNTS, Kind.CURRENT, Kind.SPIKES)
    ]


def test_a_delayed_current_makes_a_sum_of_spikes_a_current() -> None:
    builder = GraphBuilder()
    spikes = builder.add(Lif(), builder.add(Input((1, 4, 4))))
    total = builder.add(Add(), spikes, name="total")
    conv = builder.add(Conv2d(1), builder.add(Lif(), total))
    builder.feedback(conv, total)
    builder.add(Output(), builder.add(Mean(), builder.add(Flatten(), total)))
    graph = builder.build(3)
    assert graph.kinds["total"] is Kind.CURRENT
    assert graph.has_feedback
    assert "total" not in graph.static


def test_static_ends_at_the_first_neuron() -> None:
    assert small().static == {"a", "b"}
    moving = chain(Input((1, 4, 4), static=False), Flatten(), Linear(2), Mean(), Output())
    assert moving.static == frozenset()


END = (Flatten(), Linear(3), Mean(), Output())
IMAGE = Input((2, 4, 4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: chain(IMAGE, *END, timesteps=0), "timesteps 0"),
        (lambda: Graph(1, (Node("a", IMAGE), Node("a", Output())), ()), "'a' appears twice"),
        (lambda: chain(IMAGE, IMAGE, *END), "2 Input nodes"),
        (lambda: chain(IMAGE, Flatten()), "0 Output nodes"),
        (lambda: replace(small(), edges=(*small().edges, Edge("a", "z"))), "there is no node 'z'"),
        (lambda: replace(small(), edges=(*small().edges, Edge("c", "b"))), "runs backwards"),
        (lambda: replace(small(), edges=(*small().edges, Edge("a", "b", 2))), "has delay 2"),
        (lambda: replace(small(), edges=(*small().edges, Edge("c", "b", 1))), "must enter an Add"),
        (lambda: replace(small(), edges=(*small().edges, Edge("a", "c"))), "Lif takes one input, it has 2"),
        (lambda: replace(small(), edges=(*small().edges[1:], Edge("a", "c"))), "Conv2d takes one input, it has 0"),
        (lambda: replace(small(), nodes=(*small().nodes, Node("x", Add()))), "'x': Add needs at least one edge"),
        (lambda: chain(IMAGE, Add(), *END, Add()), "nothing follows the output"),
        (lambda: chain(IMAGE, Flatten(), Linear(3), Output()), "a Mean feeds the Output, and nothing else does"),
        (lambda: chain(IMAGE, Flatten(), Mean(), Linear(3), Mean(), Output()), "a Mean feeds the Output"),
        (lambda: chain(IMAGE, Conv2d(3, groups=2), *END), "groups=2 does not divide 2 -> 3"),
        (lambda: chain(IMAGE, Conv2d(2, (7, 7)), *END), "(7, 7) window does not fit into (4, 4)"),
        (lambda: chain(IMAGE, Linear(2), Mean(), Output()), "it needs (features,)"),
        (lambda: chain(IMAGE, Flatten(), Conv2d(2), *END), "it needs (channels, height, width)"),
        (lambda: chain(IMAGE, Flatten(), BatchNorm2d(), *END), "it needs (channels, height, width)"),
        (lambda: chain(IMAGE, Flatten(), Vote(3), Mean(), Output()), "groups of 3 do not divide 32"),
        (lambda: chain(IMAGE, Mean(), Output()), "it needs (features,)"),
        (lambda: chain(IMAGE, Conv2d(0), *END), "out_channels is 0"),
        (lambda: chain(IMAGE, Conv2d(2, weight_bits=1), *END), "weight_bits is 1"),
        (lambda: chain(IMAGE, Conv2d(2, weight_bits=7.5), *END), "weight_bits is 7.5"),  # type: ignore[arg-type]
        (lambda: chain(IMAGE, Conv2d(2, stride=(1,)), *END), "stride is (1,), it takes 2"),  # type: ignore[arg-type]
        (lambda: chain(IMAGE, Conv2d(2, padding=(-1, 0)), *END), "padding is (-1, 0)"),
        (lambda: chain(IMAGE, Conv2d(2, bias="no"), *END), "bias is 'no'"),  # type: ignore[arg-type]
        (lambda: chain(Input((0, 4, 4)), *END), "shape is (0, 4, 4)"),
        (lambda: chain(IMAGE, Lif(decay=1.5), *END), "decay is 1.5"),
        (lambda: chain(IMAGE, Lif(threshold=float("nan")), *END), "threshold is nan"),
    ],
)
def test_refusals_name_the_node_or_edge_and_the_rule(make: Any, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sums_need_equal_shapes_now_and_one_step_later() -> None:
    builder = GraphBuilder()
    image = builder.add(Input((1, 4, 4)))
    wide, narrow = builder.add(Conv2d(2), image), builder.add(Conv2d(1), image)
    builder.add(Output(), builder.add(Mean(), builder.add(Flatten(), builder.add(Add(), wide, narrow))))
    with pytest.raises(GraphError, match="adds shapes"):
        builder.build(1)
    builder = GraphBuilder()
    total = builder.add(Add(), builder.add(Input((1, 4, 4))))
    wide = builder.add(Conv2d(2), builder.add(Lif(), total))
    builder.feedback(wide, total)
    builder.add(Output(), builder.add(Mean(), builder.add(Flatten(), wide)))
    with pytest.raises(GraphError, match=r"delayed edge .* joins shapes"):
        builder.build(2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_json_gives_an_equal_graph(seed: int) -> None:
    graph = random_graph(seed)
    again = from_json(to_json(graph))
    assert again == graph
    assert (again.shapes, again.kinds, again.static) == (graph.shapes, graph.kinds, graph.static)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 20), st.integers(0, 10**6), JUNK)
def test_damaged_json_is_refused_in_words_or_still_a_graph(seed: int, place: int, junk: Any) -> None:
    data = json.loads(to_json(random_graph(seed)))
    leaves = list(_leaves(data))
    holder, key = leaves[place % len(leaves)]
    holder[key] = junk
    try:
        graph = from_json(json.dumps(data))
    except GraphError:
        return
    assert from_json(to_json(graph)) == graph


def _leaves(value: Any) -> Any:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _leaves(value[key])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a spikenas graph"),
        ("[]", "not a spikenas graph"),
        ('{"spikenas_graph": 99, "nodes": [], "edges": [], "timesteps": 1}', "schema 99 is unknown"),
        ('{"spikenas_graph": 1, "nodes": [{"kind": "Pool"}], "edges": [], "timesteps": 1}', "'Pool' is not one of"),
        ('{"spikenas_graph": 1, "nodes": [{"kind": "Add"}], "edges": [], "timesteps": 1}', "malformed"),
        (
            '{"spikenas_graph": 1, "nodes": [{"kind": "Add", "name": "x", "y": 1}], "edges": [], "timesteps": 1}',
            "no field 'y'",
        ),
    ],
)
def test_json_that_is_no_graph_is_refused(text: str, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        from_json(text)
