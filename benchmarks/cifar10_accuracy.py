"""Accuracy that the default search and training reach within a budget of memory and time: the whole road, as users go.

``python benchmarks/cifar10_accuracy.py --data ../shared/data/cifar10 --out runs/accuracy`` runs every row of the table;
``--only NAME`` one of them. A row that was stopped goes on. Each is a run's folder, from which `spikenas verify`,
`spikenas evaluate` and the other benchmarks can go on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from spikenas.cli.progress import RunProgress
from spikenas.pipeline import RunSummary, run
from spikenas.run.run_settings import RunSettings, command_line

KB = 1024


@dataclass(frozen=True, slots=True)
class Task:
    """Budgets in bytes; ``minutes`` of training, which the search comes on top of; what is to be reached in test."""

    data: str
    flash_bytes: int
    ram_bytes: int
    minutes: float
    wanted: float


def tasks(cifar10: str) -> dict[str, Task]:
    return {
        "cifar10-256k": Task(cifar10, 256 * KB, 128 * KB, 72, 0.86),
        "cifar10-64k": Task(cifar10, 64 * KB, 64 * KB, 72, 0.78),
        "fashion-mnist-64k": Task("fashion-mnist", 64 * KB, 32 * KB, 11, 0.91),
        "digits-16k": Task("digits", 16 * KB, 8 * KB, 0.6, 0.97),
    }


def row(name: str, task: Task, summary: RunSummary, command: str) -> str:
    accuracies = f"{100 * summary.float_accuracy:.2f} | {100 * summary.integer_accuracy:.2f} | {100 * task.wanted:.0f}"
    sizes = f"{summary.cost.flash_bytes:,} | {summary.cost.ram_bytes:,}"
    times = f"{summary.seconds.get('search', 0) / 60:.1f} | {summary.seconds['train'] / 60:.1f} | {summary.epochs}"
    return f"| {name} | `{summary.genotype}` | {accuracies} | {sizes} | {times} |\n\n`{command}`, seed {summary.seed}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10 in Hugging Face's parquet files")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--only")
    parser.add_argument("--minutes", type=float, help="instead of the task's own")
    options = parser.parse_args()
    columns = ("task", "network", "float %", "integer %", "wanted %", "flash B", "RAM B", "search min", "train min")
    print("| " + " | ".join((*columns, "epochs")) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name, task in tasks(options.data).items():
        if options.only in (None, name):
            minutes = options.minutes or task.minutes
            settings = RunSettings(task.data, task.flash_bytes, task.ram_bytes, minutes=minutes)
            with RunProgress() as progress:
                summary = run(settings, options.out / name, progress)
            print(row(name, task, summary, command_line(settings, options.out / name)), flush=True)


if __name__ == "__main__":
    main()
