"""One door to every dataset: ``load_dataset`` takes a name or a path and gives train, val and test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikenas.data.arrays import idx_folder, read_idx_folder, read_npz
from spikenas.data.cache import cached
from spikenas.data.cifar import cifar_version, read_cifar
from spikenas.data.encode import DIRECT, FRAMES, encoded
from spikenas.data.events import event_format, find_recordings, read_recordings
from spikenas.data.hub import hub_folder
from spikenas.data.image_folder import find_images, read_images
from spikenas.data.images import Progress
from spikenas.data.parquet import Files, parquet_files, read_parquet
from spikenas.data.split import Pieces, Split, check_parts, numbered_names, take_out, thin
from spikenas.errors import DatasetError, MissingTool
from spikenas.html_table import html_table

__all__ = ["SOURCES", "TOLD", "Dataset", "Split", "dataset_of", "load_dataset", "located", "same_source"]

TOLD = ("data", "seed", "limit", "encode", "frames")
"""settings of a run, a study or an analysis that say which dataset it sees; the first is the source"""
TEST_FRACTION = 0.2
TEST_SEED = ENCODE_SEED = 0  # never the caller's seed: every run of a dataset is judged on the same images
MOST_FRAMES = 256

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled images in three parts that share no image; ``told`` is what :func:`load_dataset` was told to give them.

    Raises DatasetError when image shapes differ, a label names no class, or classes are below 2.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    told: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_parts(self._parts, self.class_names)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in self._parts.items())
        return f"<Dataset '{self.name}': {shape}, {self.classes} classes, {sizes}>"

    def _repr_html_(self) -> str:
        counts = [np.bincount(split.labels, minlength=self.classes).tolist() for split in self._parts.values()]
        rows = list(zip(self.class_names, *counts, strict=True))
        return html_table(rows, ("class", *self._parts), f"Dataset {self.name}")

    @property
    def _parts(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height, width; before them the number of frames, where a sample is several."""
        return self.train.images.shape[1:]

    @property
    def frames(self) -> int | None:
        """Frames of a sample; None where it is an image."""
        return self.train.images.shape[1] if self.train.images.ndim == 5 else None

    @property
    def classes(self) -> int:
        return len(self.class_names)


def load_dataset(
    source: str,
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    limit: int | None = None,
    encode: str = DIRECT,
    frames: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load ``source`` and divide it; the same arguments give the same arrays.

    ``source`` is a name in SOURCES or else a path: a folder of class folders, of Hugging Face parquet
    files, of idx files, of CIFAR's binary files or of events, or an npz file; or ``events:FORMAT:PATH``, a format of
    :mod:`spikenas.data.events`, or ``hf:OWNER/NAME``, which alone is downloaded (:mod:`spikenas.data.hub`).

    A publisher's test set stays as it is; without one, a fifth of the images, stratified and the same
    for every seed, becomes the test set (a publisher who gives only train and validation means
    validation as the test set). Val is ``val_fraction`` of the training images, stratified and drawn
    with ``seed``, unless the publisher gives val and test. ``limit`` then caps the training images,
    keeping the mix of classes. ``encode`` turns images into ``frames`` of spikes
    (:mod:`spikenas.data.encode`), the same ones for every seed; events are counted in so many frames.
    ``progress`` is told about slow decoding.

    Raises DatasetError for a source that is unknown, unreadable or too small to divide, and
    MissingTool for a named one that is not installed.

    >>> digits = load_dataset("digits")
    >>> digits.input_shape, digits.classes, len(digits.train), len(digits.val), len(digits.test)
    ((1, 8, 8), 10, 1294, 144, 359)
    """
    _check_numbers(seed, val_fraction, limit, frames)
    pieces = _read(source, frames or FRAMES, progress)
    try:
        class_names = pieces.class_names or numbered_names(pieces.train.labels)
        check_parts(pieces.parts, class_names)
        parts = _divide(pieces, class_names, val_fraction, limit, np.random.default_rng(seed))
        train, val, test = _in_frames(parts, encode, frames)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from error
    name = source if source in SOURCES else Path(source).resolve().name.removesuffix(".npz")
    told = {"data": located(source), "seed": seed, "limit": limit, "encode": encode, "frames": frames}
    return Dataset(name, train, val, test, class_names, told)


def located(source: str) -> str:
    """``source`` as it can be read from any folder: a path that is there becomes absolute, a name stays.

    >>> located("digits"), located("hf:OWNER/NAME"), located("no/such/folder")
    ('digits', 'hf:OWNER/NAME', 'no/such/folder')
    """
    kind, path = _place(source)
    return f"{kind}{path.resolve()}" if path is not None and path.exists() else source


def same_source(kept: str, given: str) -> bool:
    """Whether a run that keeps one source goes on with another: the same place, or one of that name it moved to."""
    if kept == given or located(kept) == located(given):
        return True
    (kind, old), (other, new) = _place(kept), _place(given)
    if old is None or new is None or kind != other:
        return False
    return not old.exists() and new.exists() and old.name == new.name


def _place(source: str) -> tuple[str, Path | None]:
    """What comes before the path in ``source``, and the path; None where it is a name."""
    if not source or source in SOURCES or source.startswith("hf:"):
        return source, None
    match = re.match("events:[^:]*:", source)
    kind = match[0] if match else ""
    return kind, Path(source.removeprefix(kind))


def dataset_of(settings: Mapping[str, Any], *, progress: Progress | None = None) -> Dataset:
    """The dataset of a run, a study or an analysis, from its settings by name. Raises as :func:`load_dataset` does."""
    source, *rest = TOLD
    told = {name: settings[name] for name in rest if name in settings}
    return load_dataset(settings[source], **told, progress=progress)


def _check_numbers(seed: int, val_fraction: float, limit: int | None, frames: int | None) -> None:
    if seed < 0:
        raise DatasetError(f"seed {seed}: must be 0 or more")
    if not 0 < val_fraction < 1:
        raise DatasetError(f"val fraction {val_fraction}: must lie between 0 and 1, such as 0.1")
    if limit is not None and limit < 1:
        raise DatasetError(f"limit {limit}: must be at least one training image per class")
    if frames is not None and not 1 <= frames <= MOST_FRAMES:
        raise DatasetError(f"frames {frames}: must lie between 1 and {MOST_FRAMES}, such as {FRAMES}")


def _read(source: str, frames: int, progress: Progress | None) -> Pieces:
    if source in SOURCES:
        return SOURCES[source]()
    kind, _, place = source.partition(":")
    path = Path(source)
    try:
        if kind == "events":
            name, _, folder = place.partition(":")
            return _read_events(Path(folder), name, frames, progress)
        if kind == "hf":
            return _read_hub(source, hub_folder(place, progress), progress)
        if source and path.is_dir():
            return _read_folder(path, frames, progress)
        if path.is_file() and path.suffix == ".npz":
            return read_npz(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetError(f"{error.filename or source}: cannot be read ({reason}); repair or remove it") from error
    names = ", ".join(SOURCES)
    if source and path.exists():
        raise DatasetError(f"{source}: neither a folder nor an .npz file; give one of those, or {names}")
    if path.is_absolute():
        raise DatasetError(
            f"{source}, which holds the images, is not there: put it back, or give --data where it is now (a run that "
            "was made from it takes that when its command is repeated)"
        )
    raise DatasetError(f"unknown dataset {source!r}, and no such path: there are {names}; a path also works")


def _read_events(path: Path, name: str, frames: int, progress: Progress | None) -> Pieces:
    found = find_recordings(path, name)
    how = f"{name} {frames}"
    return cached(path, found.files, lambda: read_recordings(found, name, frames, progress), how=how)


def _read_hub(source: str, path: Path, progress: Progress | None) -> Pieces:
    if files := parquet_files(path):
        return _read_parquet(path, files, progress)
    raise DatasetError(f"{source}: no train*.parquet in it or in one folder of it; give the folder: {source}/FOLDER")


def _read_parquet(path: Path, files: Files, progress: Progress | None) -> Pieces:
    every = [file for shards in files.values() for file in shards]
    return cached(path, every, lambda: read_parquet(files, progress))


def _read_folder(path: Path, frames: int, progress: Progress | None) -> Pieces:
    if files := parquet_files(path):
        return _read_parquet(path, files, progress)
    if idx_folder(path):
        return read_idx_folder(path)
    if version := cifar_version(path):
        return read_cifar(path, version)
    if name := event_format(path):
        return _read_events(path, name, frames, progress)
    folder = find_images(path)
    return cached(path, folder.files, lambda: read_images(folder, progress))


def _divide(
    pieces: Pieces,
    class_names: tuple[str, ...],
    val_fraction: float,
    limit: int | None,
    rng: np.random.Generator,
) -> tuple[Split, Split, Split]:
    train, val, test = pieces.train, pieces.val, pieces.test
    if test is None:
        val, test = None, val
    needed = ["train", *(["val"] if val is None else []), *(["test"] if test is None else [])]
    _check_class_sizes(train, class_names, needed)
    if test is None:
        train, test = take_out(train, round(TEST_FRACTION * len(train)), np.random.default_rng(TEST_SEED))
    if val is None:
        train, val = take_out(train, round(val_fraction * len(train)), rng)
    if limit is None:
        return train, val, test
    if limit < len(class_names):
        raise DatasetError(f"limit {limit}: must be at least {len(class_names)}, one image per class")
    return thin(train, limit, rng), val, test


def _in_frames(parts: tuple[Split, Split, Split], code: str, frames: int | None) -> list[Split]:
    there = parts[0].images.shape[1] if parts[0].images.ndim == 5 else None
    if code != DIRECT:
        return [encoded(part, code, frames or FRAMES, seed=ENCODE_SEED + place) for place, part in enumerate(parts)]
    if frames is not None and frames != there:
        found = f"has {there} frames a sample: leave --frames out" if there else "has images: give --encode with it"
        raise DatasetError(f"frames {frames}: this dataset {found}")
    return list(parts)


def _check_class_sizes(train: Split, class_names: tuple[str, ...], needed: list[str]) -> None:
    counts = np.bincount(train.labels, minlength=len(class_names))
    if counts.min() < len(needed):
        has = f"class {class_names[counts.argmin()]!r} has {counts.min()} training image(s)"
        raise DatasetError(f"{has}: at least {len(needed)} are needed ({', '.join(needed)}); add some")


def _digits() -> Pieces:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits  # a second to import, and only digits needs it

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    train = Split(images, bunch.target.astype(np.int64))
    return Pieces(train, None, None, tuple(str(digit) for digit in range(10)))


def _fashion_mnist() -> Pieces:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747), 28 x 28 greyscale."""
    if not idx_folder(FASHION_MNIST_FOLDER):
        fault = f"fashion-mnist is not in {FASHION_MNIST_FOLDER}: install Debian's package"
        raise MissingTool(f"{fault} with: sudo apt-get install dataset-fashion-mnist")
    return read_idx_folder(FASHION_MNIST_FOLDER, FASHION_MNIST_CLASSES)


SOURCES: Mapping[str, Callable[[], Pieces]] = {"digits": _digits, "fashion-mnist": _fashion_mnist}
