"""Which of the tools that not everybody needs are there, and what to type for those that are not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from spikenas.data.datasets import SOURCES
from spikenas.deploy.qemu import MACHINES
from spikenas.deploy.toolchain import CROSS_GCC
from spikenas.errors import MissingTool
from spikenas.host_compiler import host_compiler
from spikenas.snn.hardware import FAST_BFLOAT16, fast_bfloat16, gpu

VERSION_SECONDS = 10.0
PACKAGES = {
    "mcu": ("spikenas verify", ("ziglang", "unicorn", "pyelftools", "capstone")),
    "nir": ("NIR files", ("nir", "h5py")),
    "onnx": ("ONNX files", ("onnx", "onnxruntime")),
    "ray": ("--executor ray", ("ray",)),
    "postgres": ("--store", ("sqlalchemy", "psycopg")),
    "spikingjelly": ("comparisons with it", ("spikingjelly",)),
}
"""By extra of ours: what it serves, and its packages."""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and what it ``serves``; ``version`` None: it is missing, and ``install`` is what to do about that."""

    name: str
    serves: str
    version: str | None
    install: str = ""


def examine() -> tuple[Tool, ...]:
    """Every optional tool, there or missing."""
    return tuple(_tools())


def _tools() -> Iterator[Tool]:
    yield Tool("torch", "training", version("torch"))
    yield Tool("GPU", "training", gpu(), "a GPU, and on Linux: pip install --force-reinstall torch")
    fast = ", ".join(fast_bfloat16()) or None
    yield Tool("bfloat16", "faster training", fast, f"a CPU with {' or '.join(FAST_BFLOAT16)}; float32 does its work")
    yield _host_compiler()
    for extra, (serves, packages) in PACKAGES.items():
        for name in packages:
            yield Tool(name, serves, _package(name), f"pip install 'spikenas[{extra}]'")
    yield Tool("tensorboard", "--tensorboard", _package("tensorboard"), "pip install tensorboard")
    for program, package in CROSS_GCC.items():
        yield _program((program,), "a second compiler in spikenas verify", package)
    boards = {machine.program: machine.package for machines in MACHINES.values() for machine in machines}
    for program, package in boards.items():
        yield _program((program,), "a second emulator in spikenas verify", package)
    yield _program(CHROMIUM, "tests of the report", "chromium")
    yield _fashion_mnist()


def _host_compiler() -> Tool:
    name, serves = "host compiler", "kernels of training, exact integers at speed"
    try:
        return Tool(name, serves, _asked(host_compiler()))
    except MissingTool:
        return Tool(name, serves, None, _apt("gcc"))


def _fashion_mnist() -> Tool:
    name, serves = "fashion-mnist", "--data fashion-mnist"
    try:
        return Tool(name, serves, f"{len(SOURCES[name]().train):,} training images")
    except MissingTool:
        return Tool(name, serves, None, _apt("dataset-fashion-mnist"))


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _program(names: tuple[str, ...], serves: str, package: str) -> Tool:
    found = next((name for name in names if shutil.which(name)), None)
    return Tool(names[0], serves, None if found is None else _asked([found]), _apt(package))


def _asked(command: list[str]) -> str:
    """The first line that a program says of its version."""
    try:
        result = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not say ({type(error).__name__})"
    return result.stdout.strip().partition("\n")[0] or "does not say"


def _apt(package: str) -> str:
    return f"sudo apt-get install {package}"
