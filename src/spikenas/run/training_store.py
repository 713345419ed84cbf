"""A training's checkpoint: one safetensors file, written aside and renamed, that a killed training goes on from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from spikenas.errors import RunError
from spikenas.graph import Graph, to_json
from spikenas.run.artifacts import read_safetensors, write_bytes
from spikenas.snn.learning_curve import EpochStats, TrainState
from spikenas.snn.train_config import TrainConfig

SCHEMA = "1"


def save_training(path: Path, state: TrainState, graph: Graph, config: TrainConfig) -> None:
    """Write ``state``. Raises RunError when the disk refuses; what was there before then stays."""
    metadata = {
        "spikenas_training": SCHEMA,
        "made_with": _made_with(graph, config),
        "curve": json.dumps([asdict(stats) for stats in state.curve]),
        "rate_scale": state.rate_scale.hex(),
    }
    # a copy of contiguous arrays: safetensors writes the bytes behind an array, whatever its layout
    arrays = {name: np.array(array, order="C") for name, array in sorted(state.arrays.items())}
    write_bytes(path, save(arrays, metadata))


def load_training(path: Path, graph: Graph, config: TrainConfig) -> TrainState:
    """What :func:`save_training` wrote. Raises RunError for a broken file or another network's or setting's."""
    try:
        metadata, arrays = read_safetensors(path)
    except ValueError as error:
        raise RunError(f"{path}: not a whole checkpoint ({error}); remove it to train from the start") from error
    if metadata.get("spikenas_training") != SCHEMA:
        raise RunError(f"{path}: no checkpoint of a training that this version can read; remove it to train anew")
    if metadata["made_with"] != _made_with(graph, config):
        raise RunError(f"{path}: the checkpoint of another genotype or of other settings; remove it to train anew")
    curve = tuple(_stats(row) for row in json.loads(metadata["curve"]))
    return TrainState(len(curve), arrays, curve, float.fromhex(metadata["rate_scale"]))


def begun_training(path: Path, graph: Graph, config: TrainConfig) -> TrainState | None:
    """Where a training is to go on: what :func:`load_training` reads, None where it has not begun."""
    return load_training(path, graph, config) if path.exists() else None


def _made_with(graph: Graph, config: TrainConfig) -> str:
    return json.dumps({"graph": json.loads(to_json(graph)), "config": asdict(config)}, sort_keys=True)


def _stats(row: dict[str, Any]) -> EpochStats:
    return EpochStats(**{**row, "silent": tuple(row["silent"])})
