"""Strategies replayed on a table of trained networks: their quality as a figure, without training anything.

A table's learning curves answer every question a strategy can ask, "train this for n epochs" included, so what it
would have chosen, and the epochs a real run would have paid, are known. Test accuracy judges the choice; the strategy
sees validation accuracy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.errors import InputError, NothingFits, SpikenasError
from spikenas.run.evaluator import Job, Outcome
from spikenas.run.learner import PredictorLearner
from spikenas.score.bulk import Screened, screen
from spikenas.score.table import Table
from spikenas.search.learning import Learner
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.strategy import Strategy
from spikenas.search.trial import TRAIN, Proposal, Trial, TrialState, best_of
from spikenas.space.spikenas_bench import BenchSpace

Column = npt.NDArray[Any]
SEEDS = 20


def structure_columns(table: Table) -> dict[str, Column]:
    """Scores of structure for every row of ``table``, by name."""
    screened = screen(table.ops)
    return {
        "trainable_depth": screened.trainable_depth,
        "spiking_depth": screened.spiking_depth.astype(np.float64),
        "parameters": screened.parameters.astype(np.float64),
    }


@dataclass(frozen=True, eq=False)
class TableEvaluator:
    """Answers jobs on SpikeNAS-Bench genotypes from ``table``, as if it scored and trained.

    ``scores`` holds a value per row and measure, NaN where there is none. Accuracy is that of the validation images
    after a complete training, and before that the mean over the later half of the epochs trained so far: the table's
    learning rate falls to 0 only at the end, and what one epoch before that says is half noise (docs/benchmarks.md).
    A trial's seconds are its share of the network's training time. More than ``parameter_limit`` parameters do not
    fit; flash is a byte for each. Without ``curves`` trials come without theirs.
    """

    table: Table
    scores: Mapping[str, Column]
    parameter_limit: int | None = None
    space: BenchSpace = field(default_factory=BenchSpace)
    curves: bool = True
    _rows: dict[str, int] = field(default_factory=dict)

    @cached_property
    def screened(self) -> Screened:
        """Cost by row."""
        return screen(self.table.ops)

    @cached_property
    def lengths(self) -> Column:
        """Epochs of the complete training, by row."""
        return self.table.epochs

    def row(self, genotype: str) -> int:
        """The table's row of ``genotype``. Raises GenotypeError, and DatasetError when the table lacks it."""
        if genotype not in self._rows:
            self._rows[genotype] = int(self.table.rows([self.space.parse(genotype).arch_id])[0])
        return self._rows[genotype]

    def test_accuracy(self, genotype: str) -> float:
        """What the table knows of a genotype on test images, 0 to 1."""
        return float(self.table.test_acc[self.row(genotype)]) / 100

    def __call__(self, job: Job) -> Outcome:
        proposal = job.proposal
        blank = Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs)
        try:
            row = self.row(proposal.genotype)
            trial = self._costed(blank, row)
            if not trial.done:
                return Outcome(trial)
            return self._trained(trial, proposal, row) if proposal.measure == TRAIN else self._scored(trial, row)
        except SpikenasError as error:
            return Outcome(replace(blank, state=TrialState.FAILED, reason=str(error)))

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        """NothingFits with the least that was tried or exists, or InputError when every trial failed."""
        tried = [trial.flash_bytes for trial in trials if trial.flash_bytes is not None]
        if self.parameter_limit is None or not tried:
            reason = trials[0].reason if trials else "none was asked for"
            return InputError(f"no network of the table could be evaluated: {reason}")
        least, asked = int(self.table.params.min()), f"{self.parameter_limit} parameters"
        if least > self.parameter_limit:
            return NothingFits(f"{asked}: the smallest network of the table has {least}; raise the limit")
        return NothingFits(
            f"{asked}: the smallest of {len(tried)} networks tried has {min(tried)}; try more, or raise it"
        )

    def _costed(self, trial: Trial, row: int) -> Trial:
        params, limit = int(self.table.params[row]), self.parameter_limit
        trial = replace(trial, flash_bytes=params, synops=float(self.screened.synops[row]))
        if limit is None:
            return trial
        state = TrialState.REJECTED if params > limit else TrialState.DONE
        reason = f"{params} parameters, the budget is {limit}" if params > limit else ""
        return replace(trial, budget_use=params / limit, state=state, reason=reason)

    def _scored(self, trial: Trial, row: int) -> Outcome:
        if trial.measure not in self.scores:
            raise InputError(f"unknown measure {trial.measure!r}: choose from {', '.join((*self.scores, TRAIN))}")
        score = float(self.scores[trial.measure][row])
        if not np.isfinite(score):
            reason = f"score '{trial.measure}' is {score}"
            return Outcome(replace(trial, state=TrialState.FAILED, reason=reason))
        return Outcome(replace(trial, score=score))

    def _trained(self, trial: Trial, proposal: Proposal, row: int) -> Outcome:
        epochs = int(self.lengths[row])
        last = min(proposal.epochs, epochs)
        reached = self.table.val_acc[row, :last]
        later = reached[last // 2 if last < epochs else -1 :]
        seconds = float(self.table.train_seconds[row]) * (proposal.epochs - proposal.start) / epochs
        done = replace(trial, accuracy=float(later.mean(dtype=np.float64)) / 100, seconds=seconds)
        if not self.curves:
            return Outcome(done)
        columns = (self.table.train_acc[row, :last], reached)
        curve = [
            {"train_accuracy": float(t) / 100, "val_accuracy": float(v) / 100} for t, v in zip(*columns, strict=True)
        ]
        return Outcome(done, curve[proposal.start :])


@dataclass(frozen=True, slots=True)
class Replay:
    """What a strategy chose: ``regret`` in points of test accuracy against the best network within the budget."""

    genotype: str
    regret: float
    epochs: int
    trained: int
    judged: int


def replay(strategy: Strategy, evaluator: TableEvaluator) -> Replay:
    """Run ``strategy`` to its end on a table. Raises what ``evaluator.nothing_fits`` says when no trial is done."""
    trials: list[Trial] = []
    paid = 0
    while proposals := strategy.ask():
        numbered = enumerate(proposals, start=len(trials))
        batch = [evaluator(Job(number, proposal)).trial for number, proposal in numbered]
        asked = zip(proposals, batch, strict=True)
        paid += sum(p.epochs - p.start for p, trial in asked if p.measure == TRAIN and trial.done)
        strategy.tell(batch)
        trials += batch
    done = [trial for trial in trials if trial.done]
    if not done:
        raise evaluator.nothing_fits(trials)
    best = best_of(done)
    table, limit = evaluator.table, evaluator.parameter_limit
    feasible = table.test_acc if limit is None else table.test_acc[table.params <= limit]
    return Replay(
        genotype=best.genotype,
        regret=float(feasible.max() - table.test_acc[evaluator.row(best.genotype)]),
        epochs=paid,
        trained=len({trial.genotype for trial in trials if trial.measure == TRAIN}),
        judged=len({trial.genotype for trial in trials}),
    )


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """One strategy under one budget, over ``seeds`` seeds, with ``failed`` of which it found nothing that fits.

    Means, over the others, are NaN when it never found anything.
    """

    strategy: str
    parameter_limit: int
    seeds: int
    failed: int
    mean_regret: float
    worst_regret: float
    mean_epochs: float
    mean_judged: float


def bench_strategies(
    table: Table,
    strategies: Mapping[str, SearchSettings],
    *,
    seeds: int = SEEDS,
    scores: Mapping[str, Column] | None = None,
    on_row: Callable[[StrategyRow], None] | None = None,
) -> list[StrategyRow]:
    """Every strategy by name with its settings, under each of the table's budgets, with seeds 0 to ``seeds`` - 1.

    Exhaustive search draws nothing and is run once.
    """
    columns = structure_columns(table) if scores is None else scores
    space, rows = BenchSpace(), []
    learner = PredictorLearner(space, (3, 32, 32), 10)
    for limit in map(int, table.budgets):
        evaluator = TableEvaluator(table, columns, limit, space, curves=False)
        for name, settings in strategies.items():
            row = _strategy_row(name, settings, evaluator, limit, 1 if name == "exhaustive" else seeds, learner)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _strategy_row(
    name: str, settings: SearchSettings, evaluator: TableEvaluator, limit: int, seeds: int, learner: Learner
) -> StrategyRow:
    runs: list[Replay] = []
    for seed in range(seeds):
        with suppress(NothingFits):
            strategy = make_strategy(name, evaluator.space, settings, seed=seed, learner=learner)
            runs.append(replay(strategy, evaluator))

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    return StrategyRow(
        strategy=name,
        parameter_limit=limit,
        seeds=seeds,
        failed=seeds - len(runs),
        mean_regret=mean([run.regret for run in runs]),
        worst_regret=max((run.regret for run in runs), default=float("nan")),
        mean_epochs=mean([run.epochs for run in runs]),
        mean_judged=mean([run.judged for run in runs]),
    )
