"""Stages, bars and decisions of a run, drawn on stderr so that stdout stays for results."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spikenas.run.report_text import duration
from spikenas.search.trial import TRAIN, Trial, TrialState

if TYPE_CHECKING:
    from spikenas.snn.train import BatchStats, EpochStats  # a search without training never loads torch

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 20.0
"""Between the lines on a screening where there is no terminal to draw on."""


class RunProgress:
    """An observer of :func:`spikenas.pipeline.run`; on a terminal it draws a live line, elsewhere plain lines."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.trials, self.rejected, self.drawn = 0, 0, 0.0
        self.begun: float | None = None
        self.left_s = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._close()
        self.bar.stop()

    def stage(self, name: str, detail: str) -> None:
        self._close()
        self.begun = self.drawn = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]  {detail}", highlight=False, soft_wrap=True)

    def message(self, text: str) -> None:
        self.console.print(f"  {text}", style="dim", highlight=False, markup=False, soft_wrap=True)

    def trial(self, trial: Trial) -> None:
        self.trials += 1
        self.rejected += trial.state is TrialState.REJECTED
        if trial.measure == TRAIN:
            reached = "" if trial.accuracy is None else f"{100 * trial.accuracy:.1f}% after {trial.epochs} epochs"
            why = "" if trial.done else f"{trial.state.value}: {trial.reason}"
            self.message(f"{'; '.join(filter(None, (reached, why)))}: {trial.genotype}")
        elif self.console.is_terminal:
            if self._due():
                self._draw(self.trials, None, "screening", f"{self.rejected:,} over budget")
        elif self._due(PLAIN_SECONDS):
            self.drawn = time.monotonic()
            self.message(f"{self.trials:,} trials, {self.rejected:,} over budget")

    def batch(self, stats: BatchStats) -> None:
        self.left_s = stats.eta_s
        last = stats.epoch == stats.epochs and stats.batch == stats.batches
        if self._due() or last:
            done = (stats.epoch - 1) * stats.batches + stats.batch
            spikes = f"spikes {100 * stats.spike_rate:.0f}%  " if stats.spike_rate else ""
            figures = (
                f"loss {stats.loss:.3f}  accuracy {100 * stats.accuracy:.1f}%  {spikes}"
                f"{stats.samples_per_s:,.0f} images/s"
            )
            self._draw(done, stats.epochs * stats.batches, f"epoch {stats.epoch}/{stats.epochs}", figures)

    def epoch(self, stats: EpochStats) -> None:
        if not self.console.is_terminal:
            left = f", about {duration(self.left_s)} to go" if self.left_s > 0 else ""
            kind = ", on rates" if stats.on_rates else ""
            self.message(
                f"epoch {stats.epoch}{kind}: loss {stats.train_loss:.3f}, train {100 * stats.train_accuracy:.1f}%, "
                f"validation {100 * stats.val_accuracy:.1f}%, {stats.seconds:.1f} s{left}"
            )

    def step(self, done: int, total: int, what: str) -> None:
        if self.console.is_terminal:
            self._draw(done, total, what, "")
        else:
            self.message(what)

    def count(self, done: int, total: int, what: str) -> None:
        """One of many steps, each too short for a line; 0 begins another count."""
        if not done:
            self._clear()
        if not done or self._due():
            self._draw(done, total, what, "")

    def rung(self, name: str, done: int, images: int) -> None:
        """So many images of a verification or an evaluation: a bar, or a line at its beginning."""
        if not done and not self.console.is_terminal:
            self.message(f"{name}: {images:,} to do")
        elif not done or self._due():
            self._draw(done, images, name, "")

    def _due(self, seconds: float = REDRAW_SECONDS) -> bool:
        return time.monotonic() - self.drawn > seconds

    def _draw(self, done: int, total: int | None, description: str, figures: str) -> None:
        """``total`` None: nobody knows how many there will be."""
        self.drawn = time.monotonic()
        count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        if self.task is None:
            self.task = self.bar.add_task(description, total=total, count=count, figures=figures)
        self.bar.update(self.task, completed=done, total=total, description=description, count=count, figures=figures)

    def _close(self) -> None:
        """The end of a stage: its bar goes, its time stays."""
        self._clear()
        if self.begun is not None:
            self.message(f"{time.monotonic() - self.begun:.1f} s")

    def _clear(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
