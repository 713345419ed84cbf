"""Cost: the planner against the arena a linker confirmed, brute force and hand-computed numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenas.cost.budget import Budget, format_bytes, parse_bytes
from spikenas.cost.cost import CODE_ROW, COMPACT_BELOW, estimate
from spikenas.cost.energy import operations_nj, sram_pj_per_byte
from spikenas.cost.memory import SCRATCH, Buffer, Kernels, Schedule, legal_schedules, place, plan_memory, plan_schedule
from spikenas.cost.target import TARGETS, Target, load_target
from spikenas.errors import BudgetError, TargetError
from spikenas.graph import (
    Add,
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
)


def measured_network() -> Graph:
    """The network whose arena a linker measured at 12,288 bytes without its input (docs/integer.md)."""
    g = GraphBuilder()
    image = g.add(Input((3, 32, 32)), name="image")
    s1 = g.add(Lif(), g.add(BatchNorm2d(), g.add(Conv2d(16), image)), name="s1")
    p1 = g.add(AvgPool2d((2, 2), (2, 2)), s1)
    s2 = g.add(Lif(), g.add(BatchNorm2d(), g.add(Conv2d(32), p1)), name="s2")
    branch = g.add(BatchNorm2d(), g.add(Conv2d(32), s2))
    skip = g.add(BatchNorm2d(), g.add(Conv2d(32, (1, 1), padding=(0, 0), groups=32), s2))
    s3 = g.add(Lif(), g.add(Add(), branch, skip), name="s3")
    p2 = g.add(AvgPool2d((2, 2), (2, 2)), s3)
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), p2))))
    return g.build(timesteps=4)


def skip_network(feedback: bool = False) -> Graph:
    """Image -> conv -> (skip, LIF -> conv) -> add -> LIF -> linear; optionally the sum feeds itself one step later."""
    g = GraphBuilder()
    image = g.add(Input((1, 8, 8)), name="image")
    stem = g.add(Conv2d(8), image, name="stem")
    conv = g.add(Conv2d(8), g.add(Lif(), stem, name="s1"), name="conv")
    total = g.add(Add(), stem, conv, name="total")
    if feedback:
        g.feedback(total, total)
    s2 = g.add(Lif(), total, name="s2")
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), s2))))
    return g.build(timesteps=3)


def test_planner_gives_the_arena_that_was_linked() -> None:
    plan = plan_schedule(measured_network(), Schedule.LAYER_MAJOR)
    values = place(b for b in plan.buffers if not b.name.endswith(SCRATCH))
    assert max(b.offset + b.size_bytes for b in values) == 12_288
    assert {b.name: b.size_bytes for b in values if b.name.startswith("s")} == {
        "s1": 8192,
        "s2": 4096,
        "s3": 4096,
    }


def test_step_major_keeps_membranes() -> None:
    plan = plan_schedule(measured_network(), Schedule.STEP_MAJOR)
    membranes = 2 * (16 * 32 * 32 + 2 * 32 * 16 * 16)
    assert sum(b.size_bytes for b in plan.buffers if b.name.endswith(".membrane")) == membranes
    # image 3072, logits 40, and at the peak the spikes of s1 and s2 and what the second convolution needs for one
    # pixel: 32 sums of 32 bits and a full list of 256 events (layer-major, 32 membranes of 16 bits too)
    assert plan.arena_bytes == membranes + 3072 + 40 + 2048 + 1024 + 4 * 32 + 2 * 256
    assert plan_memory(measured_network()).schedule is Schedule.LAYER_MAJOR


def test_static_current_that_is_skipped_is_stored_once() -> None:
    plan = plan_schedule(skip_network(), Schedule.LAYER_MAJOR)
    sizes = {b.name: b.size_bytes for b in plan.buffers}
    assert sizes["stem"] == 2 * 8 * 64  # not times 3: it is the same at every step
    assert sizes["s1"] == 3 * 64
    assert "total" not in sizes  # its only reader is its neuron


def test_feedback_forces_step_major_and_keeps_the_delayed_value() -> None:
    graph = skip_network(feedback=True)
    assert legal_schedules(graph) == (Schedule.STEP_MAJOR,)
    plan = plan_memory(graph)
    total = next(b for b in plan.buffers if b.name == "total")
    assert (total.first, total.last) == (0, len(plan.steps) - 1)
    assert total.size_bytes == 2 * 8 * 64


buffers = st.lists(
    st.builds(
        lambda name, size, first, length: Buffer(str(name), size, first, first + length),
        st.integers(0, 10**6),
        st.integers(1, 5000),
        st.integers(0, 8),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda b: b.name,
)


@given(buffers)
def test_no_two_live_buffers_overlap(requests: list[Buffer]) -> None:
    placed = place(requests)
    assert sorted(b.name for b in placed) == sorted(b.name for b in requests)
    for a, b in itertools.combinations(placed, 2):
        live_together = set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1))
        bytes_shared = a.offset < b.offset + b.size_bytes and b.offset < a.offset + a.size_bytes
        assert not (live_together and bytes_shared)
    top = max(b.offset + b.size_bytes for b in placed)
    for step in range(14):
        assert top >= sum(b.size_bytes for b in placed if b.first <= step <= b.last)
    assert top <= sum(b.size_bytes + 3 for b in placed)


def test_flash_counts_weights_biases_thresholds_tables_and_code() -> None:
    cost = estimate(measured_network(), load_target("stm32f405"))
    # Rows of weights are whole words: 10 outputs take 12 bytes. The stem's 27 values a channel take 28.
    weights = 28 * 16 + 9 * 16 * 32 + 9 * 32 * 32 + 32 + 2048 * 12
    biases = 4 * 16 + 2 * 32 + 2 * 32 + 4 * 10
    thresholds = 2 * (16 + 32 + 32)
    tables = 4 * 64 + 5 * 16 + 5 * 88 + 3 * 44  # steps, groups, terms, neurons
    code = next(layer.flash_bytes for layer in cost.layers if layer.name == CODE_ROW)
    assert cost.flash_bytes == weights + biases + thresholds + tables + code
    assert cost.flash_bytes == sum(layer.flash_bytes for layer in cost.layers)
    assert 2_900 < code < 8_192


def test_operations_by_hand() -> None:
    cost = estimate(measured_network(), load_target("stm32f405"), {"s1": 0.5, "s2": 0.25, "s3": 0.0})
    assert cost.macs == 27 * 16 * 1024  # the stem once, not four times
    conv2 = 9 * 16 * 32 * 256 * 4 * (0.5 * 4)  # a pooled value stands for four spikes
    conv3 = (9 * 32 * 32 + 32) * 256 * 4 * 0.25
    assert cost.synops == conv2 + conv3
    assert cost.energy_nj == pytest.approx(sum(layer.energy_nj for layer in cost.layers))


def test_energy_by_hand() -> None:
    assert sram_pj_per_byte(8192) == 10 / 8
    assert sram_pj_per_byte(8193) == 20 / 8
    assert sram_pj_per_byte(10**9) == 100 / 8
    assert operations_nj(0, 1000, 0, 4, 8192, 8192) == pytest.approx((1000 * 0.03 + 500 * 1.25) / 1000)


def test_a_faster_clock_and_packed_instructions_lower_latency() -> None:
    graph = measured_network()
    f405, rv32 = estimate(graph, TARGETS["stm32f405"]), estimate(graph, TARGETS["rv32"])
    assert f405.instructions < rv32.instructions
    # An emulator counted 11.0 million instructions at 15% spikes (docs/integer.md).
    assert f405.instructions == pytest.approx(11.0e6, rel=0.25)


@pytest.mark.parametrize(("text", "size"), [("32KB", 32768), ("1 MiB", 1048576), ("12", 12), ("0.5k", 512)])
def test_byte_counts(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["12XB", "", "KB", "-4KB", "0", "1e3", "4 K B"])
def test_malformed_byte_counts(text: str) -> None:
    with pytest.raises(BudgetError, match="byte count"):
        parse_bytes(text)


def test_budget_says_which_limit_and_by_how_much() -> None:
    cost = estimate(measured_network(), load_target("cortex-m4"))
    assert Budget(flash_bytes=10**6, ram_bytes=10**6).violations(cost) == ()
    (words,) = Budget(flash_bytes=4096, ram_bytes=10**6).violations(cost)
    assert words == f"flash {format_bytes(cost.flash_bytes)} is over 4.0 KB"
    with pytest.raises(BudgetError, match="must be positive"):
        Budget(flash_bytes=0)


def test_compact_kernels_only_where_the_fast_ones_do_not_fit() -> None:
    graph, target = measured_network(), TARGETS["stm32f405"]
    fast, compact = (estimate(graph, target, kernels=kernels) for kernels in Kernels)
    assert fast.flash_bytes > compact.flash_bytes + 3000
    assert fast.ram_bytes > compact.ram_bytes
    assert fast.instructions < compact.instructions
    assert estimate(graph, target) == fast
    assert estimate(graph, target, flash_bytes=fast.flash_bytes) == fast
    assert estimate(graph, target, ram_bytes=fast.ram_bytes - 1) == fast  # which does not fit: there is flash enough
    assert estimate(graph, target, flash_bytes=COMPACT_BELOW - 1, ram_bytes=fast.ram_bytes - 1) == compact
    assert estimate(graph, target, flash_bytes=1000) == compact


def test_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(TargetError, match="did you mean 'nrf52840'"):
        load_target("nrf5284")


BOARD = """core = "Cortex-M4"
flash_bytes = 524_288
ram_bytes = 98_304
clock_hz = 80_000_000
"""


def test_a_board_of_a_file_costs_what_the_same_row_of_targets_does(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(BOARD + "picojoules_per_cycle = 100\nnote = 'mine'\n")
    board = load_target(str(path))
    assert board == Target(str(path), "Cortex-M4", 512 * 1024, 96 * 1024, 80_000_000, True, 100, "mine")
    assert load_target(board.name) == board
    graph = measured_network()
    assert replace(estimate(graph, board), target="") == replace(
        estimate(graph, replace(TARGETS["stm32f405"], clock_hz=80_000_000, picojoules_per_cycle=100)), target=""
    )


WRONG_BOARDS = {
    "no TOML": ("core: M4", "no TOML"),
    "no file": (None, "cannot be read"),
    "missing key": (BOARD.replace("ram_bytes", "#"), "ram_bytes is missing"),
    "unknown key": (BOARD + "ram_kb = 96", "ram_kb is unknown"),
    "text for a number": (BOARD.replace("98_304", "'96KB'"), "ram_bytes is '96KB': write a positive whole number"),
    "nothing": (BOARD.replace("80_000_000", "0"), "clock_hz is 0"),
    "number for text": (BOARD + "note = 3", "note is 3: write text in quotes"),
    "no figure": (BOARD + "picojoules_per_cycle = nan", "picojoules_per_cycle is nan"),
    "unknown core": (BOARD.replace("M4", "M99"), "core is 'Cortex-M99': choose from Cortex-M4"),
}


@pytest.mark.parametrize("case", WRONG_BOARDS)
def test_a_board_that_makes_no_sense_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, words = WRONG_BOARDS[case]
    path = tmp_path / "board.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TargetError) as refusal:
        load_target(str(path))
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
