"""The store of a team: studies of many runs in one PostgreSQL database, through SQLAlchemy.

Each study has one driver: it holds an advisory lock of the database for as long as it is connected, so the lock goes
when the driver does, however it goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from spikenas.errors import MissingTool, RunError
from spikenas.run.store import FLUSH_ROWS, FLUSH_SECONDS, Curve
from spikenas.search.trial import TRIAL_FIELDS, Trial, trial_from_dict, trial_to_dict

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

LOCKS = 0x53504B4E
"""First half of our advisory locks' keys; the second is the study's id, or 0 while the tables are made."""
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE spikenas_studies (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, settings TEXT NOT NULL)",
        """CREATE TABLE spikenas_trials (study INTEGER NOT NULL REFERENCES spikenas_studies,
        number BIGINT NOT NULL, genotype TEXT NOT NULL, measure TEXT NOT NULL, epochs INTEGER NOT NULL,
        state TEXT NOT NULL, score DOUBLE PRECISION, accuracy DOUBLE PRECISION, budget_use DOUBLE PRECISION,
        flash_bytes BIGINT, ram_bytes BIGINT, macs BIGINT, synops DOUBLE PRECISION, energy_nj DOUBLE PRECISION,
        latency_ms DOUBLE PRECISION, seconds DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (study, number))""",
        """CREATE TABLE spikenas_epochs (study INTEGER NOT NULL REFERENCES spikenas_studies, trial BIGINT NOT NULL,
        epoch INTEGER NOT NULL, measures TEXT NOT NULL, PRIMARY KEY (study, trial, epoch))""",
        """CREATE TABLE spikenas_stages (id SERIAL PRIMARY KEY, study INTEGER NOT NULL REFERENCES spikenas_studies,
        name TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL, UNIQUE (study, name))""",
    ),
)
"""Entry n takes schema n to n + 1, as in :mod:`spikenas.run.store`."""
SCHEMA = len(MIGRATIONS)
AGAIN = "run the same command again when the database answers"
NUL = "\N{SYMBOL FOR NULL}"


class SqlStore:
    """One study, by ``name``, of the database at ``url`` (``postgresql://user@host/database``).

    It is made with ``settings`` if it is not there. Raises RunError when the database cannot be reached, is newer
    than this spikenas, holds a study of that name with other settings, or another driver holds it; MissingTool
    without SQLAlchemy and psycopg.
    """

    def __init__(
        self, url: str, name: str, settings: Mapping[str, Any] | None = None, *, read_only: bool = False
    ) -> None:
        self._engine, self.where = _engine(url)
        self.name = name
        self._pending: list[tuple[Trial, Curve]] = []
        self._flushed = time.monotonic()
        with _refusing(self.where):
            self._database: Connection = self._engine.connect()
        try:
            with self._one_line():
                if not read_only:
                    _migrate(self._database, self.where)
                self._study = self._opened(settings or {}, read_only)
        except BaseException:
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
        rows = self._rows("SELECT settings FROM spikenas_studies WHERE id = :study")
        settings: dict[str, Any] = json.loads(rows[0][0])
        return settings

    def trials(self) -> list[Trial]:
        self.flush()
        query = f"SELECT {', '.join(TRIAL_FIELDS)} FROM spikenas_trials WHERE study = :study ORDER BY number"
        return [trial_from_dict(dict(zip(TRIAL_FIELDS, row, strict=True))) for row in self._rows(query)]

    def add(self, trial: Trial, curve: Curve = ()) -> None:
        self._pending.append((trial, curve))
        if len(self._pending) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        trials = [_storable(trial_to_dict(trial)) | {"study": self._study} for trial, _ in self._pending]
        epochs = [
            {"study": self._study, "trial": trial.number, "epoch": epoch, "measures": json.dumps(dict(measures))}
            for trial, curve in self._pending
            for epoch, measures in enumerate(curve, start=1)
        ]
        names = ("study", *TRIAL_FIELDS)
        marks = ", ".join(f":{name}" for name in names)
        with self._one_line(), self._database.begin():
            self._many(f"INSERT INTO spikenas_trials ({', '.join(names)}) VALUES ({marks})", trials)
            self._many("INSERT INTO spikenas_epochs VALUES (:study, :trial, :epoch, :measures)", epochs)
        self._pending.clear()
        self._flushed = time.monotonic()

    def curve(self, number: int) -> list[dict[str, float]]:
        self.flush()
        query = "SELECT measures FROM spikenas_epochs WHERE study = :study AND trial = :trial ORDER BY epoch"
        return [json.loads(row[0]) for row in self._rows(query, trial=number)]

    def add_stage(self, name: str, seconds: float) -> None:
        with self._one_line(), self._database.begin():
            self._many(
                "INSERT INTO spikenas_stages (study, name, seconds) VALUES (:study, :name, :seconds) "
                "ON CONFLICT (study, name) DO UPDATE SET seconds = spikenas_stages.seconds + excluded.seconds",
                [{"study": self._study, "name": name, "seconds": seconds}],
            )

    def stages(self) -> dict[str, float]:
        rows = self._rows("SELECT name, seconds FROM spikenas_stages WHERE study = :study ORDER BY id")
        return {name: seconds for name, seconds in rows}

    def _opened(self, settings: Mapping[str, Any], read_only: bool) -> int:
        """The study's id; from here on this driver's, unless it only reads."""
        wanted = json.loads(json.dumps(dict(settings)))
        with self._database.begin():
            if not read_only:
                self._many(
                    "INSERT INTO spikenas_studies (name, settings) VALUES (:name, :settings) ON CONFLICT DO NOTHING",
                    [{"name": self.name, "settings": json.dumps(wanted)}],
                )
            rows = _select(
                self._database, "SELECT id, settings FROM spikenas_studies WHERE name = :name", name=self.name
            )
            if not rows:
                names = _select(self._database, "SELECT name FROM spikenas_studies ORDER BY id DESC LIMIT 10")
                there = ", ".join(repr(row[0]) for row in names) or "none"
                raise RunError(f"{self.where}: no study '{self.name}'; the latest there: {there}")
            study = int(rows[0][0])
            if not read_only:
                if json.loads(rows[0][1]) != wanted:
                    raise RunError(f"{self.where}: study '{self.name}' has other settings; choose another --out")
                if not _select(self._database, "SELECT pg_try_advisory_lock(:a, :b)", a=LOCKS, b=study)[0][0]:
                    raise RunError(
                        f"{self.where}: another process drives study '{self.name}'; wait for it or choose another --out"
                    )
        return study

    def _rows(self, query: str, **values: Any) -> Sequence[Any]:
        with self._one_line(), self._database.begin():
            return _select(self._database, query, study=self._study, **values)

    def _many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from sqlalchemy import text

        if rows:
            self._database.execute(text(statement), list(rows))

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        with _refusing(self.where):
            if self._database.invalidated:
                # SQLAlchemy would connect anew without a word; but the lock went with the connection.
                raise RunError(f"{self.where}: the connection is lost; {AGAIN}")
            yield


def sql_studies(url: str) -> list[str]:
    """Names of the studies at ``url``. Raises RunError when it cannot be read, MissingTool without the packages."""
    engine, where = _engine(url)
    with _refusing(where), engine.connect() as database:
        return [row[0] for row in _select(database, "SELECT name FROM spikenas_studies ORDER BY id")]


def without_password(url: str) -> str:
    """``url`` as it may be written down; the password then comes from ~/.pgpass or PGPASSWORD.

    Raises RunError for what is no URL of PostgreSQL, MissingTool without the packages.
    """
    there = _engine(url)[0].url.difference_update_query(["password"])
    kept = there.create("postgresql", there.username, None, there.host, there.port, there.database, there.query)
    return kept.render_as_string()


def _engine(url: str) -> tuple[Engine, str]:
    """The database, and how to call it in messages: without its password."""
    try:
        import psycopg  # noqa: F401 - SQLAlchemy loads it only when it connects
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise MissingTool(f"--store needs the package {error.name}: pip install 'spikenas[postgres]'") from error
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise RunError("--store: not a URL; write postgresql://user@host/database") from error
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise RunError(f"--store {parsed.drivername}://: only postgresql:// is known; leave it out for a file")
    # Without a pool closing is closing, which is what gives up a study's lock.
    engine = create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    return engine, parsed.render_as_string(hide_password=True)


def _migrate(database: Connection, where: str) -> None:
    from sqlalchemy import text

    with database.begin():
        # Two first drivers at once would both make the tables; the lock goes with the transaction.
        database.execute(text("SELECT pg_advisory_xact_lock(:a, 0)"), {"a": LOCKS})
        database.execute(text("CREATE TABLE IF NOT EXISTS spikenas_schema (version INTEGER NOT NULL)"))
        version = int(_select(database, "SELECT coalesce(max(version), 0) FROM spikenas_schema")[0][0])
        if version > SCHEMA:
            raise RunError(f"{where}: study schema {version}, this version reads up to {SCHEMA}; upgrade spikenas")
        for number in range(version, SCHEMA):
            for statement in MIGRATIONS[number]:
                database.execute(text(statement))
            database.execute(text("INSERT INTO spikenas_schema VALUES (:version)"), {"version": number + 1})


def _select(database: Connection, query: str, **values: Any) -> Sequence[Any]:
    from sqlalchemy import text

    return database.execute(text(query), values).fetchall()


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL's text holds every character but one."""
    return {name: value.replace("\0", NUL) if isinstance(value, str) else value for name, value in values.items()}


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        words = " ".join(str(getattr(error, "orig", None) or error).split())
        raise RunError(f"{where}: {words}; {AGAIN}") from error
