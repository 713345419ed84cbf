"""The devices spikenas knows. A board is one row of :data:`TARGETS`.

Flash, RAM and clock are the makers' figures. ``picojoules_per_cycle`` is supply voltage times the data sheet's
typical run current per MHz, where we have one; everything derived from it is an estimate, not a measurement.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

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


def load_target(name: str) -> Target:
    """The target of that name. Raises TargetError with the nearest names."""
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(name.lower(), TARGETS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise TargetError(f"target '{name}' is unknown: {hint}there are {', '.join(TARGETS)}")
