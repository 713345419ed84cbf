"""Reads SpikeNAS-Bench's own files, ``<id>/train_process.txt``, one folder per trained network.

A file holds, in this order (facts from the authors' repository)::

    architecture id: 1234
    model parameters: 19393764
    epoch, train_acc, train_loss, val_acc, val_loss
    0.000, 16.532, 2.223, 25.416, 2.085                        one line per epoch, 100 or 200 of them
    test accuracy: 85.200
    firing rate of layers: 0.078, -1.000, ...                  16 numbers, -1 where there is no neuron
    Elapsed time: 1.0hour38.0minute45.9second
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenas.errors import DatasetError
from spikenas.score.table import NEURONS, Floats, Table, check, digits, padded

FILE = "train_process.txt"
FORM = re.compile(
    r"architecture id: (?P<id>\d+)\s+"
    r"model parameters: (?P<params>\d+)\s+"
    r"epoch, train_acc, train_loss, val_acc, val_loss\s+"
    r"(?P<curves>[^a-z]*)\s"
    r"test accuracy: (?P<test>[\d.]+)\s+"
    r"firing rate of layers: (?P<rates>[-\d., ]+?)\s+"
    r"Elapsed time: (?P<hours>[\d.]+)hour(?P<minutes>[\d.]+)minute(?P<seconds>[\d.]+)second\s*"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One file: ``curves`` [E, 5] are the lines of epochs, ``firing_rates`` [16]."""

    arch_id: int
    params: int
    curves: Floats
    test_acc: float
    firing_rates: Floats
    train_seconds: float


def import_folder(folder: Path, *, partial: bool = False) -> Table:
    """The table of all ``folder/<id>/train_process.txt``; with ``partial`` some of the ids are enough.

    Raises DatasetError when there are none, one is malformed or stands in another's folder, or ids are missing.
    """
    paths = sorted(folder.glob(f"*/{FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not paths:
        raise DatasetError(f"{folder}: no <id>/{FILE} in it: give the dataset's own folder, such as data/CIFAR10")
    runs = [read_run(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if path.parent.name != str(run.arch_id):
            raise DatasetError(f"{path}: says architecture id {run.arch_id}: folder and file must agree")
    ids = np.array([run.arch_id for run in runs], np.int64)
    table = Table(
        ids=ids,
        ops=digits(ids),
        params=np.array([run.params for run in runs], np.int64),
        test_acc=np.array([run.test_acc for run in runs], np.float32),
        val_acc=padded([run.curves[:, 3] for run in runs]),
        train_acc=padded([run.curves[:, 1] for run in runs]),
        firing_rates=np.stack([run.firing_rates for run in runs]),
        train_seconds=np.array([run.train_seconds for run in runs], np.float32),
    )
    check(table, str(folder), partial=partial)
    return table


def read_run(path: Path) -> Run:
    """One file. Raises DatasetError when it cannot be read or is of another form."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({' '.join(str(error).split())}): import it again") from error
    match = FORM.fullmatch(text)
    if match is None:
        raise DatasetError(f"{path}: not in the form of a training log of SpikeNAS-Bench: leave it out or train again")
    try:
        lines = [[float(value) for value in line.split(",")] for line in match["curves"].splitlines()]
        curves = np.array(lines, np.float32).reshape(len(lines), 5)
        rates = np.array([float(value) for value in match["rates"].split(",")], np.float32).reshape(NEURONS)
    except ValueError as error:
        raise DatasetError(f"{path}: a line of numbers is malformed ({error}): train it again") from error
    hours, minutes, seconds = (float(match[unit]) for unit in ("hours", "minutes", "seconds"))
    return Run(
        arch_id=int(match["id"]),
        params=int(match["params"]),
        curves=curves,
        test_acc=float(match["test"]),
        firing_rates=rates,
        train_seconds=3600 * hours + 60 * minutes + seconds,
    )
