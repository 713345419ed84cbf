"""The network as a shared library of this computer: the same C that runs on the chip, for whole test sets."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.memory import Kernels, MemoryPlan, Schedule
from spikenas.deploy.c_writer import SOURCES, write_firmware
from spikenas.errors import ModelError
from spikenas.host_compiler import host_compiler
from spikenas.model import IntegerModel

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")
# Kernels in vector registers, of whatever width this computer has.
FAST = ("-O3", "-march=native", "-DSPK_VECTORS")
PROBE = "-DSPIKENAS_PROBE=spikenas_host_probe"


def compile_sources(folder: Path, output: Path, kernels: Kernels, flags: Sequence[str], *extra: str) -> None:
    """Compile the firmware in ``folder``. Raises RuntimeError with the compiler's words: our C must compile."""
    sources = [str(folder / name) for name in (*SOURCES[kernels], "network.c", *extra)]
    command = [*host_compiler(), *WARNINGS, *flags, "-o", str(output), *sources]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[:8])} ... failed:\n{result.stderr}")


class HostLibrary:
    """A loaded network; not for two threads at once, since all its memory is one arena.

    ``predict``: uint8 images as :func:`spikenas.reference.run` takes them -> int32 logits [N, classes].
    """

    def __init__(self, model: IntegerModel, plan: MemoryPlan, path: Path) -> None:
        self.model = model
        self.plan = plan
        self.shape = model.graph.sample_shape
        self.classes = model.graph.shapes[model.graph.output][0]
        self._library = ctypes.CDLL(str(path))
        self._library.spikenas_arena.restype = ctypes.POINTER(ctypes.c_uint8)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """The integer logits. Raises ModelError on images of another shape."""
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ModelError(f"images are {images.dtype} {images.shape[1:]}: the network takes uint8 {self.shape}")
        pixels = np.ascontiguousarray(images)
        logits = np.zeros((len(images), self.classes), np.int32)
        self._library.spikenas_classify_many(
            ctypes.c_void_p(pixels.ctypes.data), ctypes.c_void_p(logits.ctypes.data), ctypes.c_size_t(len(images))
        )
        return logits

    def watch(self, image: npt.NDArray[np.uint8], seen: Callable[[int, int, int, memoryview], None]) -> None:
        """Run one image; ``seen(step, first, last, arena)`` after each step has computed steps first .. last - 1."""
        arena = memoryview(
            ctypes.cast(self._library.spikenas_arena(), ctypes.POINTER(ctypes.c_uint8 * self.plan.arena_bytes)).contents
        )
        kind = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)
        probe = kind(lambda step, first, last: seen(step, first, last, arena))
        self._library.spikenas_set_probe(probe)
        try:
            self.predict(image[np.newaxis])
        finally:
            self._library.spikenas_set_probe(None)


@contextmanager
def host_library(
    model: IntegerModel,
    *,
    schedule: Schedule | None = None,
    kernels: Kernels = Kernels.FAST,
    flags: Sequence[str] = FAST,
) -> Iterator[HostLibrary]:
    """Write, compile and load a model; the files are gone afterwards. Raises MissingTool, QuantizeError."""
    with _compiled(model, schedule, kernels, flags) as (plan, path):
        yield HostLibrary(model, plan, path)


@contextmanager
def _compiled(
    model: IntegerModel,
    schedule: Schedule | None = None,
    kernels: Kernels = Kernels.FAST,
    flags: Sequence[str] = FAST,
) -> Iterator[tuple[MemoryPlan, Path]]:
    """The plan, and the file of the library."""
    with tempfile.TemporaryDirectory(prefix="spikenas-") as name:
        folder = Path(name) / "firmware"
        plan = write_firmware(model, folder, schedule=schedule, kernels=kernels)
        source = (files("spikenas.deploy") / "runtime" / "host.c").read_text(encoding="utf-8")
        (folder / "host.c").write_text(source, encoding="utf-8")
        output = Path(name) / "network.so"
        compile_sources(folder, output, kernels, [*flags, PROBE, "-shared", "-fPIC"], "host.c")
        yield plan, output


def predict(model: IntegerModel, images: npt.NDArray[np.uint8], *, threads: int = 1) -> npt.NDArray[np.int32]:
    """Integer logits [N, classes] of uint8 images, bit for bit those of :func:`spikenas.reference.run`.

    Each of ``threads`` works on its own copy of the library, since a copy has one arena.
    """
    threads = max(1, min(threads, len(images)))
    with _compiled(model) as (plan, path):
        copies = [path, *(Path(shutil.copy(path, path.with_name(f"network{i}.so"))) for i in range(1, threads))]
        libraries = [HostLibrary(model, plan, copy) for copy in copies]
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the interpreter while C runs
            parts = pool.map(HostLibrary.predict, libraries, np.array_split(images, threads))
            return np.concatenate(list(parts))
