"""The linked image on emulated chips: sizes from the linker, bits from the reference."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from networks_deploy import random_images, random_weights
from test_cost import measured_network, skip_network

from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels, Schedule, plan_memory
from spikenas.cost.target import TARGETS, Target
from spikenas.deploy import toolchain
from spikenas.deploy.c_writer import write_firmware
from spikenas.deploy.emulator import Chip
from spikenas.deploy.qemu import run_in_qemu
from spikenas.deploy.toolchain import CORES, build_image
from spikenas.deploy.verify import verify
from spikenas.errors import InputError, MissingTool, TargetError
from spikenas.graph import Conv2d, Graph, Node
from spikenas.model import IntegerModel
from spikenas.reference import run
from spikenas.run.artifacts import plain, write_json
from spikenas.space.embedded import EmbeddedSpace

pytestmark = pytest.mark.arm
pytest.importorskip("ziglang", reason="the cross compiler of spikenas[mcu] is not installed")
pytest.importorskip("unicorn", reason="the emulator of spikenas[mcu] is not installed")

BOARDS = ("stm32f405", "stm32f746", "rp2040", "rv32")


def model_of(feedback: bool = False) -> IntegerModel:
    return random_weights(skip_network(feedback), 0)


@pytest.mark.parametrize("board", BOARDS)
def test_every_core_gives_the_bits_of_the_reference(board: str) -> None:
    model = model_of()
    certificate = verify(model, TARGETS[board], random_images(model.graph, 6, 0), count=3, compilers=("zig",))
    assert certificate.passed
    assert (certificate.host_images, certificate.host_identical) == (6, 6)
    assert (certificate.chip_images, certificate.chip_identical) == (3, 3)
    assert certificate.values_compared > 3 * 3 * (512 + 512)
    assert certificate.arena_bytes == certificate.planned_arena_bytes
    assert 0 < certificate.stack_used_bytes <= certificate.stack_bytes
    assert certificate.instructions > 100_000
    assert certificate.latency_ms_low < certificate.latency_ms_high


def test_step_major_with_feedback_on_the_chip() -> None:
    model = model_of(feedback=True)
    certificate = verify(model, TARGETS["nrf52840"], random_images(model.graph, 2, 0), count=2, compilers=("zig",))
    assert certificate.passed
    assert certificate.schedule == "step-major"
    assert certificate.energy_core_uj_high is not None
    # 156 pJ a cycle, 45 nm operations hundreds of times less
    assert certificate.energy_core_uj_low == pytest.approx(certificate.cycles_low * 156e-6)
    assert certificate.energy_45nm_nj < 1000 * certificate.energy_core_uj_low


def test_predictions_hold_on_the_measured_network() -> None:
    model = random_weights(measured_network(), 0, scale=0.3, threshold=250)
    model.weights["conv2d_5.shift"][...] = model.weights["conv2d_10.shift"][...] = 0
    images = random_images(model.graph, 2, 0)
    for board in BOARDS:
        certificate = verify(model, TARGETS[board], images, count=2, compilers=("zig",), schedule=Schedule.LAYER_MAJOR)
        assert certificate.passed
        cost = estimate(model.graph, TARGETS[board], certificate.spike_rates)
        assert cost.flash_bytes == pytest.approx(certificate.flash_bytes, rel=0.03)
        assert cost.instructions == pytest.approx(certificate.instructions, rel=0.15)
        assert certificate.arena_bytes == cost.plan.arena_bytes
        assert cost.ram_bytes >= certificate.arena_bytes + certificate.stack_used_bytes
        assert certificate.code_bytes < 8192


def test_predictions_hold_where_rows_are_shifted_to_the_left() -> None:
    space, shape = EmbeddedSpace(), (1, 8, 8)
    model = random_weights(space.lower(space.parse("t6-b4-k5s4-96:1ai.aa.1-pool"), shape, 10), 0)
    for name in ("cell1_e01_conv", "cell1_e03_conv", "cell1_e23_conv"):
        model.weights[f"{name}.shift"][...] = -6
    for board in ("nrf52840", "rp2040", "rv32"):
        certificate = verify(model, TARGETS[board], random_images(model.graph, 2, 0), count=2, compilers=("zig",))
        assert certificate.passed
        cost = estimate(model.graph, TARGETS[board], certificate.spike_rates, shifted=model.shifted_left)
        assert cost.instructions == pytest.approx(certificate.instructions, rel=0.15)
        assert cost.latency_ms_low == pytest.approx(certificate.latency_ms_low, rel=0.15)
        assert cost.latency_ms == pytest.approx(certificate.latency_ms_high, rel=0.2)
        assert (cost.energy_core_uj_high is None) == (board != "nrf52840") == (certificate.energy_core_uj_high is None)


@pytest.mark.parametrize("board", ["stm32f405", "rp2040", "rv32"])
def test_the_smallest_network_fits_4_kb(board: str) -> None:
    space, shape = EmbeddedSpace(), (1, 8, 8)
    model = random_weights(space.lower(space.smallest(shape, 10), shape, 10), 0)
    images = random_images(model.graph, 5, 0)
    limits = {"flash_bytes": 4096, "ram_bytes": 4096}
    certificate = verify(model, TARGETS[board], images, count=5, compilers=("zig",), **limits)
    assert certificate.passed
    assert certificate.kernels == "compact"
    assert certificate.chip_identical == 5
    cost = estimate(model.graph, TARGETS[board], certificate.spike_rates, **limits)
    assert cost.flash_bytes == pytest.approx(certificate.flash_bytes, rel=0.03)
    assert cost.ram_bytes == certificate.ram_bytes <= 1024
    assert cost.instructions == pytest.approx(certificate.instructions, rel=0.2)


def test_compact_kernels_of_every_width_and_schedule() -> None:
    for bits, feedback in ((8, True), (4, False), (2, True)):
        graph = with_bits(skip_network(feedback), bits)
        model = random_weights(graph, bits)
        images = random_images(model.graph, 2, bits)
        certificate = verify(model, TARGETS["rp2040"], images, count=2, compilers=("zig",), kernels=Kernels.COMPACT)
        assert certificate.passed, certificate.difference
        assert certificate.planned_arena_bytes == certificate.arena_bytes
        assert certificate.schedule == ("step-major" if feedback else "layer-major")


def with_bits(graph: Graph, bits: int) -> Graph:
    """The graph with weights of ``bits`` bits in its spiking convolution."""
    nodes = tuple(
        Node(n.name, dataclasses.replace(n.layer, weight_bits=bits))
        if isinstance(n.layer, Conv2d) and n.name != "stem"
        else n
        for n in graph.nodes
    )
    return Graph(graph.timesteps, nodes, graph.edges)


def test_a_planted_wrong_weight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    images = random_images(model.graph, 2, 0)
    weights = {name: array.copy() for name, array in model.weights.items()}
    weights["conv.weight"][5] = -weights["conv.weight"][5]
    wrong = IntegerModel(model.graph, weights, model.output_scale)
    monkeypatch.setattr(
        "spikenas.deploy.verify.write_firmware", lambda _, folder, **kw: write_firmware(wrong, folder, **kw)
    )
    certificate = verify(model, TARGETS["stm32f405"], images, count=2, compilers=("zig",))
    assert not certificate.passed
    assert certificate.host_identical == 2  # the host library was made from the right model
    assert "layer 's2' differs at timestep" in str(certificate.difference)


def test_what_does_not_fit_does_not_link() -> None:
    model = random_weights(measured_network(), 0, scale=0.3, threshold=250)
    images = random_images(model.graph, 1, 0)
    with pytest.raises(TargetError, match=r"flash of 34000 bytes overflows by \d+ bytes"):
        verify(model, TARGETS["stm32f405"], images, flash_bytes=34_000, compilers=("zig",))
    with pytest.raises(TargetError, match=r"ram of 12000 bytes overflows by \d+ bytes \(it peaks while computing"):
        verify(model, TARGETS["stm32f405"], images, ram_bytes=12_000, compilers=("zig",))


def test_a_stack_overflow_faults_instead_of_passing(tmp_path: Path) -> None:
    model = model_of()
    plan = dataclasses.replace(write_firmware(model, tmp_path / "firmware"), stack_bytes=64)
    image = build_image(tmp_path / "firmware", tmp_path / "chip.elf", TARGETS["stm32f405"], plan)
    chip = Chip(image, TARGETS["stm32f405"])
    with pytest.raises(TargetError, match="the emulated program faults in"):
        chip.classify(random_images(model.graph, 1, 0)[0], 10)


def test_the_image_starts_from_reset(tmp_path: Path) -> None:
    model = model_of()
    plan = write_firmware(model, tmp_path / "firmware")
    for board in ("rp2040", "rv32"):
        image = build_image(tmp_path / "firmware", tmp_path / "chip.elf", TARGETS[board], plan)
        chip = Chip(image, TARGETS[board])
        picture = random_images(model.graph, 1, 3)[0]
        chip.show(picture)
        chip.boot()
        started = chip.result(10).copy()
        assert np.array_equal(started, chip.classify(picture, 10)[1])
        assert started.any()


def test_the_portable_kernels_give_the_same_as_the_packed_ones(tmp_path: Path) -> None:
    model = model_of()
    plan = write_firmware(model, tmp_path / "firmware")
    picture, results, counts = random_images(model.graph, 1, 4)[0], [], []
    for flags in ((), ("-DSPK_PORTABLE",)):
        image = build_image(tmp_path / "firmware", tmp_path / "chip.elf", TARGETS["stm32f405"], plan, flags=flags)
        chip = Chip(image, TARGETS["stm32f405"])
        results.append(chip.classify(picture, 10)[1].tolist())
        counts.append(chip.counts.total)
    assert results[0] == results[1]
    assert counts[0] < counts[1]


def test_the_certificate_is_json(tmp_path: Path) -> None:
    model = model_of()
    certificate = verify(model, TARGETS["rv32"], random_images(model.graph, 1, 0), compilers=("zig",))
    write_json(tmp_path / "certificate.json", plain(certificate))
    data = json.loads((tmp_path / "certificate.json").read_text())
    assert data["image_sha256"] == certificate.image_sha256
    assert data["chip_identical"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
@pytest.mark.parametrize(("board", "machine"), [("stm32f405", "netduinoplus2"), ("rp2040", "microbit")])
def test_qemu_agrees(board: str, machine: str) -> None:
    model = model_of()
    certificate = verify(model, TARGETS[board], random_images(model.graph, 4, 0), count=4, compilers=("zig",))
    assert certificate.passed
    assert (certificate.qemu_machine, certificate.qemu_images, certificate.qemu_identical) == (machine, 4, 4)
    assert certificate.qemu_skipped is None


@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
def test_qemu_notices_a_wrong_weight_and_a_fault(tmp_path: Path) -> None:
    model, target = model_of(), TARGETS["stm32f746"]
    images = random_images(model.graph, 3, 0)
    expected = run(model, images).outputs
    plan = write_firmware(model, tmp_path / "right" / "firmware")
    right = run_in_qemu(tmp_path / "right" / "firmware", target, plan, images, 10, compiler="zig")
    assert np.array_equal(right.logits, expected)
    weights = {name: array.copy() for name, array in model.weights.items()}
    weights["conv.weight"][5] = -weights["conv.weight"][5]
    wrong = IntegerModel(model.graph, weights, model.output_scale)
    write_firmware(wrong, tmp_path / "wrong" / "firmware")
    found = run_in_qemu(tmp_path / "wrong" / "firmware", target, plan, images, 10, compiler="zig")
    assert not np.array_equal(found.logits, expected)
    starved = dataclasses.replace(plan, stack_bytes=64)
    with pytest.raises(TargetError, match=r"under QEMU \(netduinoplus2\) the program faults"):
        run_in_qemu(tmp_path / "right" / "firmware", TARGETS["stm32f405"], starved, images, 10, compiler="zig")


def test_without_qemu_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikenas.deploy.qemu.shutil.which", lambda name: None)
    model = model_of()
    images, plan = random_images(model.graph, 1, 0), plan_memory(model.graph)
    for board, package in (("stm32f405", "qemu-system-arm"), ("rv32", "qemu-system-misc")):
        skipped = run_in_qemu(Path("nowhere"), TARGETS[board], plan, images, 10, compiler="zig")
        assert skipped.logits is None
        assert f"is not installed: apt-get install {package}" in str(skipped.skipped)


def test_bad_requests() -> None:
    model = model_of()
    none = random_images(model.graph, 0, 0)
    with pytest.raises(InputError, match="at least 1"):
        verify(model, TARGETS["rv32"], none)
    fpga = Target("fpga", "LUTs", 1, 1, 1, False)
    with pytest.raises(TargetError, match="there is C only for Cortex-M0"):
        verify(model, fpga, random_images(model.graph, 1, 0))


def test_missing_tools_are_named_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    with pytest.raises(MissingTool, match=r"pip install 'spikenas\[mcu\]'"):
        toolchain.compiler_command("zig", CORES["Cortex-M4"])
    with pytest.raises(MissingTool, match="apt-get install gcc-arm-none-eabi"):
        toolchain.compiler_command("gcc", CORES["Cortex-M4"])
