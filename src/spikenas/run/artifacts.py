"""Files of a run: JSON and models, each written aside and renamed, so that no reader ever sees half of one.

A model is one safetensors file: the arrays, and in its metadata the graph (:func:`spikenas.graph.to_json`), so that
weights and graph cannot part. Nothing read here can execute code.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spikenas.errors import GraphError, ModelError, RunError
from spikenas.graph import from_json, to_json
from spikenas.model import IntegerModel, Model

MODEL_SCHEMA = "1"
FLOAT, INTEGER = "float", "integer"


def write_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, all of it or, with RunError, nothing (whatever was there before stays)."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error.strerror}); free space or choose another --out") from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON. Raises RunError when the disk refuses, or for infinities and NaN."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise RunError(f"{path}: not a value JSON can hold ({error})") from error
    write_bytes(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote. Raises RunError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RunError(f"{path}: broken JSON ({error}); restore it or start in another folder") from error


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: dataclasses as objects, enums by value, paths as text.

    >>> plain({"path": Path("a"), "pair": (1, 2)})
    {'path': 'a', 'pair': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def save_model(path: Path, model: Model | IntegerModel) -> None:
    """Write a model, float or integer, to one safetensors file. Raises RunError when the disk refuses."""
    metadata = {"spikenas_model": MODEL_SCHEMA, "graph": to_json(model.graph)}
    if isinstance(model, IntegerModel):
        metadata |= {"kind": INTEGER, "output_scale": model.output_scale.hex()}
    else:
        metadata |= {"kind": FLOAT}
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in sorted(model.weights.items())
    }
    write_bytes(path, save(arrays, metadata))


def load_model(path: Path) -> Model:
    """Read a float model. Raises ModelError when the file is missing, truncated or holds something else."""
    metadata, arrays = _read(path, FLOAT, np.dtype(np.float32))
    try:
        return Model(from_json(metadata["graph"]), arrays)
    except (GraphError, ModelError) as error:
        raise ModelError(f"{path}: {error}") from error


def load_integer_model(path: Path) -> IntegerModel:
    """Read an integer model. Raises ModelError when the file is missing, truncated or holds something else."""
    metadata, arrays = _read(path, INTEGER, np.dtype(np.int32))
    try:
        scale = float.fromhex(metadata.get("output_scale", ""))
    except (ValueError, OverflowError) as error:
        raise ModelError(f"{path}: output scale {metadata.get('output_scale')!r} is not a number") from error
    if not isfinite(scale) or scale <= 0:
        raise ModelError(f"{path}: output scale {scale} must be positive")
    try:
        return IntegerModel(from_json(metadata["graph"]), arrays, scale)
    except (GraphError, ModelError) as error:
        raise ModelError(f"{path}: {error}") from error


def read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, npt.NDArray[Any]]]:
    """Metadata and arrays of a safetensors file. Raises ValueError, with the reason, when it is not a whole one."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _read(path: Path, kind: str, dtype: np.dtype[Any]) -> tuple[Mapping[str, str], dict[str, npt.NDArray[Any]]]:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        metadata, arrays = read_safetensors(path)
    except ValueError as error:
        raise ModelError(f"{path}: not a whole safetensors file ({error}); copy or train it again") from error
    if "graph" not in metadata:
        raise ModelError(f"{path}: safetensors without a spikenas graph; give a file that spikenas wrote")
    if metadata.get("spikenas_model") != MODEL_SCHEMA:
        written = metadata.get("spikenas_model")
        raise ModelError(f"{path}: model schema {written!r} is unknown: this version reads schema {MODEL_SCHEMA}")
    if metadata.get("kind") != kind:
        raise ModelError(f"{path}: holds a model of kind {metadata.get('kind')!r}, not {kind!r}; give the other file")
    for name, array in arrays.items():
        if array.dtype != dtype:
            raise ModelError(f"{path}: '{name}' is {array.dtype}, a model of kind {kind!r} holds {dtype}")
    return metadata, arrays
