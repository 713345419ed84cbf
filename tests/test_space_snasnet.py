"""SNASNet's and SpikeNAS's spaces against published figures."""

from __future__ import annotations

import re

import pytest

from spikenas.errors import GenotypeError
from spikenas.graph import AvgPool2d, BatchNorm2d, Lif, Linear, Vote
from spikenas.space.genotype import Cell
from spikenas.space.snasnet import SnasnetGenotype, SnasnetSpace
from spikenas.space.space import load_space
from spikenas.space.spikenas import SpikenasSpace

CIFAR = (3, 32, 32)
FULL = {(s, t): "lif_conv3x3" for s in range(4) for t in range(s + 1, 4)}


@pytest.mark.parametrize(
    ("text", "classes", "parameters"),
    [("0303 0030 2002 0200/p4", 10, 19_520_356), ("0302 0030 3003 0000/p2", 100, 20_624_500)],
)
def test_published_networks_have_their_released_parameter_counts(text: str, classes: int, parameters: int) -> None:
    space = load_space("snasnet")
    genotype = space.parse(text)
    assert space.canonical(genotype) == genotype
    assert space.lower(genotype, CIFAR, classes).parameter_count == parameters


def test_published_cifar10_network_layer_by_layer() -> None:
    graph = load_space("snasnet").lower(load_space("snasnet").parse("0303 0030 2002 0200/p4"), CIFAR, 10)
    assert graph.timesteps == 5
    assert {layer for layer in graph.layers.values() if isinstance(layer, Lif)} == {Lif(decay=0.25, gain=0.75)}
    assert graph.shapes["cell1_out"] == (256, 32, 32)
    assert graph.shapes["cell2_out"] == (512, 16, 16)
    assert isinstance(graph["cell1_out"], BatchNorm2d)
    assert graph["head_pool"] == AvgPool2d((4, 4), (4, 4))
    assert graph["hidden"] == Linear(1024, bias=False)
    assert graph["readout"] == Linear(100)
    assert graph["vote"] == Vote(10)
    for cell in ("cell1", "cell2"):
        delayed = {(edge.source, edge.target) for edge in graph.edges if edge.delay and edge.target.startswith(cell)}
        assert delayed == {(f"{cell}_e20_bn", f"{cell}_n0"), (f"{cell}_e31_bn", f"{cell}_n1")}
        # one Lif per node with conv edges: nodes 0, 1, 2 and 3
        assert sum(f"{cell}_" in name and name.endswith("_lif") for name in graph.layers) == 4 + 1


def test_tiny_imagenet_head() -> None:
    space = load_space("snasnet")
    graph = space.lower(space.parse("0001 0000 0000 0000/p2"), (3, 64, 64), 200)
    assert graph.shapes["stem_conv"] == (128, 32, 32)
    assert graph.parameter_shapes["hidden.weight"] == (4096, 256 * 8 * 8)
    assert graph.parameter_shapes["readout.weight"] == (1000, 4096)
    by_hand = 3 * 128 * 9 + 256 + 256 + 128 * 256 * 9 + 512 + 512 + 256 * 64 * 4096 + 4097 * 1000
    assert graph.parameter_count == by_hand


def test_variant_follows_the_number_of_classes_unless_named() -> None:
    genotype = SnasnetGenotype(Cell.of({(0, 3): "skip"}))
    widths = {
        classes: SnasnetSpace().lower(genotype, CIFAR, classes).shapes["stem_conv"] for classes in (2, 10, 11, 100)
    }
    assert {classes: shape[0] for classes, shape in widths.items()} == {2: 256, 10: 256, 11: 128, 100: 128}
    assert SnasnetSpace(variant="cifar100").lower(genotype, CIFAR, 10).shapes["vote"] == (10,)
    assert SnasnetSpace(variant="cifar100").lower(genotype, CIFAR, 10).shapes["readout"] == (50,)
    assert SpikenasSpace(variant="cifar10").name == "spikenas"


def test_pooling_is_two_unless_said() -> None:
    space = load_space("snasnet")
    assert str(space.parse("0303 0030 2002 0200")) == "0303 0030 2002 0200/p2"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0303 0030 2002 0200/p3", "second pooling 3 is neither 2 nor 4"),
        ("0303 0030 2002 0205", "no genotype of space 'snasnet'"),
        ("0303 1000 0000 0000", "nodes 0 and 1 are connected twice: choose one direction"),
        ("1303 0030 2002 0200", "connection 0->0: a cell of 4 nodes joins two different nodes"),
        ("0330 0003 0003 0000", "connection 0->3 is none: input and output are connected directly"),
        ("0011 0001 0100 0000", "only feedback enters node 1, connect it from a lower node"),
        ("0303 0030 2002 0200 ", "write one like 0303 0030 2002 0200/p4"),
    ],
)
def test_bad_matrices_say_why(text: str, why: str) -> None:
    space = load_space("snasnet")
    with pytest.raises(GenotypeError, match=re.escape(why)):
        space.parse(text)


def test_reduced_and_forward_spaces_refuse_what_they_lack() -> None:
    with pytest.raises(GenotypeError, match="2->0 runs backward"):
        load_space("snasnet-forward").parse("0303 0030 2002 0000")
    with pytest.raises(GenotypeError, match="'lif_conv1x1' is not one of none, lif_conv3x3"):
        load_space("snasnet", ("none", "lif_conv3x3")).parse("0303 0030 2002 0200")
    with pytest.raises(GenotypeError, match="'skip' is not one of none, lif_conv3x3"):
        load_space("spikenas", ("none", "lif_conv3x3")).parse("00s.00.0+003.00.0/p2")
    with pytest.raises(GenotypeError, match="second pooling 8"):
        SnasnetGenotype(Cell.of({(0, 3): "skip"}), 8)
    with pytest.raises(GenotypeError, match="is not one of"):
        SnasnetGenotype(Cell.of({(0, 3): "lif_conv5x5"}))


def test_images_too_small_for_the_poolings_are_refused() -> None:
    space = load_space("snasnet")
    wide, narrow = (SnasnetGenotype(Cell.of(FULL), pooling) for pooling in (4, 2))
    assert space.lower(wide, (1, 8, 8), 10).shapes["flat"] == (512,)
    with pytest.raises(GenotypeError, match=r"input 1x7x7: second pooling 4 needs images .* of at least 8x8"):
        space.lower(wide, (1, 7, 7), 10)
    with pytest.raises(GenotypeError, match="at least 4x4"):
        space.lower(narrow, (3, 3, 4), 10)
    # stem stride 2: 15 -> 8 -> 4 -> 1, 14 -> 7 -> 3
    tiny = SnasnetSpace(variant="tiny-imagenet")
    assert tiny.lower(wide, (3, 15, 15), 10).shapes["flat"] == (256,)
    with pytest.raises(GenotypeError, match="at least 15x15"):
        tiny.lower(wide, (3, 14, 14), 10)
    assert str(space.smallest((1, 4, 4), 10)).endswith("/p2")
    with pytest.raises(GenotypeError, match="needs images"):
        space.smallest((1, 2, 2), 10)


def test_spikenas_lowers_each_cell_where_it_belongs() -> None:
    space = load_space("spikenas")
    first = space.lower(space.parse("003.00.0+00s.00.0/p2"), CIFAR, 10).parameter_count
    second = space.lower(space.parse("00s.00.0+003.00.0/p2"), CIFAR, 10).parameter_count
    bare = space.lower(space.parse("00s.00.0+00s.00.0/p2"), CIFAR, 10).parameter_count
    assert first - bare == 256 * 256 * 9 + 512
    assert second - bare == 512 * 512 * 9 + 1024


def test_spikenas_and_snasnet_agree_where_they_overlap() -> None:
    matrix = load_space("snasnet").parse("0304 0021 0003 0000/p4")
    letters = load_space("spikenas").parse("30a.1s.3+30a.1s.3/p4")
    assert matrix.cells == letters.cells
    assert load_space("snasnet").lower(matrix, CIFAR, 10) == load_space("spikenas").lower(letters, CIFAR, 10)
