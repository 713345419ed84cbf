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
from spikenas.errors import InputError, NothingFits, SpikenasError, one_line
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
        """The trial of ``job``, a failed one after deliberate errors, what is no number, and whatever a score raises.

        A failed trial that has its costs would have fitted.
        """
        begun = time.perf_counter()
        proposal = job.proposal
        trial = Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs)
        try:
            graph = self._lower(self.space.parse(proposal.genotype))
            trial = self._costed(trial, self._estimate(graph))
            outcome = self._judged(job, graph, trial) if trial.done else Outcome(trial)
        except (SpikenasError, ArithmeticError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _out_of_memory(error):
                raise
            outcome = Outcome(_failed(trial, one_line(error)))
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
        if broken := [t for t in trials if t.state is TrialState.FAILED and t.flash_bytes is not None]:
            return _all_failed(broken)
        if not costs:
            reason = trials[0].reason if trials else "there were no proposals"
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

    def _judged(self, job: Job, graph: Graph, trial: Trial) -> Outcome:
        measure = job.proposal.measure
        if measure == TRAIN:
            return self._trained(job, graph, trial)
        try:
            score = self._score(measure, graph)
        except Exception as error:  # a user's own function may raise anything
            return Outcome(_failed(trial, one_line(error)))
        if not isfinite(score):
            return Outcome(_failed(trial, f"score '{measure}' is {score}"))
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
            return Outcome(_failed(trial, f"accuracy is {training.accuracy}"), training.curve)
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
    return Outcome(_failed(Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs), reason))


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


def _failed(trial: Trial, reason: str) -> Trial:
    return replace(trial, state=TrialState.FAILED, reason=reason)


def _all_failed(broken: Sequence[Trial]) -> InputError:
    """The error for a search whose networks would have fitted, had judging them not failed; the commonest reason."""
    measure = broken[0].measure
    what = "training" if measure == TRAIN else f"score '{measure}'"
    reason = Counter(trial.reason for trial in broken).most_common(1)[0][0]
    words = f"it {reason.removeprefix(f'{what} ')}" if reason.startswith(what) else reason
    networks = f"all {len(broken):,} networks that fit" if len(broken) > 1 else "the one network that fits"
    return InputError(f"{what} failed on {networks}: {words}")


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
