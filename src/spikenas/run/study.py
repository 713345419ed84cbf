"""The one search loop: ask, evaluate, keep, tell, until the strategy has no more questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spikenas.errors import RunError
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import Evaluator, Job, Outcome, lost_outcome
from spikenas.run.executor import Executor
from spikenas.run.store import Store
from spikenas.search.strategy import Strategy
from spikenas.search.trial import Proposal, Trial, best_of, fitting


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A finished study: the :func:`spikenas.search.trial.best_of` those that are fitting, and all trials by number."""

    best: Trial
    trials: tuple[Trial, ...]


def run_study(
    strategy: Strategy,
    evaluator: Evaluator,
    executor: Executor,
    store: Store,
    checkpoints: Checkpoints | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> StudyResult:
    """Run ``strategy`` to its end; ``on_trial`` hears of each trial as it arrives, those from the store included.

    Trials already in ``store`` are not evaluated again: they are the answers to the same questions, asked again by a
    strategy that is a function of its seed and its answers. So an interrupted study goes on as if nothing happened.

    Raises RunError when the stored trials answer other questions than the strategy asks, and what
    ``evaluator.nothing_fits`` says when no network is left to choose.
    """
    known = {trial.number: trial for trial in store.trials()}
    trials: list[Trial] = []
    try:
        while proposals := strategy.ask():
            jobs = [Job(number, proposal) for number, proposal in enumerate(proposals, start=len(trials))]
            batch = _batch(jobs, known, evaluator, executor, store, checkpoints, on_trial)
            strategy.tell(batch)
            trials.extend(batch)
    finally:
        store.flush()
    if extra := sorted(known.keys() - {trial.number for trial in trials}):
        raise RunError(f"the store holds trial {extra[0]}, which this search never asks for: {OTHER_SEARCH}")
    left = fitting(trials)
    if not left:
        raise evaluator.nothing_fits(trials)
    return StudyResult(best_of(left), tuple(trials))


OTHER_SEARCH = "it belongs to another search or version; start in another folder"


def _batch(
    jobs: Sequence[Job],
    known: Mapping[int, Trial],
    evaluator: Evaluator,
    executor: Executor,
    store: Store,
    checkpoints: Checkpoints | None,
    on_trial: Callable[[Trial], None] | None,
) -> list[Trial]:
    """Answer ``jobs`` from ``known`` where possible and by evaluation where not, in order."""
    answers = {job.number: _replayed(job, known[job.number]) for job in jobs if job.number in known}
    for trial in answers.values():
        if on_trial is not None:
            on_trial(trial)
    missing = [_with_weights(job, checkpoints) for job in jobs if job.number not in known]

    def keep(index: int, outcome: Outcome) -> None:
        if checkpoints is not None and outcome.model is not None:
            # Before the trial: a trial in the store promises that its weights are there.
            checkpoints.save(missing[index].proposal, outcome.model)
        store.add(outcome.trial, outcome.curve)
        if on_trial is not None:
            on_trial(outcome.trial)

    outcomes = executor.map(evaluator, missing, keep, lost_outcome)
    answers |= {outcome.trial.number: outcome.trial for outcome in outcomes}
    return [answers[job.number] for job in jobs]


def _replayed(job: Job, trial: Trial) -> Trial:
    asked = job.proposal
    if (asked.genotype, asked.measure, asked.epochs) != (trial.genotype, trial.measure, trial.epochs):
        raise RunError(
            f"trial {trial.number} of the store is {trial.measure} of '{trial.genotype}', the search asks for "
            f"{asked.measure} of '{asked.genotype}': {OTHER_SEARCH}"
        )
    return trial


def _with_weights(job: Job, checkpoints: Checkpoints | None) -> Job:
    proposal: Proposal = job.proposal
    if not proposal.start:
        return job
    if checkpoints is None:
        raise RunError(f"'{proposal.genotype}' is to continue a training, but this study keeps no weights")
    return Job(job.number, proposal, checkpoints.load(proposal))
