"""A study on disk: settings, trials, training curves, stage times, in one SQLite file.

Only the driver writes, in batches: a commit costs milliseconds, and a screening makes thousands of trials a second.
What is not yet committed when a process is killed was measured within the last :data:`FLUSH_SECONDS`, and a resumed
study measures it again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from spikenas.errors import InputError, RunError
from spikenas.run.folder import SETTINGS_FILE, RunFolder, open_run
from spikenas.search.trial import TRIAL_FIELDS, Trial, trial_from_dict, trial_to_dict

Curve = Sequence[Mapping[str, float]]
"""One training: measures by name, epoch after epoch."""

TRIAL_TYPES: dict[str, type] = {
    **dict.fromkeys(TRIAL_FIELDS, float),
    **dict.fromkeys(("genotype", "measure", "state", "reason"), str),
    **dict.fromkeys(("number", "epochs", "flash_bytes", "ram_bytes", "macs"), int),
}
"""What a trial's fields are when they are not None."""

FLUSH_SECONDS = 0.25
FLUSH_ROWS = 5_000
APPLICATION_ID = 0x53504B4E  # "SPKN" in the file's header tells our files from others
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE study (settings TEXT NOT NULL);
    CREATE TABLE trials (
        number INTEGER PRIMARY KEY, genotype TEXT NOT NULL, measure TEXT NOT NULL, epochs INTEGER NOT NULL,
        state TEXT NOT NULL, score REAL, accuracy REAL, budget_use REAL, flash_bytes INTEGER, ram_bytes INTEGER,
        macs INTEGER, synops REAL, energy_nj REAL, latency_ms REAL, seconds REAL NOT NULL, reason TEXT NOT NULL);
    CREATE TABLE epochs (
        trial INTEGER NOT NULL, epoch INTEGER NOT NULL, measures TEXT NOT NULL, PRIMARY KEY (trial, epoch));
    CREATE TABLE stages (name TEXT PRIMARY KEY, seconds REAL NOT NULL);
    """,
)
"""Entry n takes schema n to n + 1. Entries are never changed, only added: old files pass through all of them."""
SCHEMA = len(MIGRATIONS)


class Store(Protocol):
    """What a study keeps, and reads again when it goes on."""

    def trials(self) -> list[Trial]:
        """Every trial kept, by number."""
        ...

    def add(self, trial: Trial, curve: Curve = ()) -> None:
        """Keep a trial, soon."""
        ...

    def flush(self) -> None:
        """Keep what was added, now."""
        ...


class RunStore(Store, Protocol):
    """A store that also tells: what a whole run keeps, and what its report and the command line read."""

    def settings(self) -> dict[str, Any]:
        """What the study was made with."""
        ...

    def curve(self, number: int) -> list[dict[str, float]]:
        """The training curve of trial ``number``; empty when it was not trained."""
        ...

    def add_stage(self, name: str, seconds: float) -> None:
        """Add to the time a stage of the run took; a resumed run's times add up."""
        ...

    def stages(self) -> dict[str, float]:
        """Seconds by stage, in the order of their first end."""
        ...

    def close(self) -> None:
        """Keep what was added and let go."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@contextmanager
def open_study(path: Path, settings: Mapping[str, Any], url: str | None = None) -> Iterator[tuple[RunFolder, RunStore]]:
    """Own the folder ``path`` and the study of its run, in a file there or in the database at ``url``.

    The folder remembers the database, so that the same run goes on there without ``url``. A study that is refused,
    because another folder's driver has it or the database does not answer, does not make the folder a run. Raises
    RunError as :func:`spikenas.run.folder.open_run` and the stores do, MissingTool without a database's packages.
    """
    if url is not None:
        from spikenas.run.store_sql import without_password

    with open_run(path, settings, None if url is None else without_password(url)) as folder:
        try:
            store = open_store(folder.study, folder.settings, url or folder.store)
        except InputError:
            if not folder.resumed:
                (path / SETTINGS_FILE).unlink()
            raise
        with store:
            yield folder, store


def open_store(path: Path, settings: Mapping[str, Any], url: str | None = None) -> RunStore:
    """The store of the run that keeps its study at ``path``: that file, or the database at ``url`` (``postgresql://``).

    In a database the study has the name of the run's folder. Raises RunError when it cannot be used, MissingTool when
    the packages for it are absent.
    """
    if url is None:
        return SqliteStore(path, settings)
    from spikenas.run.store_sql import SqlStore

    return SqlStore(url, path.absolute().parent.name, settings)


class SqliteStore:
    """The store in one file, made if it is not there.

    ``settings`` are kept with it when it is made. Raises RunError when the file is no store, is damaged, is newer
    than this version of spikenas, or the disk refuses.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any] | None = None, *, read_only: bool = False) -> None:
        self.path = path
        self._pending: list[tuple[Trial, Curve]] = []
        self._flushed = time.monotonic()
        if read_only and not path.is_file():
            raise RunError(f"{path}: no such study; give the folder of a run")
        with _one_line(path):
            uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            self._database = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            with _one_line(path):
                self._check()
                if not read_only:
                    self._prepare(settings or {})
        except RunError:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._database.close()

    def settings(self) -> dict[str, Any]:
        """What the study was made with."""
        with _one_line(self.path):
            row = self._database.execute("SELECT settings FROM study").fetchone()
            settings: dict[str, Any] = json.loads(row[0]) if row else {}
        return settings

    def trials(self) -> list[Trial]:
        self.flush()
        with _one_line(self.path):
            rows = self._database.execute(f"SELECT {', '.join(TRIAL_FIELDS)} FROM trials ORDER BY number").fetchall()
        return [trial_from_dict(dict(zip(TRIAL_FIELDS, row, strict=True))) for row in rows]

    def add(self, trial: Trial, curve: Curve = ()) -> None:
        self._pending.append((trial, curve))
        if len(self._pending) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        trials = [tuple(trial_to_dict(trial).values()) for trial, _ in self._pending]
        epochs = [
            (trial.number, epoch, json.dumps(dict(measures)))
            for trial, curve in self._pending
            for epoch, measures in enumerate(curve, start=1)
        ]
        with _one_line(self.path), self._transaction():
            marks = ", ".join("?" * len(TRIAL_FIELDS))
            self._database.executemany(f"INSERT INTO trials ({', '.join(TRIAL_FIELDS)}) VALUES ({marks})", trials)
            self._database.executemany("INSERT INTO epochs VALUES (?, ?, ?)", epochs)
        self._pending.clear()
        self._flushed = time.monotonic()

    def curve(self, number: int) -> list[dict[str, float]]:
        """The training curve of trial ``number``; empty when it was not trained."""
        self.flush()
        with _one_line(self.path):
            query = "SELECT measures FROM epochs WHERE trial = ? ORDER BY epoch"
            return [json.loads(row[0]) for row in self._database.execute(query, (number,))]

    def add_stage(self, name: str, seconds: float) -> None:
        """Add to the time a stage of the run took; a resumed run's times add up."""
        with _one_line(self.path):
            self._database.execute(
                "INSERT INTO stages VALUES (?, ?) ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                (name, seconds),
            )

    def stages(self) -> dict[str, float]:
        """Seconds by stage, in the order of their first end."""
        with _one_line(self.path):
            return dict(self._database.execute("SELECT name, seconds FROM stages ORDER BY rowid").fetchall())

    def _check(self) -> None:
        """Refuse what is not ours, newer or damaged, before anything is written to it."""
        tables = self._number("SELECT count(*) FROM sqlite_master")
        if tables and self._number("PRAGMA application_id") != APPLICATION_ID:
            raise RunError(f"{self.path}: a database, but not a study of spikenas; choose another --out")
        version = self._number("PRAGMA user_version")
        if version > SCHEMA:
            raise RunError(f"{self.path}: study schema {version}, this version reads up to {SCHEMA}; upgrade spikenas")
        found = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise RunError(f"{self.path}: damaged ({' '.join(found.split())}); {_way_out(self.path)}")

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        # Enough to survive the death of the process; only a power cut may lose the last commits, never the file.
        self._database.execute("PRAGMA synchronous = NORMAL")
        for version in range(self._number("PRAGMA user_version"), SCHEMA):
            with self._transaction():
                for statement in MIGRATIONS[version].split(";"):
                    self._database.execute(statement)
                if version == 0:
                    self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._database.execute("INSERT INTO study VALUES (?)", (json.dumps(dict(settings)),))
                self._database.execute(f"PRAGMA user_version = {version + 1}")

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _way_out(path: Path) -> str:
    return f"save what can be read with: spikenas studies recover {path.parent}"


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise RunError(f"{path}: another process writes to this study; wait for it") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            words = "the disk is full" if code == sqlite3.SQLITE_FULL else f"the disk refuses ({error})"
            raise RunError(f"{path}: {words}; free space and run the same command again") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error):
            raise RunError(f"{path}: damaged ({error}); {_way_out(path)}") from error
        raise RunError(f"{path}: cannot be used ({error}); start in another folder") from error
    except ValueError as error:  # text that is none, numbers or JSON that are none
        raise RunError(f"{path}: damaged ({error}); {_way_out(path)}") from error
