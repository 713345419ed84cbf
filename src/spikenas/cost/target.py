"""The devices spikenas knows. A board is one row of :data:`TARGETS`, or a TOML file of its user's.

Flash, RAM and clock are the makers' figures. ``picojoules_per_cycle`` is supply voltage times the data sheet's
typical run current per MHz, where we have one; everything derived from it is an estimate, not a measurement.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from spikenas.errors import TargetError


@dataclass(frozen=True, slots=True)
class Core:
    """Memories of one core of a neuromorphic chip, in entries: 8-bit weights, 16-bit neurons, biases."""

    weights: int
    neurons: int
    biases: int = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A device. ``dsp``: the core has the ARMv7E-M packed 16-bit instructions, on which the kernels are faster.

    ``cores``: those of a neuromorphic chip, see :mod:`spikenas.cost.neuromorphic`; its flash and RAM are their sum.
    """

    name: str
    core: str
    flash_bytes: int
    ram_bytes: int
    clock_hz: int
    dsp: bool
    picojoules_per_cycle: float | None = None
    note: str = ""
    cores: tuple[Core, ...] = ()

    def milliseconds(self, cycles: float) -> float:
        """The time of so many cycles."""
        return 1000 * cycles / self.clock_hz

    def microjoules(self, cycles: float) -> float | None:
        """What the chip takes from its supply in so many cycles, None where nobody knows."""
        return None if self.picojoules_per_cycle is None else cycles * self.picojoules_per_cycle * 1e-6


KB, MB, MHZ = 1024, 1024**2, 1_000_000

# Nine cores (sinabs, chips/dynapcnn.py and "SPECK: Overview"): Ki entries of weights, and of neurons.
DYNAP_CNN = tuple(
    Core(weights * KB, neurons * KB)
    for weights, neurons in zip((16, 16, 16, 32, 32, 64, 64, 16, 16), (64, 64, 64, 32, 32, 16, 16, 16, 16), strict=True)
)
DYNAP_CNN_BYTES = sum(core.weights for core in DYNAP_CNN), sum(2 * core.neurons for core in DYNAP_CNN)

TARGETS = {
    target.name: target
    for target in (
        Target("cortex-m4", "Cortex-M4", 1 * MB, 256 * KB, 100 * MHZ, True, note="generic; the default"),
        Target("stm32f405", "Cortex-M4", 1 * MB, 128 * KB, 168 * MHZ, True, note="QEMU's netduinoplus2"),
        Target("stm32f746", "Cortex-M7", 1 * MB, 320 * KB, 216 * MHZ, True),
        Target("stm32h743", "Cortex-M7", 2 * MB, 1 * MB, 480 * MHZ, True),
        Target("nrf52840", "Cortex-M4", 1 * MB, 256 * KB, 64 * MHZ, True, 156.0, "52 uA/MHz at 3 V"),
        Target("rp2040", "Cortex-M0+", 2 * MB, 264 * KB, 133 * MHZ, False, note="external flash"),
        Target("max78000", "Cortex-M4", 512 * KB, 128 * KB, 100 * MHZ, True, note="its Cortex-M4, not its CNN engine"),
        Target("rv32", "RV32IMC", 1 * MB, 256 * KB, 100 * MHZ, False, note="generic RISC-V"),
        Target("dynapcnn", "DYNAP-CNN", *DYNAP_CNN_BYTES, 0, False, note="9 cores, no clock", cores=DYNAP_CNN),
        Target("speck", "DYNAP-CNN", *DYNAP_CNN_BYTES, 0, False, note="as dynapcnn, with a camera", cores=DYNAP_CNN),
    )
}
DEFAULT_TARGET = "cortex-m4"

BOARD_SUFFIX = ".toml"
TEXT, WHOLE, NUMBER = "text in quotes", "a positive whole number", "a positive number"
BOARD_KEYS = {
    "core": TEXT,
    "flash_bytes": WHOLE,
    "ram_bytes": WHOLE,
    "clock_hz": WHOLE,
    "picojoules_per_cycle": NUMBER,
    "note": TEXT,
}
"""The fields of a Target that a board's file has, and what they must be; the last two may be missing."""
BOARD_CORES = {target.core: target.dsp for target in TARGETS.values() if not target.cores}
"""The cores that a board's file may name, and whether they have the packed instructions."""


def load_target(name: str) -> Target:
    """The target of that name, or the board that the file of that name describes. Raises TargetError.

    >>> load_target("rp2040").ram_bytes
    270336
    """
    if name.endswith(BOARD_SUFFIX):
        return _read_board(Path(name))
    if (known := target_name(name)) in TARGETS:
        return TARGETS[known]
    near = difflib.get_close_matches(name.lower(), TARGETS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise TargetError(f"target '{name}' is unknown: {hint}there are {', '.join(TARGETS)}; a .toml file also works")


def target_name(name: str) -> str:
    """The name as TARGETS has it, whatever the case of its letters; a name that is not there stays as it is.

    >>> target_name("nRF52840"), target_name("Boards/mine.toml")
    ('nrf52840', 'Boards/mine.toml')
    """
    return name.lower() if name.lower() in TARGETS else name


def _read_board(path: Path) -> Target:
    """The board in a TOML file; its name is the file's path, by which it can be loaded again."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"target '{path}': cannot be read ({error.strerror}); give the file of a board") from error
    except ValueError as error:  # neither TOML nor UTF-8
        raise TargetError(f"target '{path}': no TOML ({error}); write lines like core = \"Cortex-M4\"") from error
    _check_board(path, content)
    return Target(name=str(path), dsp=BOARD_CORES[content["core"]], **content)


def _check_board(path: Path, content: Mapping[str, Any]) -> None:
    missing = [key for key in list(BOARD_KEYS)[:-2] if key not in content]
    if missing:
        raise TargetError(f"target '{path}': {missing[0]} is missing; a board has {', '.join(BOARD_KEYS)}")
    for key, value in content.items():
        if key not in BOARD_KEYS:
            raise TargetError(f"target '{path}': {key} is unknown; a board has {', '.join(BOARD_KEYS)}")
        if not _is(BOARD_KEYS[key], value):
            raise TargetError(f"target '{path}': {key} is {value!r}: write {BOARD_KEYS[key]}")
    if content["core"] not in BOARD_CORES:
        raise TargetError(f"target '{path}': core is {content['core']!r}: choose from {', '.join(BOARD_CORES)}")


def _is(kind: str, value: Any) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    return (type(value) is int or (kind == NUMBER and isinstance(value, float))) and 0 < value < inf
