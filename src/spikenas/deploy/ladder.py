"""The rungs of the ladder of proof: the C on this computer, the linked image on an emulated chip, QEMU.

The images of the emulated chip are held against the numpy reference: their logits everywhere, and on the chip every
stored spike and current of every layer and timestep. The host library classifies all images; a quicker executor than
the reference may say what is right of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.memory import MemoryPlan
from spikenas.cost.target import Target
from spikenas.deploy.compare import Difference, Watcher
from spikenas.deploy.emulator import Chip, Counts
from spikenas.deploy.host_library import HostLibrary, host_library
from spikenas.deploy.qemu import QemuRun, run_in_qemu
from spikenas.deploy.toolchain import Image
from spikenas.model import IntegerModel
from spikenas.reference import Trace, run

BATCH = 100
Progress = Callable[[str, int, int], None]
"""Is told of each rung how many of its images are done: (rung, done, of so many)."""


Answers = Callable[[IntegerModel, npt.NDArray[np.uint8]], npt.NDArray[np.integer]]
"""Gives the logits [N, classes] of images, bit for bit those of :func:`spikenas.reference.run`."""


def of_reference(model: IntegerModel, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.integer]:
    """The reference's own :data:`Answers`: a second for an image of a network that chips take a second for."""
    return np.asarray(run(model, images).outputs)


def silent(rung: str, done: int, images: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class HostRung:
    """``identical`` of ``images`` in the host library."""

    images: int
    identical: int
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class ChipRung:
    """``identical`` of the images in emulation, ``values`` compared inside; ``counts`` of what all images executed."""

    image: Image
    identical: int
    values: int
    counts: Counts
    stack_used: int
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class QemuRung:
    """``identical`` of the images in QEMU; ``machine`` None and why it is ``skipped`` where it did not run."""

    machine: str | None
    identical: int
    skipped: str | None
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Ladder:
    """What all rungs need: the network, its plan, and images (uint8) with the reference's trace of them."""

    model: IntegerModel
    plan: MemoryPlan
    target: Target
    images: npt.NDArray[np.uint8]
    trace: Trace
    progress: Progress = silent

    def host(self, images: npt.NDArray[np.uint8], answers: Answers = of_reference) -> HostRung:
        """The host library over ``images``, the ladder's own first, up to the first batch that has a wrong one.

        ``answers`` are what is right of those that the reference has not been asked.
        """
        identical = 0
        with host_library(self.model, schedule=self.plan.schedule, kernels=self.plan.kernels) as library:
            for start in range(0, len(images), BATCH):
                self.progress("host library", start, len(images))
                batch = images[start : start + BATCH]
                known = self.trace.outputs[start : start + BATCH]
                rest = batch[len(known) :]
                expected = np.concatenate((known, answers(self.model, rest))) if len(rest) else known
                logits = library.predict(batch)
                same = (logits == expected).all(axis=1)
                identical += int(same.sum())
                if not same.all():
                    wrong = int(np.argmin(same))
                    inner = self._watch_host(library, batch[wrong])
                    found = inner or self._of_logits(0, expected[wrong], logits[wrong])
                    return HostRung(len(images), identical, replace(found, image=start + wrong))
        return HostRung(len(images), identical, None)

    def chip(self, release: Image, probed: Image) -> ChipRung:
        """Every image on the program that is shipped and, value by value, on the same with the probe."""
        chip = Chip(release, self.target)
        chip.paint_stack()
        chip.show(self.images[0])
        chip.boot()
        difference = self._compare(0, chip.result(self._classes))
        before, identical = chip.counts, 0
        rung = f"emulated chip, {release.compiler}"
        for number, image in enumerate(self.images):
            self.progress(rung, number, len(self.images))
            _, logits = chip.classify(image, self._classes)
            wrong = self._compare(number, logits)
            identical += wrong is None
            difference = difference or wrong
        counts = chip.counts - before
        values, inner = self._watch_chip(probed)
        return ChipRung(release, identical, values, counts, chip.stack_used(), inner or difference)

    def qemu(self, firmware: Path, compiler: str) -> QemuRung:
        """The logits of a second emulator, where it is installed."""
        self.progress("QEMU", 0, len(self.images))
        ran: QemuRun = run_in_qemu(firmware, self.target, self.plan, self.images, self._classes, compiler=compiler)
        if ran.logits is None:
            return QemuRung(ran.machine, 0, ran.skipped, None)
        found = [self._compare(number, logits) for number, logits in enumerate(ran.logits)]
        return QemuRung(ran.machine, found.count(None), ran.skipped, next((one for one in found if one), None))

    @property
    def _classes(self) -> int:
        return int(self.trace.outputs.shape[1])

    def _watch_host(self, library: HostLibrary, image: npt.NDArray[np.uint8]) -> Difference | None:
        """The first value inside that differs from the reference's."""
        watcher = Watcher(self.model.graph, self.plan, run(self.model, image[np.newaxis]))
        library.watch(image, watcher.seen)
        return watcher.found

    def _watch_chip(self, image: Image) -> tuple[int, Difference | None]:
        """(values compared, first difference) of everything that the steps store."""
        watcher = Watcher(self.model.graph, self.plan, self.trace)
        chip = Chip(image, self.target, probe=watcher.seen)
        for number, pixels in enumerate(self.images):
            self.progress(f"emulated chip, {image.compiler}, value by value", number, len(self.images))
            watcher.begin(number)
            chip.classify(pixels, self._classes)
            if watcher.found:
                break
        return watcher.values, watcher.found

    def _compare(self, number: int, logits: npt.NDArray[np.int32]) -> Difference | None:
        expected = self.trace.outputs[number]
        return None if np.array_equal(logits, expected) else self._of_logits(number, expected, logits)

    def _of_logits(self, number: int, expected: npt.NDArray[np.integer], logits: npt.NDArray[np.integer]) -> Difference:
        index = int(np.argmax(expected != logits))
        graph = self.model.graph
        return Difference(graph.output, graph.timesteps - 1, (index,), int(expected[index]), int(logits[index]), number)
