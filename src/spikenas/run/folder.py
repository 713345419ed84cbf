"""Who owns an output folder: one run, one driver at a time, and nothing of anybody else's is touched.

``run.json`` holds the settings; the same settings again go on with the run, others are refused. The lock is an
SQLite lock on an empty file: the system releases it when the process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenas.errors import NothingFits, RunError
from spikenas.run.artifacts import read_json, write_json
from spikenas.run.sameness import differences

RUN_SCHEMA = 1
SETTINGS_FILE, LOCK_FILE, DRIVER_FILE = "run.json", "run.lock", "driver.json"
INTEGER_FILE = "integer.safetensors"
LOCK_FILES = {LOCK_FILE, f"{LOCK_FILE}-journal", DRIVER_FILE}
FRUITLESS = {SETTINGS_FILE, *LOCK_FILES, "weights"}
"""with a study, all that a search which finds nothing leaves"""
RESULT_FILE = "quantized.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The names inside a run's folder; ``resumed`` when a run with these settings had begun there before.

    ``store`` is the URL, without its password, of the database that keeps the study; None is a file in the folder.
    """

    path: Path
    settings: Mapping[str, Any]
    resumed: bool = False
    store: str | None = None

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
    def unrounded(self) -> Path:
        """The network before it was trained on with rounded weights, where it was."""
        return self.path / "unrounded.safetensors"

    @property
    def trained(self) -> Path:
        """The network as its training left it."""
        return self.unrounded if self.unrounded.exists() else self.model

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
    def teacher_training(self) -> Path:
        """The checkpoint of a teacher's training that has not ended."""
        return self.path / "teacher-training.safetensors"

    @property
    def teacher(self) -> Path:
        """The network from which the run's own has learned, if there was one."""
        return self.path / "teacher.safetensors"

    @property
    def pace(self) -> Path:
        """How many epochs fit into the time given, and how fast the machine was."""
        return self.path / "pace.json"

    @property
    def speed(self) -> Path:
        """How fast the machine was when the search began."""
        return self.path / "speed.json"

    @property
    def curve(self) -> Path:
        """The learning curve of the final training."""
        return self.path / "curve.json"

    @property
    def choice(self) -> Path:
        """The network that the search of a run chose."""
        return self.path / "choice.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"


@contextmanager
def open_run(path: Path, settings: Mapping[str, Any], store: str | None = None) -> Iterator[RunFolder]:
    """Own ``path`` for a run with ``settings`` (values JSON can hold) until the end of the ``with``.

    ``store``: where its study is from now on; None is where it was.

    Raises RunError when the folder holds another run or something else, when another process drives it, or when it
    cannot be written. Only a folder that is empty or new becomes a run; one in which NothingFits is raised before there
    is a network is removed.
    """
    wanted = json.loads(json.dumps(settings))
    _check_free(path)
    _make(path)
    with _locked(path):
        resumed = (path / SETTINGS_FILE).exists()
        there = read_run(path) if resumed else None
        kept = store
        if there is not None:
            _check_same(there, wanted)
            kept = store or there.store
        # the images may have moved, and the study into a database
        if there is None or (kept, there.settings.get("data")) != (there.store, wanted.get("data")):
            where = {} if kept is None else {"store": kept}
            write_json(path / SETTINGS_FILE, {"spikenas_run": RUN_SCHEMA, "settings": wanted, **where})
        for leftover in path.glob("**/.*.tmp"):
            leftover.unlink(missing_ok=True)
        try:
            yield RunFolder(path, wanted, resumed, kept)
        except NothingFits:
            _forget(path)
            raise


def check_run(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise at once what :func:`open_run` would later, when images and torch are loaded. Makes no folder."""
    _check_free(path)
    if (path / SETTINGS_FILE).is_file():
        with _locked(path):
            _check_same(read_run(path), json.loads(json.dumps(settings)))


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
    return RunFolder(path, content["settings"], resumed=True, store=content.get("store"))


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
    foreign = sorted(name for name in names - LOCK_FILES if not name.startswith(f".{SETTINGS_FILE}."))
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


def _check_same(folder: RunFolder, here: Mapping[str, Any]) -> None:
    if differing := differences(folder.settings, here):
        shown = ", and ".join(differing[:SHOWN])
        more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        found = f", or train the network that it found: spikenas train {folder.path} --epochs N"
        raise RunError(
            f"{folder.path}: holds another run: {shown}{more}; choose another --out, or repeat its settings to go on "
            f"with it{found if folder.choice.exists() else ''}"
        )


SHOWN = 3


def _forget(path: Path) -> None:
    """Remove the folder of a search that found nothing, where there is nothing else in it."""
    names = {entry.name for entry in path.iterdir()}
    if all(name in FRUITLESS or name.startswith("study.sqlite") for name in names):
        shutil.rmtree(path, ignore_errors=True)
