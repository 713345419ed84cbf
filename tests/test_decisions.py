"""What a run says of its decisions, against decisions made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_graphs import random_graph

from spikenas.cost.budget import Budget, format_bytes
from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels
from spikenas.cost.target import load_target
from spikenas.run.decisions import why_epoch, why_kernels, why_network
from spikenas.run.study import StudyResult
from spikenas.search.trial import TRAIN, Trial, TrialState, best_of
from spikenas.snn.learning_curve import EpochStats, best_epoch

GOOD = Trial(0, "good", TRAIN, epochs=8, accuracy=0.931, score=5.0, budget_use=0.5)
OTHERS = [
    Trial(1, "large", "structure", state=TrialState.REJECTED, reason="flash"),
    Trial(2, "short", TRAIN, epochs=2, accuracy=0.99, score=9.0),
    Trial(3, "unseen", "structure", score=99.0),
]


@pytest.mark.parametrize(
    ("rival", "words"),
    [
        ({"accuracy": 0.924}, "ahead of rival: 92.4% of validation images after 8 epochs"),
        ({"accuracy": 0.93099}, "after 8 epochs, by less than is shown"),
        ({"score": 4.0}, "after 8 epochs, with a lower score"),
        ({"budget_use": 0.9}, "after 8 epochs, equal, but with more of the budget"),
        ({}, "after 8 epochs, equal, but found later"),
    ],
)
def test_the_closest_rival_and_what_decided(rival: dict[str, float], words: str) -> None:
    trials = [GOOD, *OTHERS, replace(GOOD, number=4, genotype="rival", **rival)]  # type: ignore[arg-type]
    best = best_of([trial for trial in trials if trial.done])
    told = why_network(StudyResult(best, tuple(trials)))
    assert told.startswith("5 trials, 1 over budget; chose good: 93.1% of validation images after 8 epochs, ahead of ")
    assert told.endswith(words)


def test_a_rival_hardly_better_takes_more_energy() -> None:
    trials = [
        replace(GOOD, energy_nj=300.0),
        replace(GOOD, number=4, genotype="rival", accuracy=0.935, energy_nj=500.0),
    ]
    assert why_network(StudyResult(best_of(trials), tuple(trials))).endswith(
        "hardly less than rival: 93.5% of validation images after 8 epochs, for 60% of its energy"
    )


def test_a_search_without_training_compares_scores() -> None:
    trials = tuple(Trial(n, name, "structure", score=score) for n, (name, score) in enumerate([("a", 2.5), ("b", 4.0)]))
    assert why_network(StudyResult(trials[1], trials)) == (
        "2 trials, 0 over budget; chose b: structure 4, ahead of a: structure 2.5"
    )
    assert why_network(StudyResult(trials[0], trials[:1])).endswith("chose a: structure 2.5, the only one that fits")


def test_the_epoch_that_is_kept() -> None:
    accuracies = [0.5, 0.95, 0.94, 0.7]
    curve = tuple(EpochStats(n, 0.0, 0.0, 0.0, accuracy, 0.1, 1.0, 1.0) for n, accuracy in enumerate(accuracies, 1))
    assert why_epoch(best_epoch(curve, 100), curve) == (
        "kept epoch 3 of 4: 94.0% of validation images, the last within a standard error of the highest, 95.0%"
    )
    assert why_epoch(best_epoch(curve, 10**6), curve) == "kept epoch 2 of 4: 95.0% of validation images, the highest"
    curve = (replace(curve[0], val_accuracy=0.99, on_rates=True), *curve[1:])
    assert why_epoch(best_epoch(curve, 10**6), curve).endswith("95.0% of validation images, the highest on spikes")


def test_the_kernels_and_what_the_others_would_need() -> None:
    graph, target = random_graph(3), load_target("cortex-m4")
    fast, compact = (estimate(graph, target, kernels=kernels).flash_bytes for kernels in Kernels)
    tight, wide = Budget((fast + compact) // 2, 64 * 1024), Budget(64 * 1024, 64 * 1024)
    told = why_kernels(estimate(graph, target, flash_bytes=tight.flash_bytes), graph, target, tight)
    assert told.startswith(f"compact kernels, several times slower: {format_bytes(compact)} of ")
    assert f"the fast ones need {format_bytes(fast)} of " in told
    told = why_kernels(estimate(graph, target, flash_bytes=wide.flash_bytes), graph, target, wide)
    assert told.startswith(f"fast kernels: {format_bytes(fast)} of 64.0 KB flash")
