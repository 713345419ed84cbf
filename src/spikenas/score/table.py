"""A tabular benchmark: every network of a cell space, trained by others, as columns of numbers.

SpikeNAS-Bench (Sun et al., IEEE TAI 2025) trained all 15,625 cells of six edges; see
:mod:`spikenas.space.spikenas_bench` for the space and :mod:`spikenas.score.table_import` for the authors' own files.
Accuracies are percentages as published. ``test_acc`` is the truth that scores are judged by: nothing that searches
may read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spikenas.errors import DatasetError
from spikenas.space.spikenas_bench import TABLE_SIZE

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Ops = npt.NDArray[np.uint8]

EDGES = 6
NEURONS = 16
COLUMNS = ("arch_id", "ops", "params", "test_acc", "val_acc", "train_acc", "firing_rates", "train_seconds")
CURVES = ("val_acc", "train_acc")


@dataclass(frozen=True, eq=False)
class Table:
    """N trained networks, by ascending id.

    ``ids`` [N]; ``ops`` [N, 6], the operation on edges (0,1) (0,2) (0,3) (1,2) (1,3) (2,3); ``params`` [N];
    ``test_acc`` [N]; ``val_acc``, ``train_acc`` [N, E] after each epoch, NaN beyond a network's last epoch;
    ``firing_rates`` [N, 16], -1 where there is no neuron; ``train_seconds`` [N].
    """

    ids: Ints
    ops: Ops
    params: Ints
    test_acc: Floats
    val_acc: Floats
    train_acc: Floats
    firing_rates: Floats
    train_seconds: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def epochs(self) -> Ints:
        """Epochs each network was trained for, [N]."""
        counts: Ints = np.isfinite(self.val_acc).sum(axis=1)
        return counts

    @property
    def budgets(self) -> Ints:
        """The distinct parameter counts, ascending: the budgets that selections are judged at."""
        return np.unique(self.params)

    def rows(self, ids: Iterable[int]) -> Ints:
        """Row numbers of ``ids``. Raises DatasetError for an id that the table has not."""
        wanted = np.fromiter(ids, np.int64)
        places = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        missing = wanted[self.ids[places] != wanted]
        if len(missing):
            raise DatasetError(f"the table has no arch_id {missing[0]}: it holds {len(self)} of {TABLE_SIZE} networks")
        return places

    def take(self, rows: npt.NDArray[Any]) -> Table:
        """The table of those rows."""
        order = np.sort(np.asarray(rows))
        return replace(self, **{name: getattr(self, name)[order] for name in self.__dataclass_fields__})


def digits(ids: Ints) -> Ops:
    """``ops`` of the networks, uint8 [N, 6]: arch_id = sum of ops[k] * 5^k.

    >>> digits(np.array([1234])).tolist()
    [[4, 1, 4, 4, 1, 0]]
    """
    places = 5 ** np.arange(EDGES)
    return (ids[:, None] // places % 5).astype(np.uint8)


def load_table(path: Path, *, partial: bool = False) -> Table:
    """The table in a parquet file; with ``partial`` some of the ids are enough.

    Raises DatasetError when the file cannot be read, lacks columns or ids, or contradicts itself.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; give a benchmark table in parquet")
    try:
        stored = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = _one_line(error).replace(f"'{path}'", "it").replace(str(path), "it")
        raise DatasetError(f"{path}: cannot be read as parquet ({reason}): give a benchmark table") from error
    if missing := [name for name in COLUMNS if name not in stored.column_names]:
        raise DatasetError(f"{path}: no column {', '.join(missing)}: a benchmark table has {', '.join(COLUMNS)}")
    holes = [name for name in COLUMNS if stored[name].null_count]
    if holes:
        raise DatasetError(f"{path}: column {holes[0]} has {stored[holes[0]].null_count} empty cells: fill them")
    try:
        columns = {name: stored[name].to_numpy(zero_copy_only=False) for name in COLUMNS}
        table = _table(columns)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: a column is malformed ({_one_line(error)}): import the table again") from error
    check(table, str(path), partial=partial)
    return table


def save_table(table: Table, path: Path) -> None:
    """Write a parquet file that :func:`load_table` reads. Raises DatasetError when the disk refuses."""
    stored = pa.table(
        {
            "arch_id": table.ids.astype(np.int32),
            "ops": list(table.ops.astype(np.int8)),
            "params": table.params,
            "test_acc": table.test_acc,
            **{name: [row[np.isfinite(row)] for row in getattr(table, name)] for name in CURVES},
            "firing_rates": list(table.firing_rates),
            "train_seconds": table.train_seconds,
        }
    )
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(stored, written, compression="zstd")
        written.replace(path)
    except OSError as error:
        written.unlink(missing_ok=True)
        raise DatasetError(f"{path}: cannot be written ({error.strerror}): choose another path") from error


def check(table: Table, name: str, *, partial: bool) -> None:
    """Raise DatasetError, in terms of ``name``, when ids are missing, doubled or at odds with ``ops``."""
    ids, counts = np.unique(table.ids, return_counts=True)
    if not len(ids):
        raise DatasetError(f"{name}: holds no networks: give a benchmark table")
    if (counts > 1).any():
        raise DatasetError(f"{name}: arch_id {ids[counts > 1][0]} stands there twice: keep one row each")
    if ids[0] < 0 or ids[-1] >= TABLE_SIZE:
        raise DatasetError(f"{name}: arch_id {ids[0] if ids[0] < 0 else ids[-1]}: ids are 0..{TABLE_SIZE - 1}")
    if not (table.ops == digits(table.ids)).all():
        wrong = table.ids[(table.ops != digits(table.ids)).any(axis=1)][0]
        raise DatasetError(f"{name}: ops of arch_id {wrong} are not its digits in base 5: the rows are mixed up")
    if not np.isfinite(table.test_acc).all():
        wrong = table.ids[~np.isfinite(table.test_acc)][0]
        raise DatasetError(f"{name}: test_acc of arch_id {wrong} is not a number: train it or leave it out")
    lacking = np.setdiff1d(np.arange(TABLE_SIZE), ids)
    if len(lacking) and not partial:
        raise DatasetError(
            f"{name}: {len(lacking)} of {TABLE_SIZE} ids are missing ({_listed(lacking)}): "
            "give the complete table, or allow a partial one"
        )


def padded(curves: Sequence[npt.NDArray[Any]]) -> Floats:
    """Curves of different lengths as rows of one array, NaN beyond their ends."""
    lengths = np.array([len(curve) for curve in curves])
    values = np.full((len(curves), int(lengths.max(initial=0))), np.nan, np.float32)
    values[np.arange(values.shape[1]) < lengths[:, None]] = np.concatenate(curves) if len(curves) else []
    return values


def _table(columns: dict[str, npt.NDArray[Any]]) -> Table:
    order = np.argsort(columns["arch_id"], kind="stable")
    sorted_columns = {name: values[order] for name, values in columns.items()}
    return Table(
        ids=sorted_columns["arch_id"].astype(np.int64),
        ops=_rows(sorted_columns["ops"], EDGES).astype(np.uint8),
        params=sorted_columns["params"].astype(np.int64),
        test_acc=sorted_columns["test_acc"].astype(np.float32),
        val_acc=padded(list(sorted_columns["val_acc"])),
        train_acc=padded(list(sorted_columns["train_acc"])),
        firing_rates=_rows(sorted_columns["firing_rates"], NEURONS).astype(np.float32),
        train_seconds=sorted_columns["train_seconds"].astype(np.float32),
    )


def _rows(lists: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    return np.stack(list(lists)).reshape(len(lists), width) if len(lists) else np.empty((0, width))


def _listed(ids: Ints) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
