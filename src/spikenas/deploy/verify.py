"""The ladder of proof: numpy reference, the C on this computer, the linked image on an emulated chip, QEMU.

Every rung must give the same bits: all logits of all images, and on the host and the emulated chip every stored spike
and current of every layer and timestep. QEMU, where it is installed, is a second opinion on the chip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.cost import Cost, estimate
from spikenas.cost.memory import Kernels, MemoryPlan, Schedule
from spikenas.cost.target import Target
from spikenas.deploy.c_writer import write_firmware
from spikenas.deploy.certificate import Certificate
from spikenas.deploy.compare import Difference, first_difference
from spikenas.deploy.emulator import Chip, Counts
from spikenas.deploy.host_library import host_library
from spikenas.deploy.qemu import QemuRun, run_in_qemu
from spikenas.deploy.toolchain import COMPILERS, Image, build_image, compiler_command, core_of
from spikenas.errors import InputError, MissingTool, TargetError
from spikenas.graph import Lif
from spikenas.model import IntegerModel
from spikenas.reference import Trace, run

BATCH = 50
PROBE = "-DSPIKENAS_PROBE=spikenas_chip_probe"


@dataclass(frozen=True, slots=True)
class _ChipRun:
    image: Image
    identical: int
    values: int
    counts: Counts
    stack_used: int
    difference: Difference | None


def verify(
    model: IntegerModel,
    target: Target,
    images: npt.NDArray[np.uint8],
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    count: int = 100,
    compilers: Sequence[str] | None = None,
    schedule: Schedule | None = None,
    kernels: Kernels | None = None,
) -> Certificate:
    """Climb the ladder with ``images`` (uint8, as the reference takes them); ``count`` of them on the emulated chip.

    ``flash_bytes``, ``ram_bytes``: budgets for the linker, by default all that the target has. ``compilers``: by
    default the one of spikenas[mcu], and GCC where it is installed; their images must agree. ``kernels``: by default
    the fast ones if the linker finds room for them, else the compact ones.
    Raises TargetError when the image does not fit or faults, MissingTool, QuantizeError.
    """
    if not len(images):
        raise InputError("0 images: verification compares at least 1")
    core_of(target)
    chosen = _compilers(target) if compilers is None else tuple(compilers)
    with tempfile.TemporaryDirectory(prefix="spikenas-") as name:
        folder = Path(name) / "firmware"
        plan, built = _build(model, folder, target, (flash_bytes, ram_bytes), chosen, schedule, kernels)
        host_identical, difference = _climb_host(model, plan, images)
        trace = run(model, images[:count])
        runs = []
        for release, probed in built:
            if difference is None:
                runs.append(_climb_chip(model, plan, target, release, probed, images[:count], trace))
                difference = runs[-1].difference
        qemu, qemu_identical = QemuRun(None, None, "a rung below it failed"), 0
        if difference is None:
            classes = trace.outputs.shape[1]
            qemu = run_in_qemu(folder, target, plan, images[:count], classes, compiler=chosen[-1])
            qemu_identical, difference = _compare_all(model, trace, qemu)
    rates = {
        name: float(trace.values[name].mean()) for name, layer in model.graph.layers.items() if isinstance(layer, Lif)
    }
    cost = estimate(model.graph, target, rates, kernels=plan.kernels)
    return _certificate(
        target,
        plan,
        cost,
        built[0][0],
        runs,
        chosen,
        (flash_bytes or target.flash_bytes, ram_bytes or target.ram_bytes),
        (len(images), host_identical, len(images[:count])),
        (qemu, qemu_identical),
        rates,
        difference,
    )


def _compilers(target: Target) -> tuple[str, ...]:
    """All that are installed; the first one's complaint if none is."""
    found = []
    for name in COMPILERS:
        try:
            compiler_command(name, core_of(target))
            found.append(name)
        except MissingTool:
            continue
    if not found:
        compiler_command(COMPILERS[0], core_of(target))
    return tuple(found)


def _build(
    model: IntegerModel,
    folder: Path,
    target: Target,
    budgets: tuple[int | None, int | None],
    compilers: tuple[str, ...],
    schedule: Schedule | None,
    kernels: Kernels | None,
) -> tuple[MemoryPlan, list[tuple[Image, Image]]]:
    """The plan, and by compiler the images; with compact kernels where the linker has no room for the fast ones.

    The flash budget is for the first compiler to keep. Others have to agree with it in every bit, within the flash that
    the target has: GCC's code is up to 8% larger than clang's, which is what was predicted.
    """
    if kernels is None:
        try:
            return _build(model, folder, target, budgets, compilers, schedule, Kernels.FAST)
        except TargetError:
            kernels = Kernels.COMPACT
    plan = write_firmware(model, folder, schedule=schedule, kernels=kernels)
    flash_bytes, ram_bytes = budgets
    return plan, [
        _images(folder, target, plan, None if number else flash_bytes, ram_bytes, name)
        for number, name in enumerate(compilers)
    ]


def _images(
    folder: Path, target: Target, plan: MemoryPlan, flash_bytes: int | None, ram_bytes: int | None, compiler: str
) -> tuple[Image, Image]:
    """(the image that is shipped, the same with the probe, which may be a little larger)."""
    shipped, probed = (folder.parent / f"{compiler}{suffix}.elf" for suffix in ("", "_probe"))
    release = build_image(
        folder, shipped, target, plan, flash_bytes=flash_bytes, ram_bytes=ram_bytes, compiler=compiler
    )
    return release, build_image(folder, probed, target, plan, compiler=compiler, flags=(PROBE,))


def _climb_host(model: IntegerModel, plan: MemoryPlan, images: npt.NDArray[np.uint8]) -> tuple[int, Difference | None]:
    """(identical images, first difference) of the host library over all images."""
    identical = 0
    with host_library(model, schedule=plan.schedule, kernels=plan.kernels) as library:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            trace = run(model, batch)
            same = (library.predict(batch) == trace.outputs).all(axis=1)
            identical += int(same.sum())
            if not same.all():
                wrong = int(np.argmin(same))
                found: list[Difference] = []

                def seen(
                    step: int,
                    first: int,
                    last: int,
                    arena: memoryview,
                    wrong: int = wrong,
                    trace: Trace = trace,
                    found: list[Difference] = found,
                ) -> None:
                    difference = first_difference(model.graph, plan, step, range(first, last), arena, trace, wrong)
                    if difference and not found:
                        found.append(difference)

                library.watch(batch[wrong], seen)
                return identical, found[0] if found else _logit_difference(
                    model, trace, wrong, library.predict(batch)[wrong]
                )
    return identical, None


def _climb_chip(
    model: IntegerModel,
    plan: MemoryPlan,
    target: Target,
    release: Image,
    probed: Image,
    images: npt.NDArray[np.uint8],
    trace: Trace,
) -> _ChipRun:
    """Every image on the shipped program and, value by value, on the probed one."""
    chip = Chip(release, target)
    chip.paint_stack()
    chip.show(images[0])
    chip.boot()
    classes = trace.outputs.shape[1]
    difference = _compare_logits(model, trace, 0, chip.result(classes))
    before, identical = chip.counts, 0
    for number, image in enumerate(images):
        _, logits = chip.classify(image, classes)
        wrong = _compare_logits(model, trace, number, logits)
        identical += wrong is None
        difference = difference or wrong
    counts = chip.counts - before
    values, inner = _watch_chip(model, plan, target, probed, images, trace)
    return _ChipRun(release, identical, values, counts, chip.stack_used(), inner or difference)


def _watch_chip(
    model: IntegerModel,
    plan: MemoryPlan,
    target: Target,
    image: Image,
    images: npt.NDArray[np.uint8],
    trace: Trace,
) -> tuple[int, Difference | None]:
    """(values compared, first difference) of everything that the steps store."""
    found: list[Difference] = []
    number, values = 0, 0

    def seen(step: int, first: int, last: int, arena: bytes) -> None:
        nonlocal values
        difference = first_difference(model.graph, plan, step, range(first, last), arena, trace, number)
        values += sum(trace.values[name][0, 0].size for name in plan.steps[step].writes) * (last - first)
        if difference and not found:
            found.append(difference)

    chip = Chip(image, target, probe=seen)
    for number, pixels in enumerate(images):  # noqa: B007, `seen` reads it
        chip.classify(pixels, trace.outputs.shape[1])
        if found:
            break
    return values, found[0] if found else None


def _compare_logits(model: IntegerModel, trace: Trace, number: int, logits: npt.NDArray[np.int32]) -> Difference | None:
    same = np.array_equal(logits, trace.outputs[number])
    return None if same else _logit_difference(model, trace, number, logits)


def _compare_all(model: IntegerModel, trace: Trace, run: QemuRun) -> tuple[int, Difference | None]:
    """(identical images, first difference) of logits alone."""
    if run.logits is None:
        return 0, None
    found = [_compare_logits(model, trace, number, logits) for number, logits in enumerate(run.logits)]
    return found.count(None), next((difference for difference in found if difference), None)


def _logit_difference(model: IntegerModel, trace: Trace, number: int, logits: npt.NDArray[np.int32]) -> Difference:
    expected = trace.outputs[number]
    index = int(np.argmax(expected != logits))
    last = model.graph.timesteps - 1
    return Difference(model.graph.output, last, (index,), int(expected[index]), int(logits[index]), number)


def _certificate(
    target: Target,
    plan: MemoryPlan,
    cost: Cost,
    image: Image,
    runs: list[_ChipRun],
    compilers: tuple[str, ...],
    budgets: tuple[int, int],
    numbers: tuple[int, int, int],
    second: tuple[QemuRun, int],
    rates: dict[str, float],
    difference: Difference | None,
) -> Certificate:
    host_images, host_identical, chip_images = numbers
    qemu, qemu_identical = second
    chip = runs[0] if runs else None
    per_image = 1 / chip_images
    low, high = (cycles * per_image for cycles in chip.counts.cycles()) if chip else (0.0, 0.0)
    picojoules = target.picojoules_per_cycle
    return Certificate(
        target=target.name,
        core=target.core,
        clock_hz=target.clock_hz,
        compiler=compilers[0],
        schedule=plan.schedule.value,
        kernels=plan.kernels.value,
        image_sha256=image.sha256,
        flash_bytes=image.flash_bytes,
        flash_budget_bytes=budgets[0],
        code_bytes=image.code_bytes,
        ram_bytes=image.ram_bytes,
        ram_budget_bytes=budgets[1],
        arena_bytes=image.arena_bytes,
        planned_arena_bytes=plan.arena_bytes,
        stack_bytes=image.stack_bytes,
        stack_used_bytes=chip.stack_used if chip else 0,
        host_images=host_images,
        host_identical=host_identical,
        chip_images=chip_images if chip else 0,
        chip_identical=chip.identical if chip else 0,
        values_compared=chip.values if chip else 0,
        agreeing_compilers=tuple(name for name, r in zip(compilers, runs, strict=False) if r.difference is None),
        qemu_machine=qemu.machine,
        qemu_images=chip_images if qemu.machine else 0,
        qemu_identical=qemu_identical,
        qemu_skipped=qemu.skipped,
        instructions=chip.counts.total * per_image if chip else 0.0,
        cycles_low=low,
        cycles_high=high,
        latency_ms_low=1000 * low / target.clock_hz,
        latency_ms_high=1000 * high / target.clock_hz,
        energy_core_uj_low=None if picojoules is None else low * picojoules * 1e-6,
        energy_core_uj_high=None if picojoules is None else high * picojoules * 1e-6,
        energy_45nm_nj=cost.energy_nj,
        spike_rates=rates,
        difference=None if difference is None else str(difference),
    )
