"""Images with labels, and how one set of them becomes two with the same mix of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenas.errors import DatasetError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

MOST_BYTES = 8 * 1024**3
"""of samples that are kept in memory"""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """``images`` uint8 [N, C, H, W], or [N, T, C, H, W] for T frames each, and ``labels`` int64 [N]; at least one.

    Raises DatasetError when shapes, types or lengths disagree.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim not in (4, 5) or 0 in images.shape:
            raise DatasetError(
                f"images are {images.dtype} {images.shape}: uint8 [N, C, H, W] or [N, T, C, H, W], none of them 0, "
                "is needed"
            )
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise DatasetError(f"labels are {labels.dtype} {labels.shape}: int64 [N] is needed")
        if len(images) != len(labels):
            raise DatasetError(f"{len(images)} images have {len(labels)} labels: give one label per image")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[np.intp]) -> Split:
        """The images at ``index``, in that order."""
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A dataset as its publisher divided it: only the training part is sure to be there.

    ``class_names`` is empty where the publisher only numbered the classes.
    """

    train: Split
    val: Split | None
    test: Split | None
    class_names: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Split]:
        """The parts that are there, by name."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in every.items() if part is not None}


def check_parts(parts: Mapping[str, Split], class_names: tuple[str, ...]) -> None:
    """Raise DatasetError unless all parts share one image shape and every label names a class."""
    classes = len(class_names)
    if classes < 2:
        raise DatasetError(f"classes {list(class_names)}: a classifier needs at least 2; add another class")
    shapes = {name: part.images.shape[1:] for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        raise DatasetError(f"images differ in size ([frames x] channels x height x width): {found}; make them equal")
    for name, part in parts.items():
        bad = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
        if len(bad):
            where = f"label {part.labels[bad[0]]} of {name} image {bad[0]}"
            raise DatasetError(f"{where}: labels must be 0 to {classes - 1}; relabel or remove that image")


def numbered_names(labels: Labels) -> tuple[str, ...]:
    """Names "0", "1", ... for labels that came without names."""
    classes = int(labels.max()) + 1
    if classes > len(labels):
        raise DatasetError(
            f"label {classes - 1} among {len(labels)} images: number the classes 0, 1, 2, ... without gaps"
        )
    return tuple(str(label) for label in range(classes))


def stratified_order(labels: Labels, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """A random order of the images in which every prefix mixes the classes as the whole does.

    Within its class of n images, the image of rank r is keyed (r + 1/2) / n, which shares seats
    by Sainte-Lague's method. The first of each class moves to the front and the last to the back,
    so a prefix of K to N - K images, and what it leaves, hold every one of the K classes.
    """
    shuffled = rng.permutation(len(labels))
    key = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        key[members] = (np.arange(len(members)) + 0.5) / len(members)
        key[members[-1]] = 2.0
        key[members[0]] = -1.0
    return shuffled[np.argsort(key, kind="stable")]


def take_out(split: Split, count: int, rng: np.random.Generator) -> tuple[Split, Split]:
    """``(rest, part)``: ``part`` has ``count`` images, class-balanced, and ``rest`` the others.

    ``count`` moves into [K, N - K] so that both keep all K classes; each class needs 2 images.
    Both keep the order of ``split``.
    """
    classes = len(np.unique(split.labels))
    count = max(classes, min(count, len(split) - classes))
    order = stratified_order(split.labels, rng)
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def thin(split: Split, count: int, rng: np.random.Generator) -> Split:
    """``count`` images of ``split``, class-balanced; all of them when there are no more."""
    if count >= len(split):
        return split
    return split.take(np.sort(stratified_order(split.labels, rng)[:count]))
