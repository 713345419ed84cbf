"""What a run has decided and why, a sentence each: which network, which epoch, which kernels."""

from __future__ import annotations

from collections.abc import Sequence

from spikenas.cost.budget import Budget, format_bytes
from spikenas.cost.cost import Cost, estimate
from spikenas.cost.memory import Kernels
from spikenas.cost.target import Target
from spikenas.graph import Graph
from spikenas.run.study import StudyResult
from spikenas.search.trial import Trial, TrialState, fitting, quality
from spikenas.snn.learning_curve import EpochStats, comparable


def why_network(found: StudyResult) -> str:
    """The network that a study chose, what it did, and its closest rival."""
    best = found.best
    rivals = [trial for trial in fitting(found.trials) if trial.genotype != best.genotype]
    rejected = sum(trial.state is TrialState.REJECTED for trial in found.trials)
    beaten = "the only one that fits"
    if rivals:
        rival = max(rivals, key=quality)
        beaten = f"ahead of {rival.genotype}: {_measured(rival)}{_tie(best, rival)}"
        if quality(rival) > quality(best):
            beaten = f"hardly less than {rival.genotype}: {_measured(rival)}, for {_share(best, rival)} of its energy"
    return f"{len(found.trials):,} trials, {rejected:,} over budget; chose {best.genotype}: {_measured(best)}, {beaten}"


def _measured(trial: Trial) -> str:
    if trial.accuracy is not None:
        return f"{100 * trial.accuracy:.1f}% of validation images after {trial.epochs} epochs"
    return "not measured" if trial.score is None else f"{trial.measure} {trial.score:.4g}"


def _share(trial: Trial, rival: Trial) -> str:
    return f"{(trial.energy_nj or 0.0) / (rival.energy_nj or 1.0):.0%}"


def _tie(best: Trial, rival: Trial) -> str:
    """What decided where the measures do not show it; see :func:`spikenas.search.trial.quality`."""
    if _measured(best) != _measured(rival):
        return ""
    if best.accuracy == rival.accuracy and best.score == rival.score:
        return ", equal, but " + ("with more of the budget" if best.budget_use != rival.budget_use else "found later")
    return ", by less than is shown" if best.accuracy != rival.accuracy else ", with a lower score"


def why_epoch(kept: EpochStats, curve: Sequence[EpochStats]) -> str:
    """Which epoch's weights a training kept; see :func:`spikenas.snn.learning_curve.best_epoch`."""
    compared = comparable(curve)
    highest = max(compared, key=lambda stats: stats.val_accuracy)
    which = "highest" if len(compared) == len(curve) else "highest on spikes"
    words = f"kept epoch {kept.epoch} of {len(curve)}: {100 * kept.val_accuracy:.1f}% of validation images"
    if kept.val_accuracy == highest.val_accuracy:
        return f"{words}, the {which}"
    return f"{words}, the last within a standard error of the {which}, {100 * highest.val_accuracy:.1f}%"


def why_rounding(before: float, rounded: float, tuned: float, epochs: int) -> str:
    """Which weights became the integers: the trained ones rounded, or trained on so; accuracies 0 to 1."""
    words = f"{100 * rounded:.1f}% of validation images with rounded weights, {100 * before:.1f}% without"
    tried = f"{epochs} epoch{'s' if epochs > 1 else ''} with them rounded: {100 * tuned:.1f}%"
    return f"{words}; {tried}, {'kept' if tuned > rounded else 'not kept'}"


def why_kernels(cost: Cost, graph: Graph, target: Target, budget: Budget) -> str:
    """Which kernels compute a network of ``cost``; on a neuromorphic chip, how many cores."""
    if cost.assignment is not None:
        refused = "; ".join(cost.assignment.refusals)
        return f"refused by {target.name}: {refused}" if refused else f"{len(cost.assignment.layers)} cores hold it"
    limits = budget.flash_bytes or target.flash_bytes, budget.ram_bytes or target.ram_bytes
    if cost.plan.kernels is Kernels.FAST:
        return f"fast kernels: {_against(cost, limits)}"
    fast = estimate(graph, target, kernels=Kernels.FAST)
    return (
        f"compact kernels, several times slower: {_against(cost, limits)}; the fast ones need {_against(fast, limits)}"
    )


def _against(cost: Cost, limits: tuple[int, int]) -> str:
    used = cost.flash_bytes, cost.ram_bytes
    words = [f"{format_bytes(size)} of {format_bytes(limit)}" for size, limit in zip(used, limits, strict=True)]
    return f"{words[0]} flash, {words[1]} RAM"
