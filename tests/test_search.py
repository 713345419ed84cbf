from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import pytest
from fakes_search import DigitEvaluator, DigitSpace, any_trial, digit_score
from hypothesis import given

from spikenas.errors import InputError, RunError
from spikenas.run.evaluator import Job
from spikenas.search.racing import choose_finalists, race, shortlist
from spikenas.search.screening import merit
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.strategy import PlannedStrategy, Strategy
from spikenas.search.trial import (
    TRAIN,
    TRIAL_FIELDS,
    Proposal,
    Trial,
    TrialState,
    best_of,
    quality,
    trial_from_dict,
    trial_to_dict,
)

SPACE = DigitSpace()
GENERAL = ("screen-and-race", "random")
"""Strategies that ask nothing of a space but to draw and vary genotypes."""
SETTINGS = SearchSettings(samples=300, batch=32, parents=16, finalists=8, first_epochs=2, rounds=3)


def drive(strategy: Strategy, answer: Callable[[Job], Trial]) -> list[list[Trial]]:
    """All batches of a search, without a study."""
    batches: list[list[Trial]] = []
    while proposals := strategy.ask():
        begin = sum(map(len, batches))
        batches.append([answer(Job(begin + index, proposal)) for index, proposal in enumerate(proposals)])
        strategy.tell(batches[-1])
    return batches


def evaluate(job: Job) -> Trial:
    return DigitEvaluator()(job).trial


def best_score(space: DigitSpace, units: int) -> float:
    """All digits cost the same, so the best string spends its units on the rightmost places."""
    score = 0.0
    for place in reversed(range(space.length)):
        spent = min(units, space.base - 1)
        score, units = score + spent * (1 + place / 7), units - spent
    return score


@given(any_trial)
def test_trials_survive_json(trial: Trial) -> None:
    assert trial_from_dict(json.loads(json.dumps(trial_to_dict(trial)))) == trial


def test_trial_refuses_what_is_no_number_or_no_field() -> None:
    with pytest.raises(RunError, match="trial 3: score is not a number"):
        Trial(3, "a", "structure", score=float("nan"))
    with pytest.raises(RunError, match="no field 'colour'"):
        trial_from_dict({**trial_to_dict(Trial(0, "a", "structure")), "colour": "red"})
    with pytest.raises(RunError, match="not a trial"):
        trial_from_dict({"number": 0})
    with pytest.raises(RunError, match="not a trial"):
        trial_from_dict({**trial_to_dict(Trial(0, "a", "structure")), "state": "asleep"})
    assert set(asdict(Trial(0, "a", "structure"))) == set(TRIAL_FIELDS)


def test_quality_puts_the_longest_training_first_and_then_accuracy() -> None:
    untrained = Trial(0, "a", "structure", score=99.0)
    brief = Trial(1, "b", TRAIN, 2, accuracy=0.99)
    poor = Trial(2, "c", TRAIN, 8, accuracy=0.90)
    good = Trial(3, "d", TRAIN, 8, accuracy=0.95, budget_use=0.9)
    lean = Trial(4, "e", TRAIN, 8, accuracy=0.95, budget_use=0.5)
    assert sorted([lean, good, poor, brief, untrained], key=quality) == [untrained, brief, poor, good, lean]


def test_of_networks_as_accurate_the_one_that_takes_least_energy_is_best() -> None:
    highest = Trial(0, "a", TRAIN, 8, accuracy=0.950, energy_nj=900.0)
    near = Trial(1, "b", TRAIN, 8, accuracy=0.941, energy_nj=500.0)
    far = Trial(2, "c", TRAIN, 8, accuracy=0.930, energy_nj=100.0)
    brief = Trial(3, "d", TRAIN, 4, accuracy=0.949, energy_nj=200.0)
    assert best_of([highest, near, far, brief]) is near
    assert best_of([highest, far, brief]) is highest
    assert (
        best_of([Trial(4, "e", "structure", score=2.0, energy_nj=9.0), Trial(5, "f", "structure", score=1.0)]).score
        == 2
    )


@pytest.mark.parametrize("name", GENERAL)
def test_same_seed_same_questions_and_none_twice(name: str) -> None:
    def questions(seed: int) -> list[tuple[str, str, int]]:
        batches = drive(make_strategy(name, SPACE, SETTINGS, seed=seed), evaluate)
        return [(trial.genotype, trial.measure, trial.epochs) for batch in batches for trial in batch]

    asked = questions(5)
    assert asked == questions(5)
    assert asked != questions(6)
    assert len(asked) == len(set(asked))
    scored = [genotype for genotype, measure, _ in asked if measure == "structure"]
    assert len(scored) == SETTINGS.samples


@pytest.mark.parametrize("name", GENERAL)
def test_a_small_space_is_exhausted_not_searched_for_ever(name: str) -> None:
    space = DigitSpace(length=2, base=3)
    batches = drive(make_strategy(name, space, SETTINGS, seed=0), evaluate)
    scored = [trial.genotype for batch in batches for trial in batch if trial.measure == "structure"]
    assert sorted(scored) == sorted(map(space.format, space.enumerate()))


@pytest.mark.parametrize("name", GENERAL)
def test_first_genotypes_come_first(name: str) -> None:
    strategy = make_strategy(name, SPACE, SETTINGS, seed=0, first=("000000", "111111"))
    asked = [proposal.genotype for proposal in strategy.ask()]
    assert asked[:2] == ["000000", "111111"]
    assert len(asked) == SETTINGS.batch


@pytest.mark.parametrize("name", GENERAL)
def test_when_every_trial_fails_the_search_still_ends(name: str) -> None:
    def fail(job: Job) -> Trial:
        return Trial(job.number, job.proposal.genotype, job.proposal.measure, state=TrialState.FAILED, reason="no")

    batches = drive(make_strategy(name, SPACE, SETTINGS, seed=0), fail)
    assert sum(map(len, batches)) == SETTINGS.samples


@pytest.mark.parametrize("seed", range(5))
def test_screening_climbs_to_the_edge_of_the_budget(seed: int) -> None:
    """Of 2e9 strings one in 300 or so keeps the limit, and 1,000 are judged."""
    space, units = DigitSpace(length=12, base=6), 15
    settings = SearchSettings(samples=1_000, finalists=0, rounds=0)

    def best(strategy: str) -> float:
        batches = drive(
            make_strategy(strategy, space, settings, seed=seed), lambda job: limited(job, 100 + 100 * units)
        )
        return max(trial.score for batch in batches for trial in batch if trial.done and trial.score is not None)

    assert best("random") < best("screen-and-race") <= best_score(space, units)
    assert best("screen-and-race") > 0.85 * best_score(space, units)


def limited(job: Job, limit_bytes: int) -> Trial:
    return DigitEvaluator(limit_bytes)(job).trial


def test_screening_descends_to_the_budget_when_nothing_random_fits() -> None:
    settings = SearchSettings(samples=600, batch=40, parents=16, finalists=0, rounds=0)
    space, limit = DigitSpace(length=8), 300
    batches = drive(make_strategy("screen-and-race", space, settings, seed=0), lambda job: limited(job, limit))
    flat = [trial for batch in batches for trial in batch]
    assert not any(trial.done for trial in flat[:300])
    assert any(trial.done for trial in flat)


def test_race_halves_and_trains_on() -> None:
    names = [f"{index}00000" for index in range(4)] + [f"0{index}0000" for index in range(1, 4)] + ["000001"]
    settings = SearchSettings(finalists=8, first_epochs=3, rounds=3)
    strategy = PlannedStrategy(race(names, settings))
    rounds: list[tuple[Proposal, ...]] = []
    while proposals := strategy.ask():
        rounds.append(proposals)
        strategy.tell([evaluate(Job(index, proposal)) for index, proposal in enumerate(proposals)])
    assert [{(p.epochs, p.start) for p in batch} for batch in rounds] == [{(3, 0)}, {(6, 3)}, {(12, 6)}]
    assert [len(batch) for batch in rounds] == [8, 4, 2]
    ranked = sorted(names, key=digit_score, reverse=True)
    assert {p.genotype for p in rounds[1]} == set(ranked[:4])
    assert {p.genotype for p in rounds[2]} == set(ranked[:2])


def test_race_goes_on_without_those_that_fail() -> None:
    def answer(job: Job) -> Trial:
        return DigitEvaluator(failing="3")(job).trial

    names = ["300000", "200000", "030000", "010000"]
    settings = SearchSettings(finalists=4, first_epochs=1, rounds=4)
    batches = drive(PlannedStrategy(race(names, settings)), answer)
    # Four, the two that did not fail, the better one; then there is nobody left to race against.
    assert [[t.genotype for t in batch] for batch in batches] == [names, ["200000", "010000"], ["200000"]]


def test_a_learner_proposes_the_second_half_of_the_finalists() -> None:
    """It is asked twice, each time about what is not trained yet, and then orders the rounds."""
    asked: list[tuple[int, int]] = []

    def learner(trained: Sequence[Trial], genotypes: Sequence[str], pool: Sequence[str]) -> list[float]:
        asked.append((len(trained), len(genotypes)))
        assert set(genotypes) <= set(pool)
        return [-digit_score(genotype) for genotype in genotypes]  # an opinion of its own

    settings = replace(SETTINGS, finalists=8, first_epochs=3, rounds=3)
    batches = drive(make_strategy("learn-and-race", SPACE, settings, seed=0, learner=learner), evaluate)
    judged = sorted((t for batch in batches for t in batch if t.measure != TRAIN and t.done), key=merit, reverse=True)
    ranked = list({(t.score, t.flash_bytes): t for t in reversed(judged)}.values())[::-1]  # twins once, the first
    assert len(ranked) < len(judged)
    trained = [batch for batch in batches if batch[0].measure == TRAIN]
    assert [(len(batch), batch[0].epochs) for batch in trained] == [(4, 3), (2, 3), (2, 3), (4, 6), (2, 12)]
    first = {trial.genotype for trial in trained[0]}
    tenth = {trial.genotype for trial in ranked[: round(len(ranked) / 10)]}
    worst_first = sorted(tenth - first, key=digit_score)
    assert [t.genotype for batch in trained[1:3] for t in batch] == worst_first[:4]
    everyone = sorted(first | set(worst_first[:4]), key=digit_score)
    assert [t.genotype for t in trained[3]] == everyone[:4]
    assert asked[:2] == [(4, len(tenth) - 4), (6, len(tenth) - 6)]


def test_a_learner_is_not_asked_about_two_networks() -> None:
    def never(trained: Sequence[Trial], genotypes: Sequence[str], pool: Sequence[str]) -> list[float]:
        raise AssertionError("asked")

    settings = replace(SETTINGS, finalists=3, first_epochs=1, rounds=2)
    batches = drive(make_strategy("learn-and-race", SPACE, settings, seed=0, learner=never), evaluate)
    assert [len(batch) for batch in batches if batch[0].measure == TRAIN] == [3, 1]
    for nothing in (replace(settings, finalists=0), replace(settings, rounds=0)):
        batches = drive(make_strategy("learn-and-race", SPACE, nothing, seed=0, learner=never), evaluate)
        assert not [batch for batch in batches if batch[0].measure == TRAIN]
    with pytest.raises(InputError, match="strategy 'learn-and-race' learns from trainings: give it a learner"):
        make_strategy("learn-and-race", SPACE, settings, seed=0)


def chosen(ranked: Sequence[Trial], count: int) -> list[str]:
    return choose_finalists(SPACE, shortlist(ranked, count), count)


def test_finalists_are_among_the_best_and_unlike_each_other() -> None:
    def scored(*genotypes: str) -> list[Trial]:
        return [Trial(i, g, "structure", score=1000.0 - i) for i, g in enumerate(genotypes)]

    best = ["333333", "333332", "333322", "000333", "333000"]
    ranked = scored(*best, *(f"{index:06d}" for index in range(45)))  # the best tenth are five
    assert chosen(ranked, 1) == ["333333"]
    assert chosen(ranked, 3) == ["333333", "000333", "333000"]
    assert chosen(ranked, 5) == ["333333", "000333", "333000", "333322", "333332"]
    assert len(chosen(ranked, 8)) == 8
    assert len(chosen(ranked, 99)) == 50
    assert chosen(ranked, 0) == []
    assert chosen([Trial(0, "0" * 6, "structure", state=TrialState.FAILED)], 4) == []


def test_one_network_written_twice_is_one_finalist() -> None:
    figures = {"flash_bytes": 10, "ram_bytes": 20, "macs": 30, "synops": 4.0}
    ranked = [Trial(i, g, "structure", score=1.0, **figures) for i, g in enumerate(["100000", "000001", "111111"])]
    other = Trial(3, "222222", "structure", score=0.5, **figures)
    assert chosen([*ranked, other], 4) == ["100000", "222222"]


@pytest.mark.parametrize("name", ["screen-and-race", "exhaustive"])
def test_a_second_score_halves_the_shortlist(name: str) -> None:
    """The second score counts digits 1; networks it fails on do not race."""

    def answer(job: Job) -> Trial:
        trial = evaluate(job)
        if job.proposal.measure != "ones":
            return trial
        if job.number % 3 == 0:
            return replace(trial, state=TrialState.FAILED, score=None, reason="no")
        return replace(trial, score=float(trial.genotype.count("1")))

    settings = replace(SETTINGS, samples=400, finalists=4, rounds=1, shortlist_measure="ones")
    trials = [t for batch in drive(make_strategy(name, SPACE, settings, seed=0), answer) for t in batch]
    first = sorted((t for t in trials if t.measure == "structure" and t.done), key=merit, reverse=True)
    second = [t for t in trials if t.measure == "ones"]
    listed = [t.genotype for t in shortlist(first, 4)]
    assert [t.genotype for t in second] == listed
    able = [t for t in second if t.done]
    assert 4 < len(able) < len(second)
    again = sorted(able, key=lambda t: -(t.score or 0.0))  # stable: ties stay in the first score's order
    places = {t.genotype: listed.index(t.genotype) + again.index(t) for t in able}
    better = sorted(places, key=lambda genotype: (places[genotype], listed.index(genotype)))[: len(second) // 2]
    raced = [t.genotype for t in trials if t.measure == TRAIN]
    assert raced[0] == better[0]
    assert len(raced) == 4
    assert set(raced) <= set(better)


def test_strategy_is_deaf_to_other_answers() -> None:
    strategy = make_strategy("random", SPACE, SETTINGS, seed=0)
    proposals = strategy.ask()
    assert strategy.ask() == proposals  # asking again without telling changes nothing
    with pytest.raises(RunError, match="answer other proposals"):
        strategy.tell([Trial(index, "000000", "structure") for index in range(len(proposals))])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_strategy("magic", SPACE, SETTINGS, seed=0), "unknown strategy 'magic': choose from screen"),
        (lambda: make_strategy("random", SPACE, SETTINGS, seed=-1), "seed -1"),
        (lambda: SearchSettings(samples=0), "samples 0: it must be a whole number, at least 1"),
        (lambda: SearchSettings(batch=2.5), "batch 2.5"),  # type: ignore[arg-type]
        (lambda: SearchSettings(rounds=-1), "rounds -1: it must be a whole number, at least 0"),
    ],
)
def test_bad_settings(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
