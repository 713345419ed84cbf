"""A second emulator: the firmware on a board of QEMU, images in and logits out through files of the host.

QEMU shares its ancestry with Unicorn but is maintained on its own, and it models whole boards: vectors, memories and
faults are the board's, not ours. It is used where it is installed; its absence is named with the line that installs it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.memory import MemoryPlan
from spikenas.cost.target import KB, MB, Target
from spikenas.deploy.toolchain import build_image
from spikenas.errors import TargetError

IMAGES, LOGITS = "images.bin", "logits.bin"
SECONDS_PER_IMAGE, SECONDS_LEAST = 2, 60
FAULT = 99  # what runtime/qemu.c returns when the core has faulted


@dataclass(frozen=True, slots=True)
class Machine:
    """A board of QEMU; its memories, (origin, bytes)."""

    name: str
    flash: tuple[int, int]
    ram: tuple[int, int]
    program: str = "qemu-system-arm"
    package: str = "qemu-system-arm"
    options: tuple[str, ...] = ()


# The first board of a core that is large enough is taken. An mps2-an385 has a Cortex-M3, which runs what an M0+ runs.
MACHINES = {
    "Cortex-M0+": (
        Machine("microbit", (0, 256 * KB), (0x20000000, 16 * KB)),
        Machine("mps2-an385", (0, 4 * MB), (0x20000000, 4 * MB)),
    ),
    "Cortex-M4": (
        Machine("netduinoplus2", (0x08000000, 1 * MB), (0x20000000, 128 * KB)),
        Machine("mps2-an386", (0, 4 * MB), (0x20000000, 4 * MB)),
    ),
    "Cortex-M7": (Machine("mps2-an500", (0, 4 * MB), (0x20000000, 4 * MB)),),
    "RV32IMC": (
        Machine(
            "virt",
            (0x80000000, 4 * MB),
            (0x80400000, 4 * MB),
            "qemu-system-riscv32",
            "qemu-system-misc",
            ("-bios", "none"),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class QemuRun:
    """``logits`` of each image, int32 [N, classes]; or, when nothing was run, why not."""

    machine: str | None
    logits: npt.NDArray[np.int32] | None
    skipped: str | None = None


def run_in_qemu(
    folder: Path,
    target: Target,
    plan: MemoryPlan,
    images: npt.NDArray[np.uint8],
    classes: int,
    *,
    compiler: str,
) -> QemuRun:
    """Compile the firmware in ``folder`` for a board with the target's core, and run the images on it.

    Raises TargetError when the program faults, or does not end in time.
    """
    machines = MACHINES.get(target.core, ())
    if not machines:
        return QemuRun(None, None, f"QEMU has no board with core {target.core} here")
    if not shutil.which(machines[0].program):
        return QemuRun(None, None, f"{machines[0].program} is not installed: apt-get install {machines[0].package}")
    output = folder.parent / "qemu.elf"
    for machine in machines:
        try:
            build_image(
                folder,
                output,
                target,
                plan,
                flash_bytes=machine.flash[1],
                ram_bytes=machine.ram[1],
                compiler=compiler,
                flags=("-DSPIKENAS_STOP=spk_qemu_stop",),
                program="qemu.c",
                origins=(machine.flash[0], machine.ram[0]),
            )
        except TargetError as error:
            too_large = error
            continue
        return QemuRun(machine.name, _run(machine, output, images, classes, target))
    return QemuRun(None, None, f"the network is too large for QEMU's boards: {too_large}")


def _run(
    machine: Machine, image: Path, images: npt.NDArray[np.uint8], classes: int, target: Target
) -> npt.NDArray[np.int32]:
    place = image.parent
    (place / IMAGES).write_bytes(np.ascontiguousarray(images).tobytes())
    command = [
        machine.program,
        "-M",
        machine.name,
        *machine.options,
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
    ]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(image)]
    limit = max(SECONDS_LEAST, SECONDS_PER_IMAGE * len(images))
    where = f"target '{target.name}': under QEMU ({machine.name})"
    try:
        result = subprocess.run(
            command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{where} the program does not end within {limit} s") from error
    if result.returncode:
        reason = result.stderr.strip().partition("\n")[0]
        faulted = result.returncode == FAULT or "Lockup" in reason  # a fault that has no stack left for its handler
        words = "faults" if faulted else f"ends with {result.returncode}: {reason}"
        raise TargetError(f"{where} the program {words}")
    logits = np.frombuffer((place / LOGITS).read_bytes(), np.int32)
    if logits.size != len(images) * classes:
        raise TargetError(f"{where} the program wrote {logits.size} logits instead of {len(images) * classes}")
    return logits.reshape(len(images), classes)
