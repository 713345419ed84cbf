"""What a step left in the arena against what the reference computed, value by value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.memory import MemoryPlan, Schedule, packed_bytes, value_bytes
from spikenas.graph import Graph, Lif, Output
from spikenas.reference import Trace

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value that is not the reference's, in the order in which the network computes."""

    layer: str
    timestep: int
    index: tuple[int, ...]
    expected: int
    found: int
    image: int = 0
    mirrored: bool = False

    def __str__(self) -> str:
        view = ", mirrored" if self.mirrored else ""
        return (
            f"image {self.image}{view}: layer '{self.layer}' differs at timestep {self.timestep}, index {self.index}: "
            f"{self.found} instead of {self.expected}"
        )


def read_value(graph: Graph, plan: MemoryPlan, name: str, timestep: int, arena: bytes | memoryview) -> Array:
    """A stored value of one timestep, in the shape that the reference gives it."""
    buffer = next(buffer for buffer in plan.buffers if buffer.name == name)
    size, shape = value_bytes(graph, name), graph.shapes[name]
    slots = buffer.size_bytes // size
    slot = timestep % slots if plan.schedule is Schedule.STEP_MAJOR or slots > 1 else 0
    raw = bytes(arena[buffer.offset + slot * size : buffer.offset + (slot + 1) * size])
    if isinstance(graph[name], Output):
        return np.frombuffer(raw, "<i4").astype(np.int64)
    last = shape[1:] if len(shape) == 3 else (1, 1)
    if isinstance(graph[name], Lif):
        pixels = np.frombuffer(raw, np.uint8).reshape(*last, packed_bytes(shape[0]))
        values = np.unpackbits(pixels, axis=2, bitorder="little")[..., : shape[0]]
    else:
        values = np.frombuffer(raw, "<i2").reshape(*last, shape[0])
    return np.asarray(values.transpose(2, 0, 1).reshape(shape), np.int64)


class Watcher:
    """Compares everything that the steps of inferences store: ``values`` so many, ``found`` the first difference."""

    def __init__(self, graph: Graph, plan: MemoryPlan, trace: Trace) -> None:
        self.graph, self.plan, self.trace = graph, plan, trace
        self.values = 0
        self.found: Difference | None = None
        self.begin(0)

    def begin(self, image: int) -> None:
        """An inference of image number ``image`` of the trace follows."""
        self._image, self._view = image, -1

    def seen(self, step: int, first: int, last: int, arena: bytes | memoryview) -> None:
        """What step number ``step`` has left in the arena after timesteps ``first`` .. ``last - 1``."""
        if step == first == 0:
            self._view += 1
        for name in self.plan.steps[step].writes:
            self.values += self.trace.values[name][0, 0].size * (last - first)
            # Logits are compared as callers get them.
            if self.found is None and not isinstance(self.graph[name], Output):
                self.found = self._difference(name, range(first, last), arena)

    def _difference(self, name: str, times: range, arena: bytes | memoryview) -> Difference | None:
        expected = self.trace.values[name][:, self._image + self._view * len(self.trace.outputs)]
        for t in times:
            wanted = expected[min(t, len(expected) - 1)]
            found = read_value(self.graph, self.plan, name, t, arena)
            if not np.array_equal(wanted, found):
                index = tuple(int(i) for i in np.argwhere(wanted != found)[0])
                return Difference(name, t, index, int(wanted[index]), int(found[index]), self._image, self._view > 0)
        return None
