"""An emulated chip: exactly its flash and its RAM are mapped, so every stray access is a fault.

Unicorn runs the image; a native callback counts executed instructions by class. It is not cycle accurate, so time is
given as a range (Cortex-M4 Technical Reference Manual, table of cycles: loads and taken branches cost more than one).
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.target import Target
from spikenas.deploy.toolchain import CAMERA, RESULT, Image, core_of
from spikenas.errors import MissingTool, TargetError
from spikenas.host_compiler import host_compiler

PAGE = 0x1000
CLASSES = ("total", "load", "store", "branch", "multiply", "words")
STACK_PAINT = 0xA5
NATIVE_TIMEOUT_US = 120_000_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Executed instructions; ``words``: registers beyond the first of each multiple load or store."""

    total: int
    load: int
    store: int
    branch: int
    multiply: int
    words: int

    def cycles(self) -> tuple[int, int]:
        """(least, most) cycles from memory without wait states."""
        low = self.total + self.words
        return low, low + self.load + 2 * self.branch

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in CLASSES))


class _Counter(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("table", ctypes.c_void_p),
        ("halfwords", ctypes.c_uint64),
        ("counts", ctypes.c_uint64 * len(CLASSES)),
    )


class Chip:
    """A chip with an image in its flash.

    ``classify`` runs one inference. ``probe(step, first, last, arena)`` is called after each step when the image was
    compiled with the probe. Raises MissingTool; TargetError when the program faults.
    """

    def __init__(
        self, image: Image, target: Target, probe: Callable[[int, int, int, bytes], None] | None = None
    ) -> None:
        for module in ("unicorn", "capstone", "elftools"):
            if not find_spec(module):
                raise MissingTool(f"{module} is not installed: pip install 'spikenas[mcu]'")
        import unicorn

        self.image, self.target, self.core = image, target, core_of(target)
        self._uc = self._engine(unicorn)
        self._registers = self._register_names(unicorn)
        self._sections: list[tuple[int, bytes]] = _sections(image.path)
        self._map()
        self._count()
        if probe is not None:
            self._watch(unicorn, probe)

    def _engine(self, unicorn: Any) -> Any:
        if self.target.core.startswith("RV32"):
            return unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        engine.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{self.core.emulator}"))
        return engine

    def _register_names(self, unicorn: Any) -> dict[str, int]:
        if self.target.core.startswith("RV32"):
            names = {"0": "A0", "1": "A1", "2": "A2", "sp": "SP", "lr": "RA", "pc": "PC"}
            return {key: getattr(unicorn.riscv_const, f"UC_RISCV_REG_{name}") for key, name in names.items()}
        names = {"0": "R0", "1": "R1", "2": "R2", "sp": "SP", "lr": "LR", "pc": "PC"}
        return {key: getattr(unicorn.arm_const, f"UC_ARM_REG_{name}") for key, name in names.items()}

    def _map(self) -> None:
        flash = _pages(self.image.flash_bytes)
        self._uc.mem_map(self.core.flash_origin, flash, 5)  # read and execute
        self._uc.mem_map(self.core.ram_origin, _pages(self.image.ram_bytes), 3)
        self._uc.mem_map(CAMERA, RESULT - CAMERA, 1)
        self._uc.mem_map(RESULT, PAGE * 16, 3)
        for address, data in self._sections:
            self._uc.mem_write(address, data)

    def _count(self) -> None:
        """Install the native counter: a Python callback for every block would be a thousand times slower."""
        address, code = next((a, d) for a, d in self._sections if a == self.core.flash_origin)
        self._table = _class_table(code[: self.image.code_bytes], address, self.target)
        self._counter = _Counter(address, address + self.image.code_bytes, self._table.ctypes.data)
        self._counter.halfwords = self._table.shape[1] - 1
        from unicorn.unicorn_py3.unicorn import uclib

        self._hook = ctypes.c_size_t()
        uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(self._hook),
            8,  # UC_HOOK_BLOCK
            ctypes.cast(_native_counter().spikenas_count, ctypes.c_void_p),
            ctypes.byref(self._counter),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )

    def _watch(self, unicorn: Any, probe: Callable[[int, int, int, bytes], None]) -> None:
        where = self.image.symbols["spikenas_chip_probe"] & ~1
        arena = self.image.symbols["spk_arena"]

        def reached(engine: Any, _address: int, _size: int, _data: object) -> None:
            step, first, last = (engine.reg_read(self._registers[r]) for r in "012")
            probe(step, first, last, bytes(engine.mem_read(arena, self.image.arena_bytes)))

        self._uc.hook_add(unicorn.UC_HOOK_CODE, reached, begin=where, end=where)

    @property
    def counts(self) -> Counts:
        """Executed so far."""
        return Counts(*self._counter.counts)

    def boot(self) -> None:
        """Run from reset through ``main`` until the program halts, on the image in the camera."""
        if not self.target.core.startswith("RV32"):
            vectors = bytes(self._uc.mem_read(self.core.flash_origin, 8))
            self._uc.reg_write(self._registers["sp"], int.from_bytes(vectors[:4], "little"))
            start = int.from_bytes(vectors[4:], "little")
        else:
            start = self.image.symbols["spk_reset"]
        self._run(start)

    def classify(self, image: npt.NDArray[np.uint8], classes: int) -> tuple[int, npt.NDArray[np.int32]]:
        """(class, logits) of one image."""
        self.show(image)
        for register, value in (
            ("0", CAMERA),
            ("1", RESULT),
            ("sp", self.image.symbols["spk_stack_top"]),
            ("lr", self.image.symbols["spk_halt"]),
        ):
            self._uc.reg_write(self._registers[register], value)
        self._run(self.image.symbols["spikenas_classify"])
        return self._uc.reg_read(self._registers["0"]), self.result(classes)

    def show(self, image: npt.NDArray[np.uint8]) -> None:
        """Put an image where the program reads it."""
        self._uc.mem_write(CAMERA, np.ascontiguousarray(image).tobytes())

    def result(self, classes: int) -> npt.NDArray[np.int32]:
        """The logits that the program wrote last."""
        return np.frombuffer(bytes(self._uc.mem_read(RESULT, 4 * classes)), np.int32)

    def paint_stack(self) -> None:
        """Fill the stack with a pattern, to see later how far it was used."""
        self._uc.mem_write(self.image.symbols["spk_stack_bottom"], bytes([STACK_PAINT]) * self.image.stack_bytes)

    def stack_used(self) -> int:
        """Bytes from the top of the stack to the deepest that was written."""
        stack = bytes(self._uc.mem_read(self.image.symbols["spk_stack_bottom"], self.image.stack_bytes))
        return len(stack) - (len(stack) - len(stack.lstrip(bytes([STACK_PAINT]))))

    def _run(self, start: int) -> None:
        from unicorn.unicorn_py3.unicorn import UcError

        thumb = 0 if self.target.core.startswith("RV32") else 1
        try:
            self._uc.emu_start(start | thumb, self.image.symbols["spk_halt"] & ~1, timeout=NATIVE_TIMEOUT_US)
        except UcError as error:
            where = self._uc.reg_read(self._registers["pc"])
            raise TargetError(
                f"target '{self.target.name}': the emulated program faults in {self._function(where)}: {error}"
            ) from error

    def _function(self, address: int) -> str:
        """The name of the function around an address."""
        below = [(value, name) for name, value in self.image.symbols.items() if value <= address + 1 and name[0] != "$"]
        return max(below)[1] if below else hex(address)


def _pages(size: int) -> int:
    return PAGE * -(-size // PAGE)


def _sections(path: Path) -> list[tuple[int, bytes]]:
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        segments = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        return [(segment["p_paddr"], segment.data()) for segment in segments]


def _class_table(code: bytes, base: int, target: Target) -> npt.NDArray[np.uint32]:
    """[classes, halfwords + 1]: how many instructions of each class start before each halfword."""
    import capstone  # type: ignore[import-untyped]

    if target.core.startswith("RV32"):
        engine = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.skipdata = True
    starts = np.zeros((len(CLASSES), len(code) // 2 + 1), np.uint32)
    for instruction in engine.disasm(code, base):
        half = (instruction.address - base) // 2
        for index, amount in enumerate(_classes(instruction.mnemonic, instruction.op_str)):
            starts[index, half] += amount
    return np.ascontiguousarray(
        np.concatenate([np.zeros((len(CLASSES), 1)), starts.cumsum(axis=1)[:, :-1]], axis=1)
    ).astype(np.uint32)


def _classes(mnemonic: str, operands: str) -> tuple[int, ...]:
    name = mnemonic.removeprefix("c.").split(".")[0]
    words = max(operands.count(",") - ("!" in operands), 0) if name.startswith(("ldm", "stm")) else 0
    if name in ("push", "pop"):
        words = operands.count(",")
    if name in ("ldrd", "strd"):
        words = 1
    load = name.startswith(("ldr", "ldm", "pop")) or name in ("lw", "lh", "lhu", "lb", "lbu", "lwsp")
    store = name.startswith(("str", "stm", "push")) or name in ("sw", "sh", "sb", "swsp")
    branch = name.startswith(("b", "cb", "tb", "j", "ret")) and not name.startswith(("bic", "bf", "bkpt"))
    multiply = name.startswith(("mul", "mla", "mls", "smul", "smla", "smlad", "umull", "smull"))
    return (1, int(load), int(store), int(branch), int(multiply), words)


@cache
def _native_counter() -> ctypes.CDLL:
    """The block callback, compiled for this computer."""
    folder = Path(tempfile.mkdtemp(prefix="spikenas-counter-"))
    source = folder / "counter.c"
    source.write_text((files("spikenas.deploy") / "runtime" / "counter.c").read_text(encoding="utf-8"))
    library = folder / "counter.so"
    command = [*host_compiler(), "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(library))
