"""Decoded images kept on disk, so that only the first load of a dataset decodes.

The cache is a convenience: a missing, stale, corrupt or unwritable one changes nothing but time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spikenas.data.arrays import pieces_arrays, read_npz
from spikenas.data.split import Pieces
from spikenas.errors import DatasetError

LAYOUT = 1  # raise when what is stored, or how images are decoded, changes


def cache_folder() -> Path | None:
    """SPIKENAS_CACHE, else spikenas under XDG_CACHE_HOME, else ~/.cache/spikenas; None if homeless."""
    if own := os.environ.get("SPIKENAS_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the XDG base directory specification says to ignore a relative path
        return shared / "spikenas"
    with contextlib.suppress(RuntimeError):  # a container's user may have no home
        return Path.home() / ".cache" / "spikenas"
    return None


def cached(root: Path, files: Sequence[Path], build: Callable[[], Pieces], *, how: str = "") -> Pieces:
    """``build()``, or what it gave for the same ``how`` when ``files`` had the same names, sizes and times."""
    folder = cache_folder()
    if folder is None:
        return build()
    owner = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    entry = folder / f"{owner}-{_fingerprint(root, files, how)}.npz"
    with contextlib.suppress(DatasetError):
        return read_npz(entry)
    pieces = build()
    with contextlib.suppress(OSError):
        _store(entry, pieces)
        for stale in set(folder.glob(f"{owner}-*.npz")) - {entry}:
            stale.unlink(missing_ok=True)
    return pieces


def _fingerprint(root: Path, files: Sequence[Path], how: str) -> str:
    digest = hashlib.sha256(f"layout {LAYOUT} {how}".encode())
    for file in sorted(files):
        stat = file.stat()
        digest.update(os.fsencode(file.relative_to(root)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:20]


def _store(entry: Path, pieces: Pieces) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=entry.parent, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **pieces_arrays(pieces))
        temporary.replace(entry)
    finally:
        temporary.unlink(missing_ok=True)
