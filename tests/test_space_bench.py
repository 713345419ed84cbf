"""SpikeNAS-Bench's space against its table."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest

from spikenas.errors import GenotypeError
from spikenas.graph import Lif
from spikenas.space.space import load_space
from spikenas.space.spikenas_bench import (
    TABLE_SIZE,
    BenchGenotype,
    from_arch_id,
    from_digits,
    parameter_count,
    table_parameter_count,
)

DATA = Path(os.environ.get("SPIKENAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
TABLE = DATA / "spikenas-bench" / "cifar10.parquet"
CIFAR = (3, 32, 32)
GOLDEN = [  # rows of the table: arch_id, ops, params
    (7, (2, 1, 0, 0, 0, 0), 17_917_668),
    (1234, (4, 1, 4, 4, 1, 0), 19_393_764),
    (3625, (0, 0, 0, 4, 0, 1), 17_917_668),
    (8008, (3, 1, 0, 4, 2, 2), 20_131_812),
    (15624, (4, 4, 4, 4, 4, 4), 21_607_908),
]


def has_path(ops: tuple[int, ...]) -> bool:
    """The four ways through a cell of four nodes, written out."""
    e01, e02, e03, e12, e13, e23 = (op > 0 for op in ops)
    return e03 or (e01 and e13) or (e02 and e23) or (e01 and e12 and e23)


@pytest.mark.parametrize(("arch_id", "ops", "params"), GOLDEN)
def test_golden_rows(arch_id: int, ops: tuple[int, ...], params: int) -> None:
    genotype = from_arch_id(arch_id)
    assert genotype.digits == ops
    assert genotype == from_digits(ops) == load_space("spikenas-bench").parse(f"bench-{''.join(map(str, ops))}")
    assert (genotype.arch_id, table_parameter_count(genotype)) == (arch_id, params)


def test_all_rows_of_the_table() -> None:
    if not TABLE.exists():
        pytest.skip(f"{TABLE} is absent: set SPIKENAS_DATA")
    from pyarrow import parquet

    rows = parquet.read_table(TABLE, columns=["arch_id", "ops", "params", "test_acc"]).to_pylist()
    assert len(rows) == TABLE_SIZE
    for row in rows:
        genotype = from_arch_id(row["arch_id"])
        assert list(genotype.digits) == row["ops"]
        assert genotype.arch_id == row["arch_id"]
        assert table_parameter_count(genotype) == row["params"]
        # networks without a path never learned anything
        assert genotype.cell.is_live == (row["test_acc"] > 10.0)


def test_counts_without_the_table() -> None:
    everything = list(product(range(5), repeat=6))
    live = [ops for ops in everything if has_path(ops)]
    assert len(everything) - len(live) == 341
    space = load_space("spikenas-bench")
    canonical = {space.canonical(from_digits(ops)) for ops in live}
    assert canonical == set(space.enumerate())
    assert len(canonical) == space.count() == 9444


@pytest.mark.parametrize("arch_id", [*range(0, TABLE_SIZE, 211), 15624])
def test_parameter_count_is_that_of_the_graph(arch_id: int) -> None:
    space, genotype = load_space("spikenas-bench"), from_arch_id(arch_id)
    if has_path(genotype.digits):
        graph = space.lower(genotype, CIFAR, 10)
        assert graph.parameter_count == parameter_count(genotype)
        assert graph == space.lower(space.canonical(genotype), CIFAR, 10)
    else:
        with pytest.raises(GenotypeError, match="no path from input to output"):
            space.lower(genotype, CIFAR, 10)
        assert parameter_count(genotype) == 17_179_620
    dead = len(genotype.cell.connections) - len(genotype.cell.canonical.connections)
    difference = table_parameter_count(genotype) - parameter_count(genotype)
    assert 0 <= difference <= dead * 738_048
    assert difference % 738_048 == 0


def test_thresholds_and_constants() -> None:
    graph = load_space("spikenas-bench").lower(from_digits((2, 3, 4, 0, 1, 1)), CIFAR, 10)
    in_cell = [layer for name, layer in graph.layers.items() if isinstance(layer, Lif) and name.startswith("stem")]
    assert [lif.threshold for lif in in_cell] == [0.5, 1.0, 1.5]
    assert all((lif.decay, lif.gain) == (0.25, 0.75) for lif in in_cell)
    assert graph.timesteps == 5
    assert graph.shapes["hidden"] == (1024,)
    assert graph.in_shape("hidden") == (256 * 8 * 8,)


def test_refusals() -> None:
    with pytest.raises(GenotypeError, match=r"arch_id 15625: SpikeNAS-Bench has rows 0\.\.15624"):
        from_arch_id(TABLE_SIZE)
    with pytest.raises(GenotypeError, match="arch_id -1"):
        from_arch_id(-1)
    with pytest.raises(GenotypeError, match=r"'skip' is not one of none, lif_conv3x3_th1\.0, write one like"):
        load_space("spikenas-bench", ("none", "lif_conv3x3_th1.0")).parse("bench-001000")
    with pytest.raises(GenotypeError, match="'lif_conv3x3' is not one of"):
        BenchGenotype(load_space("spikenas").parse("003.00.0+003.00.0/p2").cells[0])
