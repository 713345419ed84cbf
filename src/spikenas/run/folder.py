"""Who owns an output folder: one run, one driver at a time, and nothing of anybody else's is touched.

``run.json`` holds the settings; the same settings again go on with the run, others are refused. The lock is an
SQLite lock on an empty file: the system releases it when the process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenas.errors import RunError
from spikenas.run.artifacts import read_json, write_json

RUN_SCHEMA = 1
SETTINGS_FILE, LOCK_FILE, DRIVER_FILE = "run.json", "run.lock", "driver.json"
INTEGER_FILE = "integer.safetensors"
RESULT_FILE = "quantized.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The names inside a run's folder; ``resumed`` when a run with these settings had begun there before."""

    path: Path
    settings: Mapping[str, Any]
    resumed: bool = False

    @property
    def study(self) -> Path:
        return self.path / "study.sqlite"

    @property
    def weights(self) -> Path:
        """Folder of the weights of short trainings."""
        return self.path / "weights"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def integer_model(self) -> Path:
        return self.path / INTEGER_FILE

    @property
    def quantized(self) -> Path:
        """A folder for each setting that the network was quantized at."""
        return self.path / "quantized"

    def integers(self, setting: str | None = None) -> Path:
        """The run's integer network, or that of a ``setting`` of `spikenas quantize`, by its folder's name.

        Raises RunError for a setting that is not there, and where training has not come to its end.
        """
        if setting is None:
            return self.finished(self.integer_model)
        model = self.quantized / setting / INTEGER_FILE
        if not model.is_file():
            there = sorted(path.parent.name for path in self.quantized.glob(f"*/{INTEGER_FILE}"))
            known = f"there are {', '.join(there)}" if there else f"make some with: spikenas quantize {self.path}"
            raise RunError(f"{self.path}: was not quantized as '{setting}'; {known}")
        return model

    def finished(self, model: Path) -> Path:
        """``model``, a file that a run leaves at its end. Raises RunError where that has not come."""
        if not model.is_file():
            raise RunError(
                f"{self.path}: training is not finished; repeat the command of the run and it goes on (of a search, "
                f"spikenas train {self.path} trains the best)"
            )
        return model

    @property
    def training(self) -> Path:
        """The checkpoint of a training that has not ended."""
        return self.path / "training.safetensors"

    @property
    def pace(self) -> Path:
        """How many epochs fit into the time given, and how fast the machine was."""
        return self.path / "pace.json"

    @property
    def curve(self) -> Path:
        """The learning curve of the final training."""
        return self.path / "curve.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"


@contextmanager
def open_run(path: Path, settings: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Own ``path`` for a run with ``settings`` (values JSON can hold) until the end of the ``with``.

    Raises RunError when the folder holds another run or something else, when another process drives it, or when it
    cannot be written. Only a folder that is empty or new becomes a run.
    """
    wanted = json.loads(json.dumps(settings))
    _check_free(path)
    _make(path)
    with _locked(path):
        resumed = (path / SETTINGS_FILE).exists()
        if resumed:
            _check_same(path, read_run(path).settings, wanted)
        else:
            write_json(path / SETTINGS_FILE, {"spikenas_run": RUN_SCHEMA, "settings": wanted})
        for leftover in path.glob("**/.*.tmp"):
            leftover.unlink(missing_ok=True)
        yield RunFolder(path, wanted, resumed)


def read_run(path: Path) -> RunFolder:
    """A run's folder for reading only, locked or not. Raises RunError when ``path`` is not one."""
    if not (path / SETTINGS_FILE).is_file():
        raise RunError(f"{path}: not the folder of a run (no {SETTINGS_FILE}); give the --out of one")
    content = read_json(path / SETTINGS_FILE)
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise RunError(f"{path / SETTINGS_FILE}: not the settings of a run; choose another --out")
    if content.get("spikenas_run") != RUN_SCHEMA:
        found = content.get("spikenas_run")
        raise RunError(f"{path}: run schema {found!r} is unknown: this version reads {RUN_SCHEMA}; upgrade spikenas")
    return RunFolder(path, content["settings"], resumed=True)


def _check_free(path: Path) -> None:
    """A folder with files in it must be a run. Files of the lock alone are what a run killed at its start leaves."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; give --out a folder")
    if not path.exists() or (path / SETTINGS_FILE).is_file():
        return
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); choose another --out") from error
    foreign = sorted(name for name in names - {LOCK_FILE, DRIVER_FILE} if not name.startswith(f".{SETTINGS_FILE}."))
    if foreign:
        raise RunError(f"{path}: holds '{foreign[0]}' and no run; give --out an empty or new folder")


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be made ({error.strerror}); choose another --out") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = sqlite3.connect(path / LOCK_FILE, timeout=0, isolation_level=None)
    except sqlite3.Error as error:
        raise RunError(f"{path}: cannot be locked ({error}); choose another --out") from error
    with closing(lock):
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise RunError(
                    f"{path}: {_driver(path)} drives this run; wait for it or choose another --out"
                ) from error
            raise RunError(f"{path}: cannot be locked ({error}); choose another --out") from error
        write_json(path / DRIVER_FILE, {"process": os.getpid(), "host": platform.node()})
        try:
            yield
        finally:
            (path / DRIVER_FILE).unlink(missing_ok=True)


def _driver(path: Path) -> str:
    try:
        driver = read_json(path / DRIVER_FILE)
        return f"process {driver['process']} on {driver['host']}"
    except (RunError, KeyError, TypeError):
        return "another process"


def _check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    old, new = flat(there), flat(here)
    names = [*new, *(name for name in old if name not in new)]
    differing = [name for name in names if old.get(name, _UNSET) != new.get(name, _UNSET)]
    if differing:
        name = differing[0]
        more = f" (and {len(differing) - 1} more settings)" if len(differing) > 1 else ""
        raise RunError(
            f"{path}: holds another run, with {name} {_show(old, name)}, not {_show(new, name)}{more}; "
            "choose another --out, or repeat its settings to go on with it"
        )


_UNSET = object()


def _show(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "unset"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by their path.

    >>> flat({"seed": 1, "search": {"samples": 2}})
    {'seed': 1, 'search.samples': 2}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
