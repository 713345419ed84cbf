"""Datasets that are arrays already: idx files (MNIST's format) and numpy's npz."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.data.split import Images, Labels, Pieces, Split
from spikenas.errors import DatasetError

# What zlib, zipfile and numpy raise on files that are cut short or damaged.
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError),
    *(zlib.error, zipfile.BadZipFile),
)
IDX_PREFIXES = {"train": "train", "test": "t10k"}


def idx_folder(path: Path) -> bool:
    """Whether ``path`` holds MNIST-style idx files, gzipped or not."""
    return _idx_file(path, "train-images-idx3-ubyte") is not None


def read_idx_folder(path: Path, class_names: tuple[str, ...] = ()) -> Pieces:
    """Read train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the t10k pair, if any.

    Raises DatasetError naming a file that is missing or malformed.
    """
    train = _idx_split(path, IDX_PREFIXES["train"])
    has_test = _idx_file(path, f"{IDX_PREFIXES['test']}-images-idx3-ubyte") is not None
    test = _idx_split(path, IDX_PREFIXES["test"]) if has_test else None
    return Pieces(train, None, test, class_names)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """One idx file: two zero bytes, type 8 (uint8), the number of axes, their lengths as
    big-endian uint32, then the bytes (format: yann.lecun.com/exdb/mnist).
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except UNREADABLE as error:
        raise DatasetError(f"{path}: cannot be read ({error}); fetch it again") from error
    axes = raw[3] if raw[:3] == b"\0\0\x08" and len(raw) > 3 else 0
    start = 4 + 4 * axes
    shape = np.frombuffer(raw[4:start], ">u4").tolist() if 0 < axes <= 4 and len(raw) >= start else [-1]
    if len(raw) - start != int(np.prod(shape, dtype=object)):
        raise DatasetError(f"{path}: not a whole idx file of unsigned bytes; fetch it again")
    # A copy, because torch warns about arrays that cannot be written.
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def _idx_file(path: Path, name: str) -> Path | None:
    found = [file for file in (path / name, path / f"{name}.gz") if file.is_file()]
    return found[0] if found else None


def _idx_split(path: Path, prefix: str) -> Split:
    arrays = []
    for name, axes in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
        file = _idx_file(path, name)
        if file is None:
            raise DatasetError(f"{path / name}[.gz] is missing; fetch it again")
        array = read_idx(file)
        if array.ndim != axes:
            raise DatasetError(f"{file}: {array.ndim} axes where {axes} belong; fetch it again")
        arrays.append(array)
    return _split(path, prefix, arrays[0][:, np.newaxis], arrays[1].astype(np.int64))


def read_npz(path: Path) -> Pieces:
    """Read train_images and train_labels, and where present val_*, test_* and class_names.

    Images are uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, features [N, W], or sequences of frames
    [N, T, C, H, W]; labels are whole numbers [N] or [N, 1]. Nothing pickled is read. Raises DatasetError naming the
    array.
    """
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path}: not an npz file; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{path}: broken npz file ({reason}); write it anew") from error
    train = _npz_split(path, arrays, "train")
    if train is None:
        raise DatasetError(f"{path}: holds {sorted(arrays)}; train_images and train_labels are needed")
    names = arrays.get("class_names")
    class_names = () if names is None else tuple(map(str, names.ravel()))
    return Pieces(train, _npz_split(path, arrays, "val"), _npz_split(path, arrays, "test"), class_names)


def pieces_arrays(pieces: Pieces) -> dict[str, npt.NDArray[Any]]:
    """What ``read_npz`` reads back: the arrays of ``pieces`` by name."""
    arrays: dict[str, npt.NDArray[Any]] = {"class_names": np.array(pieces.class_names, dtype=np.str_)}
    for name, part in pieces.parts.items():
        arrays |= {f"{name}_images": part.images, f"{name}_labels": part.labels}
    return arrays


def _npz_split(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> Split | None:
    images, labels = arrays.get(f"{name}_images"), arrays.get(f"{name}_labels")
    if images is None or labels is None:
        return None
    return _split(path, name, _channels_first(path, name, images), _whole_labels(path, name, labels))


def _split(path: Path, name: str, images: Images, labels: Labels) -> Split:
    try:
        return Split(images, labels)
    except DatasetError as error:
        raise DatasetError(f"{path} {name}: {error}") from error


def _channels_first(path: Path, name: str, images: npt.NDArray[Any]) -> Images:
    if images.dtype == np.uint8 and images.ndim == 2:
        return images[:, np.newaxis, np.newaxis]
    if images.dtype == np.uint8 and images.ndim == 3:
        return images[:, np.newaxis]
    if images.dtype == np.uint8 and images.ndim == 5:
        return images
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    rule = "uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels, or [N, T, C, H, W] is needed"
    raise DatasetError(f"{path}: {name}_images are {images.dtype} {images.shape}; {rule}")


def _whole_labels(path: Path, name: str, labels: npt.NDArray[Any]) -> Labels:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        found = f"{name}_labels are {labels.dtype} {labels.shape}"
        raise DatasetError(f"{path}: {found}; whole numbers [N] or [N, 1] are needed")
    return flat.astype(np.int64)
