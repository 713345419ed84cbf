"""The default space: sizes by an independent formula, shapes, bits and refusals."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenas.errors import GenotypeError
from spikenas.graph import AvgPool2d, Conv2d, Kind, Linear
from spikenas.space.embedded import EXAMPLE, EmbeddedSpace
from spikenas.space.embedded_network import EmbeddedGenotype, Stage
from spikenas.space.genotype import Cell

SPACE = EmbeddedSpace()
PER_CHANNEL_PAIR = {"lif_conv1x1": 1, "lif_conv3x3": 3, "lif_conv5x5": 5}  # length of a window
PER_CHANNEL = {"lif_dwconv1x1": 1, "lif_dwconv3x3": 3}


def parameters_by_hand(genotype: EmbeddedGenotype, shape: tuple[int, int, int], classes: int) -> tuple[int, int]:
    """(all trained numbers, bits of all Conv2d and Linear weights), from the genotype alone."""
    channels, height, width = shape
    axes = 2 if height > 1 else 1
    steps = [genotype.stem_stride] + [2] * (len(genotype.stages) - 1)
    bits, total, before = 0, 0, channels
    for place, (stage, step) in enumerate(zip(genotype.stages, steps, strict=True)):
        w = stage.width
        kernel = genotype.stem_kernel if place == 0 else 3
        weights = [(before * w * kernel**axes, 8 if place == 0 else genotype.weight_bits)]
        norms = 1
        for edge in stage.cell.canonical.connections:
            per_pair, per_channel = PER_CHANNEL_PAIR.get(edge.operation, 0), PER_CHANNEL.get(edge.operation, 0)
            if per_pair or per_channel:
                norms += 1
                weights.append((per_pair**axes * w * w + per_channel**axes * w, genotype.weight_bits))
        total += sum(count for count, _ in weights) + norms * 2 * w
        bits += sum(count * b for count, b in weights)
        before = w
        if place > 0 and genotype.halving == "avg":
            height, width = max(height // 2, 1), max(width // 2, 1)
        else:
            height, width = int(np.ceil(height / step)), int(np.ceil(width / step))
    features = before
    if genotype.head != "pool":
        if height * width > 16:
            height, width = max(height // 2, 1), max(width // 2, 1)
        hidden = int(genotype.head[6:])
        total += before * height * width * hidden
        bits += before * height * width * hidden * genotype.weight_bits
        features = hidden
    return total + (features + 1) * classes, bits + features * classes * 8


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    classes=st.integers(1, 20),
)
@settings(max_examples=120, deadline=None)
def test_parameters_and_bits_equal_a_formula_and_any_image_fits(
    seed: int, shape: tuple[int, int, int], classes: int
) -> None:
    genotype = SPACE.sample(np.random.default_rng(seed))
    graph = SPACE.lower(genotype, shape, classes)
    expected, expected_bits = parameters_by_hand(genotype, shape, classes)
    bits = sum(
        layer.weight_bits * int(np.prod(graph.parameter_shapes[f"{name}.weight"]))
        for name, layer in graph.layers.items()
        if isinstance(layer, Conv2d | Linear)
    )
    assert (graph.parameter_count, bits) == (expected, expected_bits)
    assert graph.timesteps == genotype.timesteps
    assert not graph.has_feedback
    assert all(min(sizes) >= 1 for sizes in graph.shapes.values())


def test_a_hand_made_genotype() -> None:
    text = "t4-b8-k3s1-16:30s.01.3-32:003.00.0-pool"
    genotype = SPACE.parse(text)
    assert genotype == EmbeddedGenotype(
        timesteps=4,
        weight_bits=8,
        stem_kernel=3,
        stem_stride=1,
        stages=(
            Stage(16, Cell.of({(0, 1): "lif_conv3x3", (0, 3): "skip", (1, 3): "lif_conv1x1", (2, 3): "lif_conv3x3"})),
            Stage(32, Cell.of({(0, 3): "lif_conv3x3"})),
        ),
        head="pool",
    )
    assert str(genotype) == text
    assert str(SPACE.canonical(genotype)) == EXAMPLE
    assert SPACE.canonical(genotype).cells[0] == Cell.of({(0, 1): "lif_conv3x3", (0, 3): "skip", (1, 3): "lif_conv1x1"})
    # stem 3*16*9+32, cell 16*16*9+32 and 16*16+32, reduction 16*32*9+64, cell 32*32*9+64, readout 33*10
    assert SPACE.lower(genotype, (3, 32, 32), 10).parameter_count == 464 + 2336 + 288 + 4672 + 9280 + 330


def test_between_stages_maps_are_halved_by_a_stride_or_by_a_mean() -> None:
    plain, text = SPACE.parse("t2-b4-k3s1-4:003.00.0-8:001.00.0-pool"), "t2-b4-k3s1-avg-4:003.00.0-8:001.00.0-pool"
    averaging = SPACE.parse(text)
    assert str(averaging) == text
    assert averaging == replace(plain, halving="avg")
    strided, averaged = (SPACE.lower(genotype, (1, 7, 12), 10) for genotype in (plain, averaging))
    assert strided["reduce2_conv"] == Conv2d(8, stride=(2, 2), weight_bits=4)
    assert strided.shapes["reduce2_conv"] == (8, 4, 6)
    assert averaged["reduce2_pool"] == AvgPool2d((2, 2), (2, 2))
    assert averaged["reduce2_conv"] == Conv2d(8, weight_bits=4)
    assert averaged.kinds["reduce2_pool"] is Kind.COUNTS
    assert averaged.shapes["reduce2_pool"] == (4, 3, 6)
    assert averaged.shapes["reduce2_conv"] == (8, 3, 6)
    assert averaged.parameter_count == strided.parameter_count


def test_one_stage_has_nothing_to_halve() -> None:
    genotype = SPACE.parse("t2-b4-k3s1-avg-4:003.00.0-pool")
    assert str(SPACE.canonical(genotype)) == "t2-b4-k3s1-4:003.00.0-pool"
    assert SPACE.decode(SPACE.encode(genotype)) == SPACE.canonical(genotype)
    narrow = EmbeddedSpace(halvings=("avg",))
    assert {narrow.sample(np.random.default_rng(seed)).halving for seed in range(9)} == {"avg"}
    assert narrow.decode(narrow.encode(narrow.smallest((1, 8, 8), 10))) == narrow.smallest((1, 8, 8), 10)


def test_outer_layers_keep_eight_bits_and_the_rest_takes_the_genotypes() -> None:
    graph = SPACE.lower(SPACE.parse("t2-b3-k5s2-8:i03.0d.5-12:001.00.0-hidden32"), (3, 32, 32), 10)
    bits = {name: layer.weight_bits for name, layer in graph.layers.items() if isinstance(layer, Conv2d | Linear)}
    assert bits.pop("stem_conv") == bits.pop("readout") == 8
    assert set(bits.values()) == {3}
    assert {"hidden", "reduce2_conv", "cell1_e01_conv"} <= bits.keys()


@pytest.mark.parametrize(
    ("shape", "head", "pooling", "flat"),
    [
        ((1, 8, 8), "pool", AvgPool2d((8, 8), (8, 8)), 4),
        ((1, 8, 8), "hidden32", AvgPool2d((2, 2), (2, 2)), 4 * 16),
        ((1, 4, 4), "hidden32", None, 4 * 16),
        ((1, 5, 5), "hidden32", AvgPool2d((2, 2), (2, 2)), 4 * 4),
        ((1, 1, 40), "hidden32", AvgPool2d((1, 2), (1, 2)), 4 * 20),
        ((1, 1, 1), "pool", None, 4),
    ],
)
def test_heads(shape: tuple[int, int, int], head: str, pooling: AvgPool2d | None, flat: int) -> None:
    graph = SPACE.lower(SPACE.parse(f"t1-b8-k3s1-4:003.00.0-{head}"), shape, 10)
    assert graph.layers.get("head_pool") == pooling
    assert graph.shapes["flat"] == (flat,)


def test_samples_spread_over_flash_budgets_from_4_kb_to_4_mb() -> None:
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(400):
        genotype = SPACE.sample(rng)
        sizes.append(parameters_by_hand(genotype, (3, 32, 32), 10)[1] / 8 / 1024)
    for low, high in [(0, 4), (4, 32), (32, 256), (256, 1024), (1024, 4096)]:
        assert sum(low <= size < high for size in sizes) > 20, (low, high)


def test_smallest_is_far_below_4_kb() -> None:
    smallest = SPACE.smallest((3, 32, 32), 10)
    assert str(smallest) == "t1-b2-k3s4-4:00s.00.0-pool"
    assert SPACE.lower(smallest, (3, 32, 32), 10).parameter_count == 3 * 4 * 9 + 8 + 50
    narrow = EmbeddedSpace(operations=("lif_conv1x1", "lif_dwconv3x3"), widths=(8, 64), heads=("hidden64", "hidden32"))
    assert str(narrow.smallest((1, 8, 8), 10)) == "t1-b2-k3s4-8:111.11.1-hidden32"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("t9-b8-k3s1-16:00s.00.0-pool", "timesteps 9 is not one of 1, 2, 3, 4, 5, 6, 7, 8"),
        ("t4-b7-k3s1-16:00s.00.0-pool", "weight bits 7 is not one of 2, 3, 4, 5, 6, 8"),
        ("t4-b8-k4s1-16:00s.00.0-pool", "stem kernel 4 is not one of 3, 5"),
        ("t4-b8-k3s3-16:00s.00.0-pool", "stem stride 3 is not one of 1, 2, 4"),
        ("t4-b8-k3s1-17:00s.00.0-pool", "width 17 is not one of 4, 8,"),
        ("t4-b8-k3s1-16:00s.00.0-hidden16", "head hidden16 is not one of pool, hidden32"),
        ("t4-b8-k3s1" + "-16:00s.00.0" * 5 + "-pool", "number of stages 5 is not one of 1, 2, 3, 4"),
        ("t4-b8-k3s1-16:000.00.0-pool", "no path from input to output"),
        ("t4-b8-k3s1-16:0000.00.0-pool", "one letter per pair of 4 nodes"),
        ("t4-b8-k3s1-16:00x.00.0-pool", "letter 'x' is not one of"),
        ("t04-b8-k3s1-16:00s.00.0-pool", "no genotype of space 'embedded'"),
        ("t4-b8-k3s1-pool", "no genotype of space 'embedded'"),
        ("T4-b8-k3s1-16:00s.00.0-pool", "no genotype of space 'embedded'"),
    ],
)
def test_bad_text_says_why(text: str, why: str) -> None:
    with pytest.raises(GenotypeError, match=re.escape(why)) as caught:
        SPACE.parse(text)
    assert repr(text) in str(caught.value)
    assert str(caught.value).endswith(f"write one like {EXAMPLE}")


def test_other_refusals() -> None:
    with pytest.raises(GenotypeError, match="'skip' is not one of none, lif_conv3x3"):
        EmbeddedSpace(operations=("none", "lif_conv3x3")).parse("t4-b8-k3s1-16:00s.00.0-pool")
    with pytest.raises(GenotypeError, match=r"takes images \(channels, height, width\)"):
        SPACE.lower(SPACE.parse(EXAMPLE), (64,), 10)
    with pytest.raises(GenotypeError, match="no path"):
        SPACE.lower(EmbeddedGenotype(1, 8, 3, 1, (Stage(4, Cell.of({})),)), (1, 8, 8), 10)


def test_genes_of_absent_stages_repeat_the_last_one() -> None:
    two = SPACE.parse("t4-b8-k3s1-16:30s.01.0-32:003.00.0-pool")
    genes = SPACE.encode(two)
    genes[6] = 3  # four stages
    assert str(SPACE.decode(genes)) == "t4-b8-k3s1-16:30s.01.0-32:003.00.0-32:003.00.0-32:003.00.0-pool"
