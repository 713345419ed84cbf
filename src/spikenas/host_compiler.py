"""A C compiler for this computer, which several rooms use: to run the chip's code here, and to train faster."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec

from spikenas.errors import MissingTool


def host_compiler() -> list[str]:
    """The command of a C compiler for this computer. Raises MissingTool."""
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise MissingTool("no C compiler is installed: apt-get install gcc, or pip install 'spikenas[mcu]'")
