"""The ladder of proof: numpy reference, the C on this computer, the linked image on an emulated chip, QEMU.

Every rung must give the same bits: all logits of all images, and on the emulated chip every stored spike and current of
every layer and timestep. QEMU, where it is installed, is a second opinion on the chip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels, MemoryPlan, Schedule
from spikenas.cost.target import Target
from spikenas.deploy.c_writer import write_firmware
from spikenas.deploy.certificate import Certificate
from spikenas.deploy.compare import Difference
from spikenas.deploy.ladder import Answers, ChipRung, HostRung, Ladder, Progress, QemuRung, of_reference, silent
from spikenas.deploy.toolchain import COMPILERS, Image, build_image, compiler_command, core_of
from spikenas.errors import InputError, MissingTool, TargetError
from spikenas.graph import Lif
from spikenas.model import IntegerModel
from spikenas.reference import run

PROBE = "-DSPIKENAS_PROBE=spikenas_chip_probe"


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
    answers: Answers = of_reference,
    progress: Progress = silent,
) -> Certificate:
    """Climb the ladder with ``images`` (uint8, as the reference takes them); ``count`` of them on the emulated chip.

    ``flash_bytes``, ``ram_bytes``: budgets for the linker, by default all that the target has. ``compilers``: by
    default the one of spikenas[mcu], and GCC where it is installed; their images must agree. ``kernels``: by default
    the fast ones if the linker finds room for them, else the compact ones. ``answers``: what the host library is held
    against beyond the images of the chip, whose answers are the reference's. ``progress`` is told of every rung.
    Raises TargetError when the image does not fit or faults, MissingTool, QuantizeError.
    """
    if not len(images):
        raise InputError("0 images: verification compares at least 1")
    core_of(target)
    chosen = _compilers(target) if compilers is None else tuple(compilers)
    with tempfile.TemporaryDirectory(prefix="spikenas-") as name:
        folder = Path(name) / "firmware"
        progress(f"compile with {' and '.join(chosen)}", 0, len(chosen))
        plan, built = _build(model, folder, target, (flash_bytes, ram_bytes), chosen, schedule, kernels)
        shown = images[:count]
        ladder = Ladder(model, plan, target, shown, run(model, shown), progress)
        host = ladder.host(images, answers)
        chips: list[ChipRung] = []
        for release, probed in built:
            if _first(host, *chips) is None:
                chips.append(ladder.chip(release, probed))
        qemu = QemuRung(None, 0, "a rung below it failed", None)
        if _first(host, *chips) is None:
            qemu = ladder.qemu(folder, chosen[-1])
    return _certificate(ladder, built[0][0], (flash_bytes, ram_bytes), chosen, host, chips, qemu)


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


def _first(*rungs: HostRung | ChipRung | QemuRung) -> Difference | None:
    """The first difference that a rung found."""
    return next((rung.difference for rung in rungs if rung.difference), None)


def _certificate(
    ladder: Ladder,
    image: Image,
    budgets: tuple[int | None, int | None],
    compilers: tuple[str, ...],
    host: HostRung,
    chips: list[ChipRung],
    qemu: QemuRung,
) -> Certificate:
    model, target, plan, count = ladder.model, ladder.target, ladder.plan, len(ladder.images)
    values = ladder.trace.values
    rates = {name: float(values[name].mean()) for name, layer in model.graph.layers.items() if isinstance(layer, Lif)}
    cost = estimate(model.graph, target, rates, kernels=plan.kernels)
    difference = _first(host, *chips, qemu)
    chip = chips[0] if chips else None
    low, high = (cycles / count for cycles in chip.counts.cycles()) if chip else (0.0, 0.0)
    return Certificate(
        target=target.name,
        core=target.core,
        clock_hz=target.clock_hz,
        compiler=compilers[0],
        schedule=plan.schedule.value,
        kernels=plan.kernels.value,
        image_sha256=image.sha256,
        flash_bytes=image.flash_bytes,
        flash_budget_bytes=budgets[0] or target.flash_bytes,
        code_bytes=image.code_bytes,
        ram_bytes=image.ram_bytes,
        ram_budget_bytes=budgets[1] or target.ram_bytes,
        arena_bytes=image.arena_bytes,
        planned_arena_bytes=plan.arena_bytes,
        stack_bytes=image.stack_bytes,
        stack_used_bytes=chip.stack_used if chip else 0,
        host_images=host.images,
        host_identical=host.identical,
        chip_images=count if chip else 0,
        chip_identical=chip.identical if chip else 0,
        values_compared=chip.values if chip else 0,
        agreeing_compilers=tuple(name for name, r in zip(compilers, chips, strict=False) if r.difference is None),
        qemu_machine=qemu.machine,
        qemu_images=count if qemu.machine else 0,
        qemu_identical=qemu.identical,
        qemu_skipped=qemu.skipped,
        instructions=chip.counts.total / count if chip else 0.0,
        cycles_low=low,
        cycles_high=high,
        latency_ms_low=target.milliseconds(low),
        latency_ms_high=target.milliseconds(high),
        energy_core_uj_low=target.microjoules(low),
        energy_core_uj_high=target.microjoules(high),
        energy_45nm_nj=cost.energy_nj,
        spike_rates=rates,
        difference=None if difference is None else str(difference),
    )
