"""From a proposal to a trial: parse, lower, cost, refuse what is over budget, and only then score or train.

An evaluator is a function without effects, so it may run in any process and be run again when a worker dies:
weights and curves travel with the :class:`Outcome`, and only the driver of the study writes them down.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil, isfinite
from typing import Any, Protocol

from spikenas.cost.budget import Budget, format_figure
from spikenas.cost.cost import Cost, estimate
from spikenas.cost.neuromorphic import for_target
from spikenas.cost.target import Target
from spikenas.errors import InputError, NothingFits, SpikenasError
from spikenas.graph import Graph, Shape
from spikenas.model import Model
from spikenas.run.store import Curve
from spikenas.score.score import Probe
from spikenas.score.structure_scores import STRUCTURE_SCORES, find_score
from spikenas.search.trial import TRAIN, Proposal, Trial, TrialState
from spikenas.space.space import Space

StructureMeasure = Callable[[Graph], float]


@dataclass(frozen=True, slots=True)
class Job:
    """A numbered proposal, with the weights it continues from when ``proposal.start`` is not 0."""

    number: int
    proposal: Proposal
    start: Model | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial, and what a training leaves besides."""

    trial: Trial
    curve: Curve = ()
    model: Model | None = None


class Evaluator(Protocol):
    """Answers jobs; see :class:`NetworkEvaluator`. A table of trained networks can stand in for it."""

    def __call__(self, job: Job) -> Outcome: ...

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        """The error that says why a study ended without a single done trial."""
        ...


@dataclass(frozen=True, slots=True)
class Training:
    """What a short training found; ``accuracy`` on validation images, 0 to 1; spikes per neuron and step by Lif."""

    model: Model
    accuracy: float
    curve: Curve = ()
    spike_rates: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains ``graph`` for ``epochs`` more epochs, from ``start`` or fresh weights; same seed, same result."""

    def __call__(self, graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training: ...


@dataclass(frozen=True, slots=True)
class NetworkEvaluator:
    """Evaluates networks of one space, for one kind of input, on one device under one budget.

    ``probe`` is for scores that look at images; ``scores`` are those that read the graph alone.
    """

    space: Space[Any]
    input_shape: Shape
    classes: int
    target: Target
    budget: Budget
    trainer: Trainer | None = None
    seed: int = 0
    scores: Mapping[str, StructureMeasure] = field(default_factory=lambda: STRUCTURE_SCORES)
    probe: Probe | None = None

    def __call__(self, job: Job) -> Outcome:
        """The trial of ``job``; deliberate errors and numbers that are none make it a failed one."""
        begun = time.perf_counter()
        proposal = job.proposal
        blank = Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs)
        try:
            outcome = self._measure(job, blank)
        except (SpikenasError, ArithmeticError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _out_of_memory(error):
                raise
            outcome = Outcome(replace(blank, state=TrialState.FAILED, reason=_one_line(error)))
        return replace(outcome, trial=replace(outcome.trial, seconds=time.perf_counter() - begun))

    def check_budget(self) -> None:
        """Raise NothingFits, before any search, when the space's smallest network needs more flash than there is."""
        if error := self._beyond("flash_bytes", [self._smallest()]):
            raise error

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        """NothingFits with the constraint and the smallest that would do, or InputError when every trial failed."""
        costs = [_costs(trial) for trial in trials if trial.flash_bytes is not None]
        if over := [trial for trial in trials if trial.refused_when_trained]:
            closest = min(over, key=lambda trial: trial.budget_use or 0.0)
            return NothingFits(
                f"none of {len(over)} networks fits once it is trained and its spikes are counted, the nearest: "
                f"{closest.reason}; raise that limit"
            )
        broken = [
            trial.reason for trial in trials if trial.state is TrialState.FAILED and trial.flash_bytes is not None
        ]
        if broken or not costs:  # what has its costs and failed would have fitted
            reason = (broken or [trial.reason for trial in trials] or ["there were no proposals"])[0]
            return InputError(f"no network of space '{self.space.name}' could be evaluated: {reason}")
        if self.target.cores:
            reasons = Counter(trial.reason for trial in trials if trial.reason)
            reason, times = reasons.most_common(1)[0]
            return NothingFits(
                f"target '{self.target.name}' holds none of {len(trials)} networks of space '{self.space.name}', "
                f"{times} of them because {reason}"
            )
        costs.append(self._smallest())
        limits = {name: limit for name in FLAGS if (limit := getattr(self.budget, name)) is not None}
        for name in limits:
            if error := self._beyond(name, costs):
                return error
        nearest = min(costs, key=lambda cost: max(cost[name] / limit for name, limit in limits.items()))
        asked = " and ".join(f"{FLAGS[name][0]} {format_figure(name, limit)}" for name, limit in limits.items())
        needs = " and ".join(f"{FLAGS[name][0]} {format_figure(name, nearest[name])}" for name in limits)
        flags = " or ".join(FLAGS[name][1] for name in limits)
        return NothingFits(
            f"{asked} together: of {len(trials)} networks tried the nearest needs {needs}; raise {flags}"
        )

    def _beyond(self, name: str, costs: Sequence[Mapping[str, Any]]) -> NothingFits | None:
        """The error for one limit that none of ``costs`` keeps."""
        limit, least = getattr(self.budget, name), min(cost[name] for cost in costs)
        if limit is None or least <= limit:
            return None
        words, flag = FLAGS[name]
        return NothingFits(
            f"{words} budget {format_figure(name, limit)}: the smallest network of space '{self.space.name}' "
            f"needs {format_figure(name, _rounded_up(name, least))}; raise {flag}"
        )

    def _lower(self, genotype: Any) -> Graph:
        return for_target(self.space.lower(genotype, self.input_shape, self.classes), self.target)

    def _estimate(self, graph: Graph, spike_rates: Mapping[str, float] | None = None) -> Cost:
        limits = self.budget.flash_bytes, self.budget.ram_bytes
        return estimate(graph, self.target, spike_rates, flash_bytes=limits[0], ram_bytes=limits[1])

    def _smallest(self) -> dict[str, Any]:
        genotype = self.space.smallest(self.input_shape, self.classes)
        return _figures(self._estimate(self._lower(genotype)))

    def _measure(self, job: Job, blank: Trial) -> Outcome:
        proposal = job.proposal
        graph = self._lower(self.space.parse(proposal.genotype))
        trial = self._costed(blank, self._estimate(graph))
        if not trial.done:
            return Outcome(trial)
        if proposal.measure == TRAIN:
            return self._trained(job, graph, trial)
        score = self._score(proposal.measure, graph)
        if not isfinite(score):
            return Outcome(replace(trial, state=TrialState.FAILED, reason=f"score '{proposal.measure}' is {score}"))
        return Outcome(replace(trial, score=score))

    def _score(self, measure: str, graph: Graph) -> float:
        if measure in self.scores:
            return float(self.scores[measure](graph))
        return find_score(measure)(graph, self.probe)

    def _trained(self, job: Job, graph: Graph, trial: Trial) -> Outcome:
        if self.trainer is None:
            raise InputError(f"measure {TRAIN!r} needs a dataset: this study has none, use a score")
        proposal = job.proposal
        seed = training_seed(proposal.genotype, proposal.epochs, seed=self.seed)
        training = self.trainer(graph, job.start, epochs=proposal.epochs - proposal.start, seed=seed)
        if not isfinite(training.accuracy):
            failed = replace(trial, state=TrialState.FAILED, reason=f"accuracy is {training.accuracy}")
            return Outcome(failed, training.curve)
        # Now that the spikes are counted, energy and latency are known better than before.
        measured = self._costed(trial, self._estimate(graph, training.spike_rates))
        return Outcome(replace(measured, accuracy=training.accuracy), training.curve, training.model)

    def _costed(self, trial: Trial, cost: Cost) -> Trial:
        violations = self.budget.violations(cost)
        return replace(
            trial,
            **_figures(cost),
            budget_use=budget_use(self.budget, cost),
            state=TrialState.REJECTED if violations else TrialState.DONE,
            reason="; ".join(violations),
        )


def lost_outcome(job: Job, reason: str) -> Outcome:
    """What is kept of a job that an executor could not get an answer to: a failed trial, so that the study goes on."""
    proposal = job.proposal
    state = TrialState.FAILED
    return Outcome(Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs, state=state, reason=reason))


def budget_use(budget: Budget, cost: Cost) -> float | None:
    """The largest share of any limit that ``cost`` takes; above 1 it does not fit; None without limits.

    What the target cannot do at all counts as one limit more, taken 1 + (number of reasons) times.
    """
    limits = [(getattr(budget, item.name), getattr(cost, item.name)) for item in fields(budget)]
    refused = [1.0 + len(cost.assignment.refusals)] if cost.assignment and cost.assignment.refusals else []
    return max([*refused, *(value / limit for limit, value in limits if limit is not None)], default=None)


def training_seed(genotype: str, epochs: int, *, seed: int) -> int:
    """A seed of 32 bits that depends on what is trained, not on when or where."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epochs} {genotype}".encode()).digest()[:4], "big")


FLAGS = {
    "flash_bytes": ("flash", "--flash"),
    "ram_bytes": ("RAM", "--ram"),
    "energy_nj": ("energy", "--energy"),
    "latency_ms": ("latency", "--latency"),
}
FIGURES = ("flash_bytes", "ram_bytes", "macs", "synops", "energy_nj", "latency_ms")


def _figures(cost: Cost) -> dict[str, Any]:
    return {name: getattr(cost, name) for name in FIGURES} | {"macs": round(cost.macs)}


def _costs(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in FIGURES}


def _rounded_up(figure: str, value: float) -> float:
    """The next value that is shown without rounding, so that a user who types it in gets what is needed."""
    if not figure.endswith("bytes"):
        return value * 1.005
    step = 1 if value < 1024 else 102.4 if value < 1024**2 else 10485.76
    return ceil(ceil(value / step) * step)


def _out_of_memory(error: RuntimeError) -> bool:
    """torch's own words: torch.OutOfMemoryError on a GPU, a bare RuntimeError on a CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, SpikenasError) else f"{type(error).__name__}: {words}"
