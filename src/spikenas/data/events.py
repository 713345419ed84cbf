"""Recordings of event cameras and artificial cochleas, as frames of counted events.

A recording is cut into T spans of equal length from its first event to its last, and the events of each polarity are
counted in every span and pixel, some pixels of the sensor to one where it is large. A frame's pixel is
``128 + min(127, round(32 log2(1 + count)))``: nothing is 0 to a network, and 15 events or more are all that fits.

============  ======================================================================  ==============
format        what lies on disk                                                       a frame
============  ======================================================================  ==============
nmnist        N-MNIST: Train/0/00002.bin, ...                                         2 x 34 x 34
cifar10-dvs   CIFAR10-DVS: airplane/cifar10_airplane_0.aedat, ...                     2 x 32 x 32
dvs-gesture   DVS128 Gesture: trials_to_train.txt and the .aedat files it names       2 x 32 x 32
shd           Spiking Heidelberg Digits: shd_train.h5, shd_test.h5                    1 x 1 x 140
============  ======================================================================  ==============

The first three may also be folders of classes with spikingjelly's files, .npz of t, x, y and p.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from spikenas.data.arrays import UNREADABLE
from spikenas.data.encode import SILENCE
from spikenas.data.event_files import READERS, Events, read_events
from spikenas.data.image_folder import find_images
from spikenas.data.images import Progress
from spikenas.data.split import MOST_BYTES, Images, Pieces, Split
from spikenas.errors import DatasetError, MissingTool

Sample = tuple[int, Events]
COUNT_MAX = 255
REPORT_EVERY = 1000
GESTURES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise"),
    *("left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)
PIXEL_OF_COUNT = (SILENCE + np.minimum(127, np.rint(32 * np.log2(1 + np.arange(COUNT_MAX + 1))))).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Recordings:
    """The files of a dataset, and how to read the labelled samples of each part."""

    files: tuple[Path, ...]
    class_names: tuple[str, ...]
    parts: Mapping[str, Callable[[], Iterator[Sample]]]


@dataclass(frozen=True, slots=True)
class Format:
    """``sensor``: polarities, height, width; ``pool``: its rows and columns to one; ``find`` the recordings."""

    sensor: tuple[int, int, int]
    pool: tuple[int, int]
    find: Callable[[Path], Recordings]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame: polarities, height, width."""
        polarities, height, width = self.sensor
        return polarities, height // self.pool[0], width // self.pool[1]


def event_format(path: Path) -> str | None:
    """The name in FORMATS of what the folder ``path`` holds; None where it holds no events."""
    if (path / SHD_FILES["train"]).is_file():
        return "shd"
    if (path / TRIALS["train"]).is_file():
        return "dvs-gesture"
    for suffix, name in ((".bin", "nmnist"), (".aedat", "cifar10-dvs")):
        if any(True for pattern in ("*/*", "*/*/*") for _ in path.glob(pattern + suffix)):
            return name
    return None


def find_recordings(path: Path, name: str) -> Recordings:
    """The recordings in ``path`` in the format ``name``. Raises DatasetError when there are none."""
    if name not in FORMATS:
        raise DatasetError(f"event format {name!r} is unknown: choose from {', '.join(FORMATS)}")
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder; write events:{name}:PATH with the folder that was unpacked")
    return FORMATS[name].find(path)


def read_recordings(found: Recordings, name: str, frames: int, progress: Progress | None = None) -> Pieces:
    """Every sample as uint8 [frames, C, H, W]. Raises DatasetError for a file or a sample that is broken."""
    splits: dict[str, Split] = {}
    for part, samples in found.parts.items():
        images: list[Images] = []
        labels: list[int] = []
        for label, events in samples():
            if progress is not None and len(labels) % REPORT_EVERY == 0:
                progress(f"reading events: {len(labels):,} samples of {part}")
            try:
                images.append(PIXEL_OF_COUNT[counted(events, frames, FORMATS[name])])
            except DatasetError as error:
                raise DatasetError(f"{part} sample {len(labels)}: {error}; is it of format '{name}'?") from error
            labels.append(label)
            if images[0].size * len(images) > MOST_BYTES:
                raise DatasetError(
                    f"frames of {len(images):,} samples exceed {MOST_BYTES // 1024**3} GiB: lower --frames"
                )
        if not labels:
            raise DatasetError(f"{found.files[0].parent}: no {part} samples; fetch it again")
        splits[part] = Split(np.stack(images), np.array(labels, np.int64))
    return Pieces(splits["train"], splits.get("val"), splits.get("test"), found.class_names)


def counted(events: Events, frames: int, form: Format) -> Images:
    """Events of each span, polarity and pixel, at most COUNT_MAX, [frames, C, H, W].

    Raises DatasetError for an event that is not on the sensor.

    >>> events = Events(*np.array([[0, 5, 19], [0, 33, 33], [0, 0, 33], [0, 1, 1]]))
    >>> np.argwhere(counted(events, 2, FORMATS["nmnist"])).tolist()
    [[0, 0, 0, 0], [0, 1, 0, 33], [1, 1, 33, 33]]
    """
    places = np.stack((events.polarity, events.y, events.x))
    outside = (places < 0) | (places >= np.array(form.sensor)[:, np.newaxis])
    if outside.any():
        polarity, y, x = places[:, int(outside.any(axis=0).argmax())]
        raise DatasetError(f"event of polarity {polarity}, row {y}, column {x}: not on a sensor of {form.sensor}")
    time = events.time - events.time.min(initial=2**62)
    step = time * frames // (time.max(initial=0) + 1)
    shape = frames, *form.shape
    place = np.ravel_multi_index((step, places[0], places[1] // form.pool[0], places[2] // form.pool[1]), shape)
    counts = np.bincount(place, minlength=prod(shape)).reshape(shape)
    return np.minimum(counts, COUNT_MAX).astype(np.uint8)


# --- class folders ----------------------------------------------------------------------------------------


def _class_folders(path: Path) -> Recordings:
    folder = find_images(path, suffixes=tuple(READERS))

    def samples(part: str) -> Iterator[Sample]:
        for label, name in enumerate(folder.class_names):
            for file in folder.parts[part][name]:
                yield label, read_events(file)

    return Recordings(tuple(folder.files), folder.class_names, {part: partial(samples, part) for part in folder.parts})


# --- DVS128 Gesture (Amir et al., CVPR 2017) -----------------------------------------------------------------

TRIALS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}


def _gestures(path: Path) -> Recordings:
    if not (path / TRIALS["train"]).is_file():
        return _class_folders(path)
    files = {part: _trials(path / name) for part, name in TRIALS.items()}
    parts = {part: partial(_gestures_of, some) for part, some in files.items()}
    return Recordings(tuple(file for some in files.values() for file in some), GESTURES, parts)


def _trials(listing: Path) -> list[Path]:
    try:
        names = listing.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{listing}: cannot be read ({error}); unpack the dataset again") from error
    for file in (listing.parent / name for name in names):
        if not file.is_file():
            raise DatasetError(f"{file}, named in {listing.name}, is missing; unpack the dataset again")
    return [listing.parent / name for name in names]


def _gestures_of(files: list[Path]) -> Iterator[Sample]:
    """Rows of NAME_labels.csv: class from 1 on, first and last microsecond."""
    for file in files:
        events, table = read_events(file), file.with_name(f"{file.stem}_labels.csv")
        try:
            rows = np.loadtxt(table, np.int64, delimiter=",", skiprows=1, ndmin=2)
        except UNREADABLE as error:
            raise DatasetError(f"{table}: cannot be read ({error}); unpack the dataset again") from error
        for gesture, first, last in rows.tolist():
            yield gesture - 1, events.between(first, last)


# --- Spiking Heidelberg Digits (Cramer et al., arXiv 1910.07407) ------------------------------------------------

SHD_FILES = {"train": "shd_train.h5", "test": "shd_test.h5"}
SHD_ARRAYS = ("labels", "spikes/times", "spikes/units", "extra/keys")


def _spoken_digits(path: Path) -> Recordings:
    files = {part: path / name for part, name in SHD_FILES.items() if (path / name).is_file()}
    if "train" not in files:
        raise DatasetError(f"{path / SHD_FILES['train']} is missing; unpack the dataset there")
    with _hdf5(files["train"]) as train:
        class_names = tuple(name.decode() for name in train["extra/keys"][:])
    parts = {part: partial(_spoken_in, file) for part, file in files.items()}
    return Recordings(tuple(files.values()), class_names, parts)


def _spoken_in(path: Path) -> Iterator[Sample]:
    """``spikes/times`` in seconds and ``spikes/units``, the channels of the cochlea, an array each a sample."""
    with _hdf5(path) as file:
        labels, times, units = file["labels"][:], file["spikes/times"], file["spikes/units"]
        for number, label in enumerate(labels.tolist()):
            time = np.rint(times[number].astype(np.float64) * 1e6).astype(np.int64)
            zeros = np.zeros(len(time), np.int64)
            yield label, Events(time, units[number].astype(np.int64), zeros, zeros)


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingTool(f"{path}: HDF5 files need h5py: pip install 'spikenas[events]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: broken HDF5 file ({error}); fetch it again") from error
    if missing := [name for name in SHD_ARRAYS if name not in file]:
        raise DatasetError(f"{path}: holds no '{missing[0]}'; fetch it again")
    return file


FORMATS: Mapping[str, Format] = {
    "nmnist": Format((2, 34, 34), (1, 1), _class_folders),
    "cifar10-dvs": Format((2, 128, 128), (4, 4), _class_folders),
    "dvs-gesture": Format((2, 128, 128), (4, 4), _gestures),
    "shd": Format((1, 1, 700), (1, 5), _spoken_digits),
}
