"""Freed memory that stays in the process: a training asks for the same large tensors again at every step."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h
NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back to the system, for as long as the process lives; elsewhere nothing.

    By default it maps each large tensor anew, and the system then clears every page of it: about a third of the time
    of a training step on a CPU (see docs/benchmarks.md).
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, NEVER)
