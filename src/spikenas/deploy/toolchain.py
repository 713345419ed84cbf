"""Cross compilers and the chip image: what a linker says about flash and RAM.

The default compiler is clang from ``pip install ziglang``; ``arm-none-eabi-gcc`` is used when asked for. The linker
script holds the budget, so what does not fit does not link. The stack lies lowest in RAM: an overflow leaves RAM and
faults instead of overwriting the arena.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spikenas.cost.memory import MemoryPlan
from spikenas.cost.target import Target
from spikenas.deploy.c_writer import SOURCES
from spikenas.deploy.host_library import WARNINGS
from spikenas.errors import MissingTool, TargetError

CAMERA, RESULT = 0x60000000, 0x60F00000


@dataclass(frozen=True, slots=True)
class Core:
    """How to compile for a core, and where its memories begin."""

    zig: tuple[str, ...]
    gcc: tuple[str, ...]
    emulator: str
    flash_origin: int = 0x08000000
    ram_origin: int = 0x20000000

    @property
    def program(self) -> str:
        """The GCC that compiles for it."""
        return "riscv64-unknown-elf-gcc" if self.gcc[0].startswith("-march") else "arm-none-eabi-gcc"


_THUMB = ("-target", "thumb-freestanding-eabi")
CORES = {
    "Cortex-M0+": Core((*_THUMB, "-mcpu=cortex_m0plus"), ("-mcpu=cortex-m0plus", "-mthumb"), "CORTEX_M0"),
    "Cortex-M4": Core((*_THUMB, "-mcpu=cortex_m4"), ("-mcpu=cortex-m4", "-mthumb"), "CORTEX_M4"),
    "Cortex-M7": Core((*_THUMB, "-mcpu=cortex_m7"), ("-mcpu=cortex-m7", "-mthumb"), "CORTEX_M7"),
    "RV32IMC": Core(
        ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c"),
        ("-march=rv32imc", "-mabi=ilp32"),
        "RISCV32_BASE32",
        flash_origin=0x20000000,
        ram_origin=0x80000000,
    ),
}
# Unrolled loops would cost 3 KB of flash and save nothing measurable.
OPTIMIZE = ("-O2", "-fno-unroll-loops", "-fomit-frame-pointer", "-g", "-ffunction-sections", "-fdata-sections")
COMPILERS = ("zig", "gcc")
CROSS_GCC = {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf"}
"""Debian's package of each."""


@dataclass(frozen=True, slots=True)
class Image:
    """A linked program. ``code_bytes``: flash without the constants of the network."""

    path: Path
    compiler: str
    flash_bytes: int
    ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    code_bytes: int
    symbols: dict[str, int]
    sha256: str


def core_of(target: Target) -> Core:
    """How to build for a target. Raises TargetError when it is no microcontroller."""
    if target.core not in CORES:
        raise TargetError(f"target '{target.name}' has core {target.core}: there is C only for {', '.join(CORES)}")
    return CORES[target.core]


def compiler_command(compiler: str, core: Core) -> list[str]:
    """The command with the core's flags. Raises MissingTool."""
    if compiler == "zig":
        if not find_spec("ziglang"):
            raise MissingTool("the cross compiler is not installed: pip install 'spikenas[mcu]'")
        return [sys.executable, "-m", "ziglang", "cc", *core.zig, "-fno-sanitize=undefined", "-fno-unwind-tables"]
    program = core.program
    if not shutil.which(program):
        raise MissingTool(
            f"{program} is not installed: apt-get install {CROSS_GCC[program]}, or use the compiler of spikenas[mcu]"
        )
    return [program, *core.gcc, "-Wl,--no-warn-rwx-segments"] if _new_linker(program) else [program, *core.gcc]


def _new_linker(program: str) -> bool:
    text = subprocess.run([program, "-Wl,--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"(\d+)\.(\d+)", text)
    return match is not None and (int(match[1]), int(match[2])) >= (2, 39)


def build_image(
    folder: Path,
    output: Path,
    target: Target,
    plan: MemoryPlan,
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    compiler: str = "zig",
    flags: Sequence[str] = (),
    program: str = "chip.c",
    origins: tuple[int, int] | None = None,
) -> Image:
    """Compile and link the firmware in ``folder`` into the ELF file ``output`` for a target and a budget.

    ``program``: the file with ``main``. ``origins``: where flash and RAM begin, by default as on the target.
    Raises MissingTool, or TargetError naming the overflow in bytes and the step that needs most memory.
    """
    core = core_of(target)
    if origins is not None:
        core = replace(core, flash_origin=origins[0], ram_origin=origins[1])
    runtime = files("spikenas.deploy") / "runtime"
    for name in ("startup.c", program):
        (folder / name).write_text((runtime / name).read_text(encoding="utf-8"), encoding="utf-8")
    script = folder / "chip.ld"
    budget = (flash_bytes or target.flash_bytes, ram_bytes or target.ram_bytes)
    script.write_text(linker_script(core, *budget, plan.stack_bytes), encoding="utf-8")
    sources = [str(folder / name) for name in (*SOURCES[plan.kernels], "network.c", "startup.c", program)]
    places = (f"-DSPIKENAS_CAMERA={CAMERA:#x}u", f"-DSPIKENAS_RESULT={RESULT:#x}u")
    link = ("-nostdlib", "-Wl,--gc-sections", f"-Wl,-T,{script}", "-Wl,-e,spk_reset")
    command = [*compiler_command(compiler, core), *WARNINGS, *OPTIMIZE, *places, *flags, *link, "-o", str(output)]
    if compiler == "gcc":
        sources.append("-lgcc")
    result = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    if result.returncode:
        _explain(result.stderr, target, plan, budget)
    return read_image(output, compiler)


def _explain(errors: str, target: Target, plan: MemoryPlan, budget: tuple[int, int]) -> None:
    """A linker's refusal in our words, or the compiler's own: our C must compile."""
    overflows = {
        match[0] or match[2]: int(match[1] or match[3])
        for match in re.findall(
            r"region '?`?(\w+)'? ?:? overflowed by (\d+) bytes|region '(\w+)': overflowed by (\d+) bytes", errors
        )
    }
    if not overflows:
        raise RuntimeError(f"the firmware does not compile:\n{errors}")
    words = []
    for region, limit, hint in (
        ("FLASH", budget[0], "use fewer channels or bits"),
        ("RAM", budget[1], f"it peaks while computing '{plan.peak_step.node}'"),
    ):
        if region in overflows:
            words.append(f"{region.lower()} of {limit} bytes overflows by {max(overflows[region], 1)} bytes ({hint})")
    raise TargetError(f"target '{target.name}': {'; '.join(words)}")


def linker_script(core: Core, flash_bytes: int, ram_bytes: int, stack_bytes: int) -> str:
    """The memory map: vectors, code and constants in flash; stack, then arena, in RAM."""
    return f"""MEMORY {{
    FLASH (rx) : ORIGIN = {core.flash_origin:#x}, LENGTH = {flash_bytes}
    RAM (rwx) : ORIGIN = {core.ram_origin:#x}, LENGTH = {ram_bytes}
}}
SECTIONS {{
    .text : {{
        spk_flash_start = .;
        KEEP(*(.vectors))
        *(.text .text.*)
        spk_constants_start = .;
        *(.rodata .rodata.* .srodata .srodata.*)
        . = ALIGN(4);
        spk_flash_end = .;
    }} > FLASH
    .stack (NOLOAD) : {{
        spk_stack_bottom = .;
        . += {stack_bytes};
        spk_stack_top = .;
    }} > RAM
    .bss (NOLOAD) : {{
        spk_bss_start = .;
        *(.bss .bss.* .sbss .sbss.* COMMON)
        . = ALIGN(4);
        spk_bss_end = .;
    }} > RAM
    .data : {{ *(.data .data.* .sdata .sdata.*) }} > RAM
    /DISCARD/ : {{ *(.ARM.exidx*) *(.eh_frame*) *(.riscv.attributes) *(.comment) }}
    ASSERT(SIZEOF(.data) == 0, "the firmware has no initialised variables")
}}
"""


def read_image(path: Path, compiler: str) -> Image:
    """Sizes of a linked program, from its symbols. Raises MissingTool."""
    if not find_spec("elftools"):
        raise MissingTool("pyelftools is not installed: pip install 'spikenas[mcu]'")
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".symtab")
        entries = [(s.name, s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name]
    symbols = {name: value for name, value, _ in entries}
    sizes = {name: size for name, _, size in entries}
    flash = symbols["spk_flash_end"] - symbols["spk_flash_start"]
    return Image(
        path=path,
        compiler=compiler,
        flash_bytes=flash,
        ram_bytes=symbols["spk_bss_end"] - symbols["spk_stack_bottom"],
        arena_bytes=sizes["spk_arena"],
        stack_bytes=symbols["spk_stack_top"] - symbols["spk_stack_bottom"],
        code_bytes=symbols["spk_constants_start"] - symbols["spk_flash_start"],
        symbols=symbols,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
