"""Image folders: one subfolder per class, named after it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenas.data.images import Encoded, Progress, decode
from spikenas.data.split import Pieces, Split
from spikenas.errors import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff")
ANNOTATIONS = "val_annotations.txt"
"""Tiny-ImageNet's: a line for each validation image, its name, a tab and its class; the test images have no classes."""
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The image files of each part and class, found but not yet read."""

    class_names: tuple[str, ...]
    parts: Mapping[str, Mapping[str, Sequence[Path]]]

    @property
    def files(self) -> list[Path]:
        return [file for part in self.parts.values() for files in part.values() for file in files]


def find_images(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> ImageFolder:
    """List path/class/image or path/train/class/image (beside it val and test), names sorted.

    Hidden files and files that are no images by their ending, one of ``suffixes``, are passed over. Raises DatasetError
    naming an empty class folder, a folder of fewer than 2 classes, or parts whose classes differ.
    """
    folders = _part_folders(path)
    parts = {part: _class_files(folder, suffixes) for part, folder in folders.items()}
    class_names = tuple(parts["train"])
    if len(class_names) < 2:
        have = f"one class folder ({class_names[0]})" if class_names else "no class folders with images"
        need = "at least 2 are needed, one subfolder per class (or train*.parquet or idx files)"
        raise DatasetError(f"{folders['train']} has {have}: {need}")
    for part, classes in parts.items():
        for name in sorted(set(classes) ^ set(class_names)):
            has, lacks = ("train", part) if name in class_names else (part, "train")
            fault = f"class {name!r} is in {folders[has]} but not in {folders[lacks]}"
            raise DatasetError(f"{fault}; give every part the same class folders")
    return ImageFolder(class_names, parts)


def read_images(folder: ImageFolder, progress: Progress | None = None) -> Pieces:
    """Decode every image; labels are places in ``class_names``. Raises DatasetError (see decode)."""
    images = decode([Encoded(str(file), file) for file in folder.files], progress)
    splits: dict[str, Split] = {}
    start = 0
    for part, classes in folder.parts.items():
        counts = [len(classes[name]) for name in folder.class_names]
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        splits[part] = Split(images[start : start + len(labels)], labels)
        start += len(labels)
    return Pieces(splits["train"], splits.get("val"), splits.get("test"), folder.class_names)


def _part_folders(path: Path) -> dict[str, Path]:
    """The folder of each part; ``path`` itself is the training part where it is not divided."""
    children = {child.name.lower(): child for child in _subfolders(path)}
    found = {
        part: next((children[name] for name in names if name in children), None) for part, names in PART_NAMES.items()
    }
    # A class may be called "train" (CIFAR-100 has one): a part holds folders, a class holds images.
    if found["train"] is None or not _subfolders(found["train"]):
        return {"train": path}
    if found["val"] is not None and (found["val"] / ANNOTATIONS).is_file():
        found["test"] = None
    return {part: folder for part, folder in found.items() if folder is not None}


def _class_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    if (folder / ANNOTATIONS).is_file():
        return _annotated(folder, suffixes)
    classes = {child.name: _image_files(child, suffixes) for child in _subfolders(folder)}
    if not any(classes.values()):
        return {}
    for name, files in classes.items():
        if not files:
            raise DatasetError(f"{folder / name}: class folder without images; fill or remove it")
    return classes


def _annotated(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    lines = (folder / ANNOTATIONS).read_text("utf-8", errors="replace").splitlines()
    class_of = {fields[0]: fields[1] for line in lines if len(fields := line.split("\t")) > 1}
    classes: dict[str, list[Path]] = {}
    for file in _image_files(folder, suffixes):
        if file.name not in class_of:
            raise DatasetError(f"{file}: {ANNOTATIONS} does not name it; unpack the dataset again")
        classes.setdefault(class_of[file.name], []).append(file)
    return dict(sorted(classes.items()))


def _subfolders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _image_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Every image below ``folder``, however deep (Tiny-ImageNet: class/images/file)."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and name.lower().endswith(suffixes)
    )
