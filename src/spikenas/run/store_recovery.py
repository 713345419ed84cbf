"""Makes a study whole again after damage to its file, of everything in it that can still be read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenas.errors import RunError
from spikenas.run.folder import open_run, read_run
from spikenas.run.store import TRIAL_TYPES, Curve, SqliteStore
from spikenas.run.store_pages import Row, surviving_rows
from spikenas.search.trial import TRIAL_FIELDS, Trial, trial_from_dict

NEEDED = ("number", "genotype", "measure", "epochs", "state", "seconds", "reason")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was saved. ``damaged`` is where the damaged file lies now; None when nothing was wrong."""

    trials: int
    epochs: int
    damaged: Path | None


def recover_study(path: Path) -> Recovery:
    """Replace the damaged study of the run at ``path`` by one with all that can be read of it.

    The same command that began the run then goes on with it, and measures again what is missing. A study in order is
    left alone. Raises RunError when ``path`` is no run, is being driven, or the disk refuses.
    """
    settings = read_run(path).settings
    with open_run(path, settings) as folder:
        if (count := _readable(folder.study)) is not None:
            return Recovery(count, 0, None)
        try:
            rows = list(surviving_rows(folder.study))
        except OSError as error:
            raise RunError(f"{folder.study}: cannot be read ({error.strerror}); restore a copy") from error
        aside = folder.study.with_name(f".{folder.study.name}.tmp")
        aside.unlink(missing_ok=True)
        saved = _write(aside, settings, rows)
        damaged = _put_away(folder.study)
        aside.replace(folder.study)
        return Recovery(*saved, damaged)


def _readable(path: Path) -> int | None:
    """The number of trials, None when they cannot all be read."""
    try:
        with SqliteStore(path, read_only=True) as store:
            return len(store.trials())
    except RunError:
        if not path.is_file():
            raise
        return None


def _write(path: Path, settings: Any, rows: Iterable[Row]) -> tuple[int, int]:
    trials: dict[int, Trial] = {}
    epochs: dict[int, dict[int, dict[str, float]]] = {}
    stages: dict[str, float] = {}
    for identity, columns in rows:
        if len(columns) == len(TRIAL_FIELDS):
            if (trial := _trial(identity, columns)) is not None:
                trials[trial.number] = trial
        elif len(columns) == 3 and (epoch := _epoch(columns)) is not None:
            epochs.setdefault(columns[0], {})[columns[1]] = epoch
        elif len(columns) == 2 and isinstance(columns[0], str) and isinstance(columns[1], int | float):
            stages[columns[0]] = float(columns[1])
    curves = {number: _curve(epochs.get(number, {})) for number in trials}
    with SqliteStore(path, settings) as store:
        for number in sorted(trials):
            store.add(trials[number], curves[number])
        store.flush()
        for name, seconds in stages.items():
            store.add_stage(name, seconds)
    return len(trials), sum(map(len, curves.values()))


def _trial(identity: int, columns: tuple[Any, ...]) -> Trial | None:
    """The trial of a row; None of a row that merely has as many columns, or is damaged."""
    values = dict(zip(TRIAL_FIELDS, columns, strict=True)) | {"number": identity}
    for name, value in values.items():
        kind = TRIAL_TYPES[name]
        if kind is float and isinstance(value, int):
            values[name] = float(value)  # SQLite stores 2.0 as 2
        elif not (isinstance(value, kind) or (value is None and name not in NEEDED)):
            return None
    try:
        return trial_from_dict(values)
    except RunError:
        return None


def _epoch(columns: tuple[Any, ...]) -> dict[str, float] | None:
    trial, epoch, text = columns
    if not (isinstance(trial, int) and isinstance(epoch, int) and isinstance(text, str)):
        return None
    try:
        measures = json.loads(text)
    except ValueError:
        return None
    return measures if isinstance(measures, dict) else None


def _curve(epochs: dict[int, dict[str, float]]) -> Curve:
    """The epochs up to the first that is missing."""
    curve: list[dict[str, float]] = []
    while len(curve) + 1 in epochs:
        curve.append(epochs[len(curve) + 1])
    return curve


def _put_away(path: Path) -> Path:
    """Move the damaged file, and the log beside it, to a name that is free."""
    number, damaged = 1, path.with_name(f"{path.name}.damaged")
    while damaged.exists():
        number, damaged = number + 1, path.with_name(f"{path.name}.damaged{number}")
    try:
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                beside.replace(damaged.with_name(damaged.name + suffix))
        path.replace(damaged)
    except OSError as error:
        raise RunError(f"{path}: cannot be moved ({error.strerror}); recover it on a disk that allows it") from error
    return damaged
