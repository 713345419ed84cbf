"""What each operation is worth: SpikeNAS's first step (Putra and Shafique, arXiv 2402.11322).

The paper takes one operation at a time out of the space and looks at what that does to accuracy. So does this: every
reduced set of operations is judged by networks drawn from it, or by all of its networks where a table holds them.
Decisions are made on validation accuracy; test accuracy is only reported.

An operation is dropped when the networks without it are better on average by at least the standard error of that
difference, and networks that fit the budget do not become rare (half as many or fewer). Two operations that can
each be spared need not be spared together, so what is recommended is measured as well, and made smaller where it
gains less than its best part. The means of small and large networks are not comparable: without ``none`` and
``skip`` networks are better on average because none of them is small, and a small budget is left with nothing. These
two are therefore measured but never dropped, nor is the last operation that spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError
from spikenas.run.evaluator import Evaluator
from spikenas.run.executor import Executor
from spikenas.run.store import Store
from spikenas.run.study import run_study
from spikenas.search.strategy import Plan, PlannedStrategy, make_rng
from spikenas.search.trial import TRAIN, Proposal, Trial, TrialState
from spikenas.space.operations import NONE, spiking
from spikenas.space.space import Space, load_space

Operations = tuple[str, ...]
Floats = npt.NDArray[np.float64]

BATCH = 1_000
KEPT = (NONE, "skip")
"""Operations that make networks small, and so are not to be judged by the mean accuracy of what is left."""
LIMIT = 100_000
"""Networks of a space that are taken one and all."""


@dataclass(frozen=True, slots=True)
class AnalyzeSettings:
    """How networks are judged: trained ``epochs`` epochs, ``networks`` of each set, or all of them when that is None.

    Raises InputError for a number out of range.
    """

    epochs: int = 2
    networks: int | None = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("epochs", self.epochs, 1), ("networks", self.networks, 2), ("seed", self.seed, 0)):
            if value is not None and value < least:
                raise InputError(f"analysis setting {name} {value}: must be at least {least}")


@dataclass(frozen=True, slots=True)
class Row:
    """Networks over ``operations``, those of the space without ``removed``.

    ``mean``, ``best`` and ``top`` (mean of the best tenth) are validation accuracies, 0 to 1, of the ``networks``
    that could be trained; ``fitting`` is the share of the set's networks within the budget. ``difference`` is how much
    better they are on average than networks over all operations, with its ``standard_error``. ``test_mean`` and
    ``test_best`` (of the network best in validation) are None where there is no test accuracy.
    """

    removed: Operations
    operations: Operations
    networks: int
    fitting: float
    mean: float
    best: float
    top: float
    difference: float
    standard_error: float
    test_mean: float | None = None
    test_best: float | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """``whole`` is the space as it is, ``rows`` one per operation removed, ``together`` the recommended set as a row.

    ``impossible`` says of operations without which hardly a network is left why that is so. ``recommended`` are
    operations for ``load_space(space, operations=...)``, ``reason`` a sentence that says why these.
    """

    space: str
    settings: AnalyzeSettings
    whole: Row
    rows: tuple[Row, ...]
    impossible: Mapping[str, str]
    together: Row
    recommended: Operations
    reason: str


TestAccuracy = Callable[[str], float]


def analyze(
    space: Space[Any],
    settings: AnalyzeSettings,
    evaluator: Evaluator,
    executor: Executor,
    store: Store,
    *,
    frames: int | None = None,
    test_accuracy: TestAccuracy | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Analysis:
    """Judge ``space`` without each of its operations in turn, by trainings or by a table that answers for them.

    ``frames``: of a sample, None for images. ``test_accuracy`` gives, 0 to 1, what is known of a genotype on test
    images. Trainings are kept in ``store``: an interrupted analysis goes on where it was. Raises InputError when a set
    has fewer than two networks that could be trained, or the space fewer than two operations.
    """
    if len(space.operations) < 2:
        raise InputError(f"space '{space.name}' has operation {space.operations[0]!r} only: there is nothing to remove")
    analysis: list[Analysis] = []

    def plan() -> Plan[None]:
        analysis.append((yield from _plan(space, settings, frames, test_accuracy)))

    run_study(PlannedStrategy(plan()), evaluator, executor, store, on_trial=on_trial)
    return analysis[0]


@dataclass(slots=True)
class _Bench:
    """Judges sets of operations; a genotype in several of them is trained once."""

    space: Space[Any]
    settings: AnalyzeSettings
    frames: int | None
    test_accuracy: TestAccuracy | None
    trials: dict[str, Trial]
    whole: tuple[str, ...] = ()

    def judge(self, removed: Operations) -> Plan[Row]:
        operations = tuple(name for name in self.space.operations if name not in removed)
        genotypes = _networks(load_space(self.space.name, operations).for_frames(self.frames), self.settings)
        if not removed:
            self.whole = genotypes
        fresh = [genotype for genotype in dict.fromkeys(genotypes) if genotype not in self.trials]
        for start in range(0, len(fresh), BATCH):
            batch = fresh[start : start + BATCH]
            trials = yield [Proposal(genotype, TRAIN, self.settings.epochs) for genotype in batch]
            self.trials.update(zip(batch, trials, strict=True))
        return self._row(removed, operations, genotypes)

    def _row(self, removed: Operations, operations: Operations, genotypes: tuple[str, ...]) -> Row:
        trained = {name: value for name in genotypes if (value := self._accuracy(name)) is not None}
        values = np.array([trained[name] for name in genotypes if name in trained])
        fitting = [self.trials[name].state is not TrialState.REJECTED for name in genotypes]
        if len(values) < 2:
            raise InputError(
                f"space '{self.space.name}' with {', '.join(operations)}: {len(values)} of {len(genotypes)} networks "
                "could be trained; raise the budget or the number of networks"
            )
        difference, error = self._difference(genotypes, values) if removed else (0.0, 0.0)
        row = Row(
            removed=removed,
            operations=operations,
            networks=len(values),
            fitting=float(np.mean(fitting)),
            mean=float(values.mean()),
            best=float(values.max()),
            top=float(np.sort(values)[-max(1, round(len(values) / 10)) :].mean()),
            difference=difference,
            standard_error=error,
        )
        if self.test_accuracy is None:
            return row
        tests = [self.test_accuracy(name) for name in genotypes if name in trained]
        best = max(trained, key=lambda name: trained[name])
        return replace(row, test_mean=float(np.mean(tests)), test_best=self.test_accuracy(best))

    def _accuracy(self, genotype: str) -> float | None:
        trial = self.trials[genotype]
        return trial.accuracy if trial.done else None

    def _difference(self, genotypes: tuple[str, ...], values: Floats) -> tuple[float, float]:
        """Mean gain over the whole set and its standard error: of pairs where networks are drawn in pairs."""
        before = [self._accuracy(name) for name in self.whole]
        if self.settings.networks is None:
            known = np.array([value for value in before if value is not None])
            error = sqrt(known.var(ddof=1) / len(known) + values.var(ddof=1) / len(values))
            return float(values.mean() - known.mean()), error
        after = [self._accuracy(name) for name in genotypes]
        gains = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
        if len(gains) < 2:
            raise InputError(
                f"space '{self.space.name}': {len(gains)} of {len(genotypes)} networks could be compared; raise the "
                "budget or the number of networks"
            )
        return float(np.mean(gains)), float(np.std(gains, ddof=1) / sqrt(len(gains)))


def _networks(space: Space[Any], settings: AnalyzeSettings) -> tuple[str, ...]:
    """The networks that stand for a space.

    Network i of every set is drawn with the same random numbers, so that two sets differ in operations far more than
    in widths and timesteps: a difference of pairs has a smaller error than one of independent draws.
    """
    if settings.networks is not None:
        drawn = (space.sample(make_rng(settings.seed, number)) for number in range(settings.networks))
        return tuple(map(space.format, drawn))
    if space.count() > LIMIT:
        raise InputError(f"space '{space.name}' has more than {LIMIT} networks: say how many of them to train")
    return tuple(map(space.format, space.enumerate()))


def _plan(
    space: Space[Any], settings: AnalyzeSettings, frames: int | None, test_accuracy: TestAccuracy | None
) -> Plan[Analysis]:
    bench = _Bench(space, settings, frames, test_accuracy, {})
    whole = yield from bench.judge(())
    rows: list[Row] = []
    impossible: dict[str, str] = {}
    for operation in space.operations:
        try:
            rows.append((yield from bench.judge((operation,))))
        except InputError as error:
            impossible[operation] = str(error)
    together = yield from _together(bench, _droppable(space.operations, rows, whole.fitting), rows)
    return Analysis(
        space=space.name,
        settings=settings,
        whole=whole,
        rows=tuple(rows),
        impossible=impossible,
        together=together,
        recommended=together.operations,
        reason=_reason(together),
    )


def _together(bench: _Bench, dropped: Operations, rows: Sequence[Row]) -> Plan[Row]:
    """All of ``dropped`` removed, or fewer, those that help most, until that helps as much as the first alone."""
    best = max((row.difference for row in rows if row.removed == dropped[:1]), default=0.0)
    while True:
        try:
            row = yield from bench.judge(dropped)
            if len(dropped) <= 1 or row.difference >= best:
                return row
        except InputError:  # too few networks are left
            pass
        dropped = dropped[:-1]


def _droppable(operations: Operations, rows: Sequence[Row], fitting: float) -> Operations:
    """Operations whose removal helps, those first that help most; one operation that spikes stays."""
    helping = [
        row
        for row in rows
        if row.removed[0] not in KEPT
        and row.difference > 0
        and row.difference >= row.standard_error
        and row.fitting > fitting / 2
    ]
    left = [name for name in operations if spiking(name)]
    dropped: list[str] = []
    for row in sorted(helping, key=lambda row: row.difference, reverse=True):
        name = row.removed[0]
        if name in left and len(left) == 1:
            continue
        left = [other for other in left if other != name]
        dropped.append(name)
    return tuple(dropped)


def _reason(together: Row) -> str:
    kept = f"{' and '.join(KEPT)} are kept for what they save"
    if not together.removed:
        return f"no other operation can be dropped with a gain beyond the standard error; {kept}"
    gain, error = 100 * together.difference, 100 * together.standard_error
    return (
        f"without {' and '.join(together.removed)} networks gain {gain:.2f} points of validation accuracy on average "
        f"(standard error {error:.2f}); {kept}"
    )
