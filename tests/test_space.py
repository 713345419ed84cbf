"""What holds in every space."""

from __future__ import annotations

from itertools import islice, pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenas.errors import GenotypeError
from spikenas.space.embedded import EmbeddedSpace
from spikenas.space.genotype import Genotype
from spikenas.space.snasnet import SnasnetSpace
from spikenas.space.space import SPACES, Space, load_space
from spikenas.space.spikenas_bench import BenchSpace

FEW = ("none", "skip", "lif_conv3x3")
NARROW = EmbeddedSpace(
    operations=("none", "lif_conv3x3"),
    timesteps=(2, 4),
    weight_bits=(8,),
    stem_kernels=(3,),
    stem_strides=(1, 2),
    widths=(8,),
    heads=("pool", "hidden32"),
    max_stages=2,
)
# every space whole, and reduced ones, also without "none"
ALL: list[Space[Any]] = [
    *map(load_space, SPACES),
    load_space("embedded", ("none", "skip", "lif_conv3x3")),
    load_space("spikenas", ("skip", "lif_conv3x3")),
    load_space("snasnet-forward", ("lif_conv3x3", "avgpool3x3")),
    load_space("spikenas-bench", ("none", "lif_conv3x3_th1.0")),
    NARROW,
]
spaces = pytest.mark.parametrize("space", ALL, ids=lambda s: f"{s.name}-{len(s.operations)}")
IMAGE, CLASSES = (3, 16, 16), 10


@st.composite
def gene_vectors(draw: st.DrawFn, space: Space[Any]) -> np.ndarray:
    return np.array([draw(st.integers(0, int(bound) - 1)) for bound in space.bounds()])


@spaces
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_gene_vector_is_a_canonical_genotype_that_can_be_built(space: Space[Any], data: st.DataObject) -> None:
    genotype = space.decode(data.draw(gene_vectors(space)))
    assert isinstance(genotype, Genotype)
    assert space.canonical(genotype) == genotype
    assert space.decode(space.encode(genotype)) == genotype
    assert (space.encode(genotype) < space.bounds()).all()
    assert space.parse(space.format(genotype)) == genotype
    assert str(space.parse(str(genotype))) == str(genotype)
    graph = space.lower(genotype, IMAGE, CLASSES)
    assert graph.shapes[graph.output] == (CLASSES,)
    assert hash(space.parse(str(genotype))) == hash(genotype)


@spaces
@pytest.mark.parametrize("seed", range(3))
def test_sample_mutate_crossover_are_closed_and_reproducible(space: Space[Any], seed: int) -> None:
    def walk() -> list[Any]:
        rng = np.random.default_rng(seed)
        mother, father = space.sample(rng), space.sample(rng)
        child = space.crossover(mother, father, rng)
        return [mother, father, child, space.mutate(child, rng)]

    family = walk()
    assert family == walk()
    for genotype in family:
        assert space.canonical(genotype) == genotype
        assert space.parse(str(genotype)) == genotype
        assert all(cell.is_live for cell in genotype.cells)
    assert family[3] != family[2]


@spaces
def test_crossover_of_equals_changes_nothing(space: Space[Any]) -> None:
    rng = np.random.default_rng(5)
    mother = space.sample(rng)
    assert space.crossover(mother, mother, rng) == mother


# genes that canonicalisation leaves alone
@pytest.mark.parametrize(("name", "places"), [("embedded", range(6)), ("spikenas", [12]), ("snasnet", [6])])
def test_genes_of_a_child_come_from_either_parent(name: str, places: list[int]) -> None:
    space, rng = load_space(name), np.random.default_rng(5)
    mother, father = space.decode(space.bounds() * 0), space.decode(space.bounds() - 1)
    parents = np.sort([space.encode(mother), space.encode(father)], axis=0)
    children = np.array([space.encode(space.crossover(mother, father, rng)) for _ in range(40)])
    for place in places:
        assert set(children[:, place]) == set(parents[:, place])


SMALL: list[Space[Any]] = [
    load_space("snasnet", FEW),
    load_space("snasnet-forward", FEW),
    load_space("spikenas-bench"),
    load_space("spikenas", ("none", "lif_conv3x3")),
    load_space("spikenas", ("skip", "lif_conv3x3")),
    NARROW,
]


@pytest.mark.parametrize("space", SMALL, ids=lambda s: f"{s.name}-{len(s.operations)}")
def test_enumerate_yields_count_distinct_canonical_genotypes(space: Space[Any]) -> None:
    found = list(space.enumerate())
    assert len(found) == len(set(found)) == space.count()
    assert len({str(genotype) for genotype in found}) == len(found)
    assert all(space.canonical(genotype) == genotype for genotype in islice(found, 0, None, 97))
    assert space.sample(np.random.default_rng(0)) in found


@pytest.mark.parametrize("space", [NARROW, load_space("spikenas-bench", ("none", "skip", "lif_conv3x3_th1.0"))])
def test_every_member_is_reached_from_some_vector(space: Space[Any]) -> None:
    if space is NARROW:
        assert {space.decode(space.encode(genotype)) for genotype in space.enumerate()} == set(space.enumerate())
    else:
        vectors = product(*map(range, space.bounds()))
        assert {space.decode(np.array(genes)) for genes in vectors} == set(space.enumerate())


def test_the_whole_embedded_space_is_enumerated_lazily() -> None:
    space = load_space("embedded")
    first = list(islice(space.enumerate(), 500))
    assert len(set(first)) == 500
    assert space.count() > 10**28


def test_no_string_of_one_space_is_a_string_of_another() -> None:
    whole = {name: load_space(name) for name in SPACES if name != "snasnet-forward"}  # a part of snasnet
    rng = np.random.default_rng(0)
    for name, space in whole.items():
        for _ in range(30):
            text = str(space.sample(rng))
            for other, stranger in whole.items():
                if other != name:
                    with pytest.raises(GenotypeError, match="write one like"):
                        stranger.parse(text)


@spaces
@pytest.mark.parametrize("text", ["", " ", "\n", "t4", "0000 0000 0000 0000", "pool", "bench-", "+/p2", "-" * 99])
def test_malformed_text_names_the_value_and_an_example_that_parses(space: Space[Any], text: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        space.parse(text)
    message = str(caught.value)
    assert repr(text) in message
    assert "\n" not in message
    whole, example = load_space(space.name), message.rsplit("write one like ", 1)[1]
    assert whole.canonical(whole.parse(example)) == whole.parse(example)


@spaces
def test_genes_outside_their_bounds_are_refused(space: Space[Any]) -> None:
    genes = np.zeros_like(space.bounds())
    genes[-1] = space.bounds()[-1]
    with pytest.raises(GenotypeError, match=f"gene {len(genes) - 1} is {genes[-1]}: it must lie in 0..{genes[-1] - 1}"):
        space.decode(genes)
    with pytest.raises(GenotypeError, match=f"give {len(genes)} integers"):
        space.decode(genes[:-1])
    with pytest.raises(GenotypeError, match="give"):
        space.decode(genes * 0.5)


@spaces
def test_smallest_has_no_more_parameters_than_any_sample(space: Space[Any]) -> None:
    smallest = space.smallest(IMAGE, CLASSES)
    least = space.lower(smallest, IMAGE, CLASSES).parameter_count
    rng = np.random.default_rng(1)
    assert space.canonical(smallest) == space.parse(str(smallest)) == smallest
    assert all(least <= space.lower(space.sample(rng), IMAGE, CLASSES).parameter_count for _ in range(40))


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(GenotypeError, match="space 'nope' is unknown: choose from embedded, spikenas, "):
        load_space("nope")
    with pytest.raises(GenotypeError, match="'conv' is not one of space 'snasnet': choose from none, skip"):
        load_space("snasnet", ("conv",))
    with pytest.raises(GenotypeError, match="connect nothing"):
        load_space("embedded", ("none",))
    with pytest.raises(GenotypeError, match="need operation 'none'"):
        load_space("snasnet", ("skip",))
    with pytest.raises(GenotypeError, match="variant 'mnist' is not one of cifar10"):
        SnasnetSpace(variant="mnist")
    with pytest.raises(GenotypeError, match="variant 'mnist' is not one of cifar10"):
        BenchSpace(variant="mnist")


def test_order_and_repeats_of_operations_do_not_matter() -> None:
    assert load_space("embedded", ["lif_conv3x3", "none", "skip", "skip"]) == load_space("embedded", FEW)


def test_a_space_of_one_genotype_mutates_into_itself() -> None:
    space = load_space("spikenas-bench", ("skip",))
    genotype = space.sample(np.random.default_rng(0))
    assert space.count() == 1
    assert space.mutate(genotype, np.random.default_rng(0)) == genotype


def test_mutations_reach_every_gene() -> None:
    rng = np.random.default_rng(3)
    chain = [NARROW.sample(rng)]
    for _ in range(300):
        chain.append(NARROW.mutate(chain[-1], rng))
    assert all(a != b for a, b in pairwise(chain))
    assert {g.timesteps for g in chain} == {2, 4}
    assert {g.head for g in chain} == {"pool", "hidden32"}
    assert {len(g.stages) for g in chain} == {1, 2}
    assert {g.stem_stride for g in chain} == {1, 2}
