"""What a verification found, as a value that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass

from spikenas.cost.dense import DenseComparison, compare_dense
from spikenas.cost.memory import Kernels
from spikenas.cost.target import Target
from spikenas.graph import Graph


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was built, how large it is and what was compared; ``difference`` is None when all bits are equal.

    Flash and RAM are the linker's. ``stack_used_bytes`` is the deepest byte that was written over all images;
    ``instructions`` were executed by the emulated core, on average per image. ``cycles_*`` and ``latency_ms_*`` bracket
    what they take without flash wait states. ``energy_core_uj_*`` are those cycles at the target's data-sheet current
    (None where we have no figure), ``energy_45nm_nj`` the same inferences' operations at 45 nm: both are estimates.
    ``qemu_skipped`` says why QEMU did not run, with the line that installs it; None if it did.
    """

    target: str
    core: str
    clock_hz: int
    compiler: str
    schedule: str
    kernels: str
    image_sha256: str
    flash_bytes: int
    flash_budget_bytes: int
    code_bytes: int
    ram_bytes: int
    ram_budget_bytes: int
    arena_bytes: int
    planned_arena_bytes: int
    stack_bytes: int
    stack_used_bytes: int
    host_images: int
    host_identical: int
    chip_images: int
    chip_identical: int
    values_compared: int
    agreeing_compilers: tuple[str, ...]
    qemu_machine: str | None
    qemu_images: int
    qemu_identical: int
    qemu_skipped: str | None
    instructions: float
    cycles_low: float
    cycles_high: float
    latency_ms_low: float
    latency_ms_high: float
    energy_core_uj_low: float | None
    energy_core_uj_high: float | None
    energy_45nm_nj: float
    spike_rates: dict[str, float]
    difference: str | None

    @property
    def passed(self) -> bool:
        """Whether every rung gave the same bits."""
        return self.difference is None

    def against_dense(self, graph: Graph, target: Target) -> DenseComparison:
        """What was executed of ``graph`` on ``target`` beside its dense twin, at the spike rates that were seen."""
        kernels = Kernels(self.kernels)
        return compare_dense(graph, target, self.spike_rates, executed=self.instructions, kernels=kernels)
