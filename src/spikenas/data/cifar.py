"""CIFAR-10 and CIFAR-100 in their publisher's binary version (Krizhevsky, 2009; cs.toronto.edu/~kriz/cifar.html).

A record is a byte for the label, with CIFAR-100 one for the coarse label before it, and 3 x 32 x 32 bytes of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenas.data.split import Pieces, Split
from spikenas.errors import DatasetError

SHAPE = (3, 32, 32)
PICKLES = ("data_batch_1", "batches.meta")


@dataclass(frozen=True, slots=True)
class Version:
    """``labels``: bytes before the pixels, of which the last is the label; ``names``: a class a line."""

    train: tuple[str, ...]
    test: str
    names: str
    labels: int


VERSIONS = (
    Version(tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin", "batches.meta.txt", 1),
    Version(("train.bin",), "test.bin", "fine_label_names.txt", 2),
)


def cifar_version(path: Path) -> Version | None:
    """What ``path`` holds; None if not CIFAR. Raises DatasetError for its pickles, which are not read."""
    if all((path / name).is_file() for name in PICKLES):
        fault = "holds Python pickles, which can run any code and are not read"
        raise DatasetError(f"{path}: {fault}; fetch the binary version, or hf:uoft-cs/cifar10")
    found = (version for version in VERSIONS if (path / version.names).is_file() and (path / version.test).is_file())
    return next(found, None)


def read_cifar(path: Path, version: Version) -> Pieces:
    """Its training and test images. Raises DatasetError naming a file that is missing or cut short."""
    try:
        names = tuple((path / version.names).read_text("utf-8").split())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path / version.names}: not text; fetch it again") from error
    train = _split([path / name for name in version.train], version.labels)
    return Pieces(train, None, _split([path / version.test], version.labels), names)


def _split(files: Sequence[Path], labels: int) -> Split:
    size, parts = labels + int(np.prod(SHAPE)), []
    for file in files:
        if not file.is_file():
            raise DatasetError(f"{file} is missing; unpack the dataset again")
        raw = np.fromfile(file, np.uint8)
        if not len(raw) or len(raw) % size:
            raise DatasetError(f"{file}: {len(raw):,} bytes are no whole records of {size}; fetch it again")
        parts.append(raw.reshape(-1, size))
    records = np.concatenate(parts)
    return Split(records[:, labels:].reshape(-1, *SHAPE), records[:, labels - 1].astype(np.int64))
