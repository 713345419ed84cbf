"""Looks at studies from outside: lists, tells, compares, exports. Reads only, also while a driver is at work."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenas.errors import RunError
from spikenas.run.artifacts import read_json, write_bytes
from spikenas.run.folder import SETTINGS_FILE, read_run
from spikenas.run.sameness import flat
from spikenas.run.store import TRIAL_TYPES, RunStore, SqliteStore
from spikenas.search.trial import TRIAL_FIELDS, Trial, TrialState, best_of, fitting, quality, trial_to_dict

TOP = 10
EXPORTS = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A line on a study; ``problem`` says why one cannot be read, ``finished`` that its run came to its end."""

    name: str
    settings: Mapping[str, Any]
    finished: bool = False
    trials: int = 0
    done: int = 0
    rejected: int = 0
    failed: int = 0
    trained: int = 0
    seconds: float = 0.0
    best: Trial | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StudyDetails:
    """All about a study: its best trials, the seconds of each stage, failures by their reason."""

    summary: StudySummary
    stages: Mapping[str, float]
    top: tuple[Trial, ...]
    failures: Mapping[str, int]
    curve: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two studies: settings that differ (a value of each, None where unset), and their answers to the same questions.

    ``same`` counts questions (genotype, measure, epochs) with the same answer in both, ``differing`` are those with
    another one, a trial of each.
    """

    first: StudySummary
    second: StudySummary
    settings: Mapping[str, tuple[Any, Any]]
    same: int
    differing: tuple[tuple[Trial, Trial], ...]
    only_first: int
    only_second: int


def list_studies(folder: Path) -> list[StudySummary]:
    """The studies of all runs in ``folder`` and below, by name. Raises RunError when there is no such folder."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; give one with runs in it")
    return [_summary(path.parent) for path in sorted(folder.rglob(SETTINGS_FILE))]


def show_study(path: Path, url: str | None = None) -> StudyDetails:
    """All about the study of the run at ``path``; ``url`` as in :func:`opened`. Raises RunError if it is unreadable."""
    with opened(path, url) as store:
        trials = store.trials()
        best = sorted(fitting(trials), key=quality, reverse=True)
        if best:
            best.insert(0, best.pop(best.index(best_of(best))))
        failures = Counter(trial.reason for trial in trials if trial.state is TrialState.FAILED)
        curve = store.curve(best[0].number) if best else []
        stages = store.stages()
    return StudyDetails(
        _summarized(path, trials), stages, tuple(best[:TOP]), dict(failures.most_common()), tuple(curve)
    )


def compare_studies(first: Path, second: Path, url: str | None = None) -> Comparison:
    """What two studies differ in; ``url`` as in :func:`opened`.

    Raises RunError when one cannot be read, or is of a run that searched nothing.
    """
    for path in (first, second):
        genotype = read_run(path).settings.get("genotype")
        if genotype is not None:
            raise RunError(
                f"{path}: trained {genotype} and searched nothing, so there are no trials to compare; "
                f"compare the networks with: spikenas report --compare {first} {second}"
            )
    with opened(first, url) as store:
        one = store.trials()
    with opened(second, url) as store:
        two = store.trials()
    there, here = _answers(one), _answers(two)
    common = [question for question in there if question in here]
    differing = [(there[key], here[key]) for key in common if _answer(there[key]) != _answer(here[key])]
    left, right = flat(read_run(first).settings), flat(read_run(second).settings)
    settings = {
        name: (left.get(name), right.get(name)) for name in {**left, **right} if left.get(name) != right.get(name)
    }
    return Comparison(
        _summarized(first, one),
        _summarized(second, two),
        settings,
        len(common) - len(differing),
        tuple(differing),
        len(there) - len(common),
        len(here) - len(common),
    )


def export_study(path: Path, to: Path, url: str | None = None, *, epochs: bool = False) -> int:
    """Write the trials, or with ``epochs`` their training curves, as a table to ``to``; returns its rows.

    ``url`` as in :func:`opened`. ``to`` ends in ``.parquet`` or ``.csv``. Raises RunError for another ending, an
    unreadable study or a full disk.
    """
    if to.suffix not in EXPORTS:
        raise RunError(f"{to}: the name must end in {' or '.join(EXPORTS)}")
    with opened(path, url) as store:
        trials = store.trials()
        rows = _epochs(store, trials) if epochs else [trial_to_dict(trial) for trial in trials]
    write_bytes(to, _table(rows, () if epochs else TRIAL_FIELDS, to.suffix))
    return len(rows)


@contextmanager
def opened(path: Path, url: str | None = None) -> Iterator[RunStore]:
    """The store of the run at ``path``, for reading only: its file, or the database at ``url``, or that it remembers.

    Raises RunError when ``path`` is no run, or its study cannot be read.
    """
    folder = read_run(path)
    if folder.study.is_file():
        with SqliteStore(folder.study, read_only=True) as store:
            yield store
        return
    url = url or folder.store
    if url is None:
        raise RunError(f"{path}: holds no {folder.study.name}; if its study is in a database, give its --store URL")
    from spikenas.run.store_sql import SqlStore

    with SqlStore(url, path.absolute().name, read_only=True) as team_store:
        yield team_store


def _summary(path: Path) -> StudySummary:
    try:
        with opened(path) as store:
            return _summarized(path, store.trials())
    except RunError as error:
        return StudySummary(str(path), {}, problem=str(error))


def _summarized(path: Path, trials: list[Trial]) -> StudySummary:
    folder = read_run(path)
    states = Counter(trial.state for trial in trials)
    return StudySummary(
        name=str(path),
        settings=folder.settings,
        finished=folder.summary.is_file() and bool(read_json(folder.summary)),
        trials=len(trials),
        done=states[TrialState.DONE],
        rejected=states[TrialState.REJECTED],
        failed=states[TrialState.FAILED],
        trained=sum(trial.accuracy is not None for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        best=best_of(left) if (left := fitting(trials)) else None,
    )


def _answers(trials: list[Trial]) -> dict[tuple[str, str, int], Trial]:
    return {(trial.genotype, trial.measure, trial.epochs): trial for trial in trials}


def _answer(trial: Trial) -> dict[str, Any]:
    """What of a trial must be the same in two studies of the same network."""
    return {
        name: value for name, value in trial_to_dict(trial).items() if name not in ("number", "seconds", "budget_use")
    }


def _epochs(store: RunStore, trials: list[Trial]) -> list[dict[str, Any]]:
    return [
        {"number": trial.number, "genotype": trial.genotype, "curve_epoch": epoch, **measures}
        for trial in trials
        if trial.epochs
        for epoch, measures in enumerate(store.curve(trial.number), start=1)
    ]


def _table(rows: list[dict[str, Any]], names: tuple[str, ...], suffix: str) -> bytes:
    """``rows`` as the bytes of a file; ``names`` are columns even without rows."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    columns = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    # A column without a single value has its type all the same, so that tables of two studies can be joined.
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    known = {name: types[kind] for name, kind in TRIAL_TYPES.items()} if names else {}
    table = pa.table({name: pa.array([row.get(name) for row in rows], known.get(name)) for name in columns})
    file = io.BytesIO()
    if suffix == ".csv":
        csv.write_csv(table, file)
    else:
        parquet.write_table(table, file)
    return file.getvalue()
