"""What training runs on: C for a CPU, compiled for this computer when it is first needed, Triton for a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import torch

from spikenas.data.cache import cache_folder
from spikenas.errors import MissingTool
from spikenas.host_compiler import host_compiler

FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SOURCES = ("values.c", "junction.c", "pooling.c")
OFF = "SPIKENAS_KERNELS"
"""environment variable; at ``0`` torch's own operations are used instead"""


@cache
def library(values: str) -> ctypes.CDLL | None:
    """The compiled kernels for ``values`` ``float`` or ``bf16``; None without a compiler, or where one fails.

    Built once for a computer and kept in the cache folder; without OpenMP where the compiler has none.
    """
    if os.environ.get(OFF) == "0":
        return None
    source = "".join((files(__name__) / name).read_text(encoding="utf-8") for name in SOURCES)
    with contextlib.suppress(MissingTool, OSError):
        path = _built(source, host_compiler(), ["-DVALUE_BF16"] if values == "bf16" else [])
        return None if path is None else ctypes.CDLL(str(path))
    return None


def library_for(kind: torch.dtype) -> ctypes.CDLL | None:
    """The same for tensors of float32 or bfloat16."""
    return library("bf16" if kind is torch.bfloat16 else "float")


@cache
def has_triton() -> bool:
    """Whether there is Triton, which comes with torch's builds for GPUs."""
    return os.environ.get(OFF) != "0" and find_spec("triton") is not None


def _built(source: str, compiler: list[str], defines: list[str]) -> Path | None:
    key = hashlib.sha256("\0".join([source, *compiler, *FLAGS, *defines, platform.machine(), _processor()]).encode())
    folder = cache_folder() or Path(tempfile.gettempdir()) / f"spikenas-{os.getuid()}"
    built = folder / "kernels" / f"{key.hexdigest()[:24]}.so"
    if built.exists():
        return built
    built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        code, output = Path(scratch) / "kernels.c", Path(scratch) / "kernels.so"
        code.write_text(source, encoding="utf-8")
        for threads in (["-fopenmp"], []):
            command = [*compiler, *FLAGS, *defines, *threads, "-o", str(output), str(code)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                output.replace(built)
                return built
    return None


def _processor() -> str:
    """What ``-march=native`` depends on: a cache folder may be shared by different computers."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "".join(line for line in lines[:40] if line.startswith(("model name", "flags", "Features", "CPU part")))
    return platform.processor()
