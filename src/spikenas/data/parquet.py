"""Parquet files as Hugging Face lays them out: an image column {bytes, path} and a label column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spikenas.data.images import Encoded, Progress, decode
from spikenas.data.split import Labels, Pieces, Split
from spikenas.errors import DatasetError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
PART_OF_STEM = re.compile(r"(train|val|test)(ing|id|idation)?([-_.].*)?", re.IGNORECASE)

Files = Mapping[str, Sequence[Path]]


def parquet_files(path: Path) -> Files:
    """The parquet files of ``path``, or else of its one subfolder that has them, by part.

    Keys are "train" and where present "val" and "test"; no keys where there is no train*.parquet.
    Raises DatasetError when several subfolders have them.
    """
    if here := _by_part(path):
        return here
    inside = {child: _by_part(child) for child in sorted(path.iterdir()) if child.is_dir()}
    found = {child: files for child, files in inside.items() if files}
    if len(found) > 1:
        names = ", ".join(child.name for child in found)
        raise DatasetError(f"{path} holds several parquet datasets ({names}); give the path of one")
    return next(iter(found.values()), {})


def _by_part(folder: Path) -> Files:
    parts: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        if match := PART_OF_STEM.fullmatch(file.stem):
            parts.setdefault(match[1].lower(), []).append(file)
    return parts if "train" in parts else {}


def read_parquet(files: Files, progress: Progress | None = None) -> Pieces:
    """Decode every image of ``files``.

    Class names come from Hugging Face's metadata, if any. Raises DatasetError
    naming the file where a column is missing, a label is no whole number or an image is broken.
    """
    encoded: list[Encoded] = []
    labels: dict[str, Labels] = {}
    for part, shards in files.items():
        tables = [_read_table(shard) for shard in shards]
        labels[part] = np.concatenate([_labels(*pair) for pair in zip(shards, tables, strict=True)])
        for shard, table in zip(shards, tables, strict=True):
            encoded.extend(_images(shard, table))
    if not all(len(values) for values in labels.values()):
        raise DatasetError(f"{files['train'][0].parent}: a parquet file holds no rows; fetch it again")
    cuts = np.cumsum([len(values) for values in labels.values()])[:-1]
    images = dict(zip(labels, np.split(decode(encoded, progress), cuts), strict=True))
    splits = {part: Split(images[part], labels[part]) for part in labels}
    return Pieces(splits["train"], splits.get("val"), splits.get("test"), _class_names(files["train"][0]))


def _read_table(file: Path) -> pa.Table:
    """The image and label columns, renamed to "image" and "label"."""
    try:
        with pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            image = next((name for name in IMAGE_COLUMNS if name in present), None)
            label = next((name for name in LABEL_COLUMNS if name in present), None)
            if image is None or label is None:
                need = f"one of {'/'.join(IMAGE_COLUMNS)} and one of {'/'.join(LABEL_COLUMNS)}"
                raise DatasetError(f"{file}: columns {present}; {need} are needed")
            return parquet.read([image, label]).select([image, label]).rename_columns(["image", "label"])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{file}: broken parquet file ({reason}); fetch it again") from error


def _labels(file: Path, table: pa.Table) -> Labels:
    column = table["label"]
    if not pa.types.is_integer(column.type) or column.null_count:
        found = f"type {column.type}, {column.null_count} missing"
        raise DatasetError(f"{file}: labels must be whole numbers, one per image ({found})")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _images(file: Path, table: pa.Table) -> Iterator[Encoded]:
    row = 0
    for chunk in table["image"].chunks:
        is_struct = pa.types.is_struct(chunk.type) and chunk.type.get_field_index("bytes") >= 0
        for data in chunk.field("bytes").to_pylist() if is_struct else chunk.to_pylist():
            if not isinstance(data, bytes):
                raise DatasetError(f"{file} row {row}: no image bytes; write the images into the file")
            yield Encoded(f"{file} row {row}", data)
            row += 1


def _class_names(file: Path) -> tuple[str, ...]:
    """Names from Hugging Face's schema metadata; empty where it has none."""
    try:
        features = json.loads(pq.read_schema(file).metadata[b"huggingface"])["info"]["features"]
        label = next(name for name in LABEL_COLUMNS if name in features)
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError, StopIteration):
        return ()
