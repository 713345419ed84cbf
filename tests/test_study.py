from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_search import DigitEvaluator, DigitSpace, digit_score, tiny_model

from spikenas.cost.budget import Budget, parse_bytes
from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels
from spikenas.cost.target import load_target
from spikenas.data.datasets import load_dataset
from spikenas.errors import InputError, NothingFits, RunError
from spikenas.graph import Graph
from spikenas.model import Model, float_shapes
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import Job, NetworkEvaluator, Outcome, Training, budget_use, training_seed
from spikenas.run.executor import SerialExecutor
from spikenas.run.store import SqliteStore
from spikenas.run.study import StudyResult, run_study
from spikenas.score.probe import draw_probe
from spikenas.score.scores import SCORES
from spikenas.score.structure import structure_score
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.strategy import Plan, PlannedStrategy
from spikenas.search.trial import TRAIN, Proposal, Trial, TrialState, fitting
from spikenas.space.space import load_space

SETTINGS = SearchSettings(samples=120, batch=20, parents=8, finalists=8, first_epochs=1, rounds=3)


def study(
    folder: Path, evaluator: DigitEvaluator, settings: SearchSettings = SETTINGS, heard: list[Trial] | None = None
) -> StudyResult:
    """A whole study in ``folder``, or the rest of it."""
    with SqliteStore(folder / "study.sqlite") as store:
        return run_study(
            make_strategy("screen-and-race", DigitSpace(), settings, seed=3),
            evaluator,
            SerialExecutor(),
            store,
            Checkpoints(folder / "weights"),
            None if heard is None else heard.append,
        )


def untimed(trials: Iterable[Trial]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


# --- the loop ---------------------------------------------------------------------------------------------


def test_a_study_finds_the_best_and_keeps_everything(tmp_path: Path) -> None:
    heard: list[Trial] = []
    result = study(tmp_path, DigitEvaluator(), heard=heard)
    assert [trial.number for trial in result.trials] == list(range(120 + 8 + 4 + 2))
    assert heard == list(result.trials)
    feasible = [trial for trial in result.trials if trial.measure == "structure" and trial.done]
    assert any(trial.state is TrialState.REJECTED for trial in result.trials)
    assert result.best.genotype == max(feasible, key=lambda trial: digit_score(trial.genotype)).genotype
    assert (result.best.measure, result.best.epochs) == (TRAIN, 4)
    # The last accuracy needs the weights of all three rounds: 1, 1 and 2 epochs.
    assert result.best.accuracy == pytest.approx(4 * digit_score(result.best.genotype) / 1e3, rel=1e-6)
    with SqliteStore(tmp_path / "study.sqlite", read_only=True) as store:
        assert store.trials() == list(result.trials)
        assert len(store.curve(result.best.number)) == 4


def test_a_finished_study_is_only_read_again(tmp_path: Path) -> None:
    first = study(tmp_path, DigitEvaluator())
    heard: list[Trial] = []
    again = study(tmp_path, DigitEvaluator(failing="0123456789"), heard=heard)  # would fail if it were asked
    assert again == first
    assert heard == list(first.trials)


@pytest.mark.parametrize("after", [0, 1, 37, 60, 119, 120, 125, 130, 133])
def test_a_study_stopped_anywhere_goes_on_as_if_nothing_happened(tmp_path: Path, after: int) -> None:
    halves = tmp_path / "halves"
    halves.mkdir()
    whole = study(tmp_path, DigitEvaluator())

    class Stop(BaseException):
        pass

    def stop(trial: Trial) -> None:
        if trial.number == after:
            raise Stop

    strategy = make_strategy("screen-and-race", DigitSpace(), SETTINGS, seed=3)
    checkpoints = Checkpoints(halves / "weights")
    with SqliteStore(halves / "study.sqlite") as store, pytest.raises(Stop):
        run_study(strategy, DigitEvaluator(), SerialExecutor(), store, checkpoints, stop)
    rest = study(halves, DigitEvaluator())
    assert untimed(rest.trials) == untimed(whole.trials)
    assert rest.best.genotype == whole.best.genotype


def test_trials_may_arrive_in_any_order(tmp_path: Path) -> None:
    class Backwards(SerialExecutor):
        def map(self, function, items, on_done=None, on_lost=None):  # type: ignore[no-untyped-def]
            results = super().map(function, list(items)[::-1])
            for index, result in enumerate(results):
                on_done(len(items) - 1 - index, result)
            return results[::-1]

    whole = study(tmp_path, DigitEvaluator())
    with SqliteStore(tmp_path / "other.sqlite") as store:
        strategy = make_strategy("screen-and-race", DigitSpace(), SETTINGS, seed=3)
        result = run_study(strategy, DigitEvaluator(), Backwards(), store, Checkpoints(tmp_path / "other"))
        assert untimed(result.trials) == untimed(whole.trials)
        assert untimed(store.trials()) == untimed(whole.trials)


def test_failed_trials_are_kept_with_their_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    result = study(tmp_path, DigitEvaluator(failing="3"))
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    assert failed
    assert {trial.reason for trial in failed} == {"asked to fail"}
    assert "3" not in result.best.genotype
    assert len(result.trials) == 134


def test_a_study_of_other_questions_is_refused(tmp_path: Path) -> None:
    study(tmp_path, DigitEvaluator())
    strategy = make_strategy("screen-and-race", DigitSpace(), SETTINGS, seed=4)
    with SqliteStore(tmp_path / "study.sqlite") as store, pytest.raises(RunError) as caught:
        run_study(strategy, DigitEvaluator(), SerialExecutor(), store)
    assert "trial 0 of the store is structure of" in str(caught.value)
    assert "start in another folder" in str(caught.value)


def test_a_study_with_trials_too_many_is_refused(tmp_path: Path) -> None:
    study(tmp_path, DigitEvaluator())
    with SqliteStore(tmp_path / "study.sqlite") as store:
        store.add(Trial(500, "000000", "structure", score=1.0))
    with pytest.raises(RunError, match="holds trial 500, which this search never asks for"):
        study(tmp_path, DigitEvaluator())


def test_nothing_fits(tmp_path: Path) -> None:
    with pytest.raises(NothingFits, match="120 tried"):
        study(tmp_path, DigitEvaluator(limit_bytes=99))


def test_an_empty_study_says_so(tmp_path: Path) -> None:
    def nothing() -> Plan[None]:
        yield from ()

    with SqliteStore(tmp_path / "study.sqlite") as store, pytest.raises(NothingFits, match="0 tried"):
        run_study(PlannedStrategy(nothing()), DigitEvaluator(), SerialExecutor(), store)


def test_going_on_with_a_training_needs_its_weights(tmp_path: Path) -> None:
    study(tmp_path, DigitEvaluator(), replace(SETTINGS, rounds=1))
    for file in (tmp_path / "weights").iterdir():
        file.unlink()
    with pytest.raises(RunError, match="no such model file"):
        study(tmp_path, DigitEvaluator())

    def go_on() -> Plan[None]:
        yield [Proposal("111111", TRAIN, 2, start=1)]

    with SqliteStore(tmp_path / "other.sqlite") as store, pytest.raises(RunError, match="keeps no weights"):
        run_study(PlannedStrategy(go_on()), DigitEvaluator(), SerialExecutor(), store)


SEARCH = """
import sys
from pathlib import Path
from typing import Any
from fakes_search import DigitEvaluator
from test_study import study
print("begun", flush=True)
study(Path(sys.argv[1]), DigitEvaluator(pause=float(sys.argv[2])))
"""


@pytest.mark.parametrize("trained", [False, True])
def test_kill_9_in_mid_search_loses_at_most_what_was_in_flight(tmp_path: Path, trained: bool) -> None:
    """A process that searches is really killed, once while it screens and once while it races."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = study(tmp_path / "whole", DigitEvaluator())
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    # A pause longer than the store's flushing interval makes every trial one that must not be lost.
    if trained:
        study(tmp_path / "killed", DigitEvaluator(), replace(SETTINGS, rounds=0))
    before = len(kept(tmp_path / "killed"))
    command = [sys.executable, "-c", SEARCH, str(tmp_path / "killed"), "0.3"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as process:
        wait_for(lambda: len(kept(tmp_path / "killed")) >= before + 3, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    survived = kept(tmp_path / "killed")
    assert before + 3 <= len(survived) < len(whole.trials)
    assert [trial.number for trial in survived] == list(range(len(survived)))

    evaluated: list[int] = []

    class Counting(DigitEvaluator):
        def __call__(self, job):  # type: ignore[no-untyped-def]
            evaluated.append(job.number)
            return super().__call__(job)

    resumed = study(tmp_path / "killed", Counting())
    assert evaluated == list(range(len(survived), len(whole.trials)))
    assert untimed(resumed.trials) == untimed(whole.trials)
    assert untimed(kept(tmp_path / "killed")) == untimed(whole.trials)


def kept(folder: Path) -> list[Trial]:
    try:
        with SqliteStore(folder / "study.sqlite", read_only=True) as store:
            return store.trials()
    except RunError:  # not made yet
        return []


def wait_for(happened, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- executors (the rest is in test_executors.py) ---------------------------------------------------------


def test_what_executors_move_can_be_pickled() -> None:
    which = evaluator(Budget(flash_bytes=10**6))
    job = Job(0, Proposal(GENOTYPE, "structure"), tiny_model(1.0))
    sent = pickle.loads(pickle.dumps((which, job)))
    again = pickle.loads(pickle.dumps(sent[0](sent[1])))
    assert replace(again.trial, seconds=0.0) == replace(which(job).trial, seconds=0.0)


# --- evaluation of real networks --------------------------------------------------------------------------

SPACE = load_space("embedded")
SHAPE = (1, 8, 8)
GENOTYPE = "t4-b8-k3s1-16:30s.01.3-32:003.00.0-pool"


def evaluator(budget: Budget, **more: object) -> NetworkEvaluator:
    return NetworkEvaluator(SPACE, SHAPE, 10, load_target("cortex-m4"), budget, **more)  # type: ignore[arg-type]


def evaluate(which: NetworkEvaluator, measure: str = "structure", genotype: str = GENOTYPE) -> Trial:
    return which(Job(0, Proposal(genotype, measure, 2 if measure == TRAIN else 0))).trial


def test_costs_and_score_are_those_of_the_graph() -> None:
    graph = SPACE.lower(SPACE.parse(GENOTYPE), SHAPE, 10)
    cost = estimate(graph, load_target("cortex-m4"))
    trial = evaluate(evaluator(Budget(flash_bytes=10**6, ram_bytes=2 * cost.ram_bytes)))
    assert trial.state is TrialState.DONE
    assert (trial.flash_bytes, trial.ram_bytes, trial.macs) == (cost.flash_bytes, cost.ram_bytes, round(cost.macs))
    assert (trial.synops, trial.energy_nj, trial.latency_ms) == (cost.synops, cost.energy_nj, cost.latency_ms)
    assert trial.score == structure_score(graph)
    assert trial.budget_use == 0.5
    assert trial.seconds > 0
    assert budget_use(Budget(), cost) is None


def test_what_is_over_budget_is_never_scored() -> None:
    def never(graph: Graph) -> float:
        raise AssertionError("scored")

    trial = evaluate(evaluator(Budget(flash_bytes=5_000), scores={"structure": never}))
    assert trial.state is TrialState.REJECTED
    assert trial.score is None
    assert trial.flash_bytes is not None
    assert trial.budget_use == trial.flash_bytes / 5_000
    assert "flash" in trial.reason
    assert "is over 4.9 KB" in trial.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_fails_the_trial(value: float) -> None:
    trial = evaluate(evaluator(Budget(), scores={"odd": lambda graph: value}), "odd")
    assert trial.state is TrialState.FAILED
    assert trial.reason == f"score 'odd' is {value}"
    assert trial.score is None


def test_every_score_can_be_a_measure() -> None:
    split = load_dataset("digits").train
    which = evaluator(Budget(), probe=draw_probe(split, 8, seed=1))
    graph = SPACE.lower(SPACE.parse(GENOTYPE), SHAPE, 10)
    for name, score in SCORES.items():
        trial = evaluate(which, name)
        value = score(graph, draw_probe(split, 8, seed=1))
        assert (trial.state, trial.score) == (TrialState.DONE, value), name


def test_a_score_that_looks_at_images_fails_the_trial_without_any() -> None:
    trial = evaluate(evaluator(Budget()), "sahd")
    assert trial.state is TrialState.FAILED
    assert trial.reason == "score 'sahd' reads activations: give it a dataset, or choose a structure score"


def test_structure_measures_never_load_torch() -> None:
    program = f"""
import sys
from spikenas.cost.budget import Budget
from spikenas.cost.target import load_target
from spikenas.run.evaluator import Job, NetworkEvaluator
from spikenas.search.trial import Proposal
from spikenas.space.space import load_space
which = NetworkEvaluator(load_space("embedded"), {SHAPE}, 10, load_target("cortex-m4"), Budget())
assert which(Job(0, Proposal({GENOTYPE!r}, "trainable_depth"))).trial.done
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_a_score_raises_fails_the_trial_which_keeps_its_costs_and_bugs_of_others_do_not_hide() -> None:
    def divide(graph: Graph) -> float:
        return 1 / 0

    def bug(graph: Graph, *_: object, **__: object) -> Any:
        raise KeyError("typo")

    which = evaluator(Budget(), trainer=bug, scores={"divide": divide, "bug": bug})
    failed = evaluate(which, "divide")
    assert (failed.state, failed.reason) == (TrialState.FAILED, "ZeroDivisionError: division by zero")
    assert failed.flash_bytes == estimate(SPACE.lower(SPACE.parse(GENOTYPE), SHAPE, 10), which.target).flash_bytes
    assert evaluate(which, "bug").reason == "KeyError: 'typo'"
    failed = evaluate(evaluator(Budget()), genotype="nonsense")
    assert failed.state is TrialState.FAILED
    assert "nonsense" in failed.reason
    failed = evaluate(evaluator(Budget()), "beauty")
    assert failed.reason.startswith("unknown measure 'beauty': choose from parameters, flops, ")
    assert "trainable_depth, sahd, " in failed.reason
    failed = evaluate(evaluator(Budget()), TRAIN)
    assert failed.reason.startswith("measure 'train' needs a dataset")
    with pytest.raises(KeyError):
        evaluate(which, TRAIN)


def fresh(graph: Graph) -> Model:
    return Model(graph, {name: np.ones(shape, np.float32) for name, shape in float_shapes(graph).items()})


def test_training_gets_its_start_its_epochs_and_a_seed_of_its_own() -> None:
    calls: list[tuple[Model | None, int, int]] = []

    def trainer(graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        calls.append((start, epochs, seed))
        return Training(fresh(graph), 0.75, [{"loss": 1.0}])

    which = evaluator(Budget(), trainer=trainer, seed=5)
    outcome = which(Job(9, Proposal(GENOTYPE, TRAIN, 6, start=2), tiny_model(0.0)))
    assert (outcome.trial.accuracy, outcome.trial.epochs, outcome.trial.number) == (0.75, 6, 9)
    assert outcome.curve == [{"loss": 1.0}]
    assert outcome.model is not None
    assert calls[0][0] is not None
    assert calls[0][1:] == (4, training_seed(GENOTYPE, 6, seed=5))
    seeds = {training_seed(g, e, seed=s) for g in "ab" for e in (1, 2) for s in (0, 1)}
    assert len(seeds) == 8


def test_measured_spikes_can_break_the_energy_budget() -> None:
    def trainer(graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        return Training(fresh(graph), 0.9, (), {name: 1.0 for name in graph.layers})

    graph = SPACE.lower(SPACE.parse(GENOTYPE), SHAPE, 10)
    quiet = estimate(graph, load_target("cortex-m4")).energy_nj
    which = evaluator(Budget(energy_nj=1.05 * quiet), trainer=trainer)
    assert evaluate(which).done
    trial = evaluate(which, TRAIN)
    assert trial.state is TrialState.REJECTED
    assert trial.accuracy == 0.9
    assert "energy" in trial.reason


@dataclass(frozen=True)
class Spiky(DigitEvaluator):
    """Latency is the digits' sum; a training finds that to be ``excess`` times as much, of which ``limit_ms`` fits."""

    excess: float = 1.5
    limit_ms: float = 8.0

    def __call__(self, job: Job) -> Outcome:
        outcome = super().__call__(job)
        trained = outcome.trial.accuracy is not None
        latency_ms = sum(map(int, job.proposal.genotype)) * (self.excess if trained else 1.0)
        use = latency_ms / self.limit_ms
        told = replace(outcome.trial, latency_ms=latency_ms, energy_nj=latency_ms, budget_use=use)
        return replace(outcome, trial=replace(told, state=TrialState.REJECTED) if use > 1 else told)


@pytest.mark.parametrize("name", ["screen-and-race", "exhaustive"])
def test_who_is_refused_when_trained_is_not_chosen_and_leaner_ones_race_instead(tmp_path: Path, name: str) -> None:
    settings = replace(SETTINGS, finalists=3, rounds=2)
    strategy = make_strategy(name, DigitSpace(length=4), settings, seed=3)
    with SqliteStore(tmp_path / "study.sqlite") as store:
        found = run_study(strategy, Spiky(), SerialExecutor(), store, Checkpoints(tmp_path / "weights"))
    trained = [trial for trial in found.trials if trial.measure == TRAIN]
    sums = [sum(map(int, trial.genotype)) for trial in trained]
    assert sums[:3] == [8, 8, 8]  # the best by score, each 12 ms when trained
    assert sums[3:6] == [5, 5, 5]  # 8 over 1.5, the excess: all within 8 ms when trained
    assert [trial.done for trial in trained] == [False] * 3 + [True] * (len(trained) - 3)
    assert (found.best.measure, found.best.epochs, sum(map(int, found.best.genotype))) == (TRAIN, 2, 5)


def test_when_training_refuses_all_nothing_fits_though_scores_said_so() -> None:
    scored = [Trial(0, "a", "structure", score=2.0), Trial(1, "b", "structure", score=1.0)]
    over = Trial(
        2, "a", TRAIN, 1, TrialState.REJECTED, accuracy=0.9, budget_use=1.22, reason="latency 61 ms is over 50 ms"
    )
    assert fitting([*scored, over]) == []
    assert fitting([*scored, over, (trained := Trial(3, "b", TRAIN, 1, accuracy=0.5))]) == [scored[1], trained]
    failed = replace(over, state=TrialState.FAILED, accuracy=None)
    assert fitting([*scored, failed]) == scored
    told = str(
        evaluator(Budget(latency_ms=50.0)).nothing_fits([*scored, over, replace(over, budget_use=2.0, reason="")])
    )
    assert told == (
        "none of 2 networks fits once it is trained and its spikes are counted, the nearest: "
        "latency 61 ms is over 50 ms; raise that limit"
    )


def test_an_accuracy_that_is_no_number_fails_the_trial() -> None:
    def trainer(graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        return Training(fresh(graph), float("nan"))

    outcome = evaluator(Budget(), trainer=trainer)(Job(0, Proposal(GENOTYPE, TRAIN, 1)))
    assert (outcome.trial.state, outcome.trial.reason) == (TrialState.FAILED, "accuracy is nan")
    assert outcome.model is None


def search(budget: Budget, samples: int = 60) -> StudyResult:
    first = (str(SPACE.smallest(SHAPE, 10)),)
    strategy = make_strategy("random", SPACE, SearchSettings(samples=samples), seed=0, first=first)

    class Memory:
        def trials(self) -> list[Trial]:
            return []

        def add(self, trial: Trial, curve: object = ()) -> None:
            pass

        def flush(self) -> None:
            pass

    return run_study(strategy, evaluator(budget), SerialExecutor(), Memory())


def test_nothing_fits_names_the_constraint_and_the_smallest_that_would_do() -> None:
    graph = SPACE.lower(SPACE.smallest(SHAPE, 10), SHAPE, 10)
    smallest = estimate(graph, load_target("cortex-m4"), kernels=Kernels.COMPACT)
    with pytest.raises(NothingFits) as caught:
        search(Budget(flash_bytes=1_000, ram_bytes=100_000))
    words = r"flash budget 1000 B: the smallest network of space 'embedded' needs (.*); raise --flash"
    match = re.fullmatch(words, str(caught.value))
    assert match is not None
    assert smallest.flash_bytes <= parse_bytes(match[1]) < smallest.flash_bytes + 110  # what it says will do
    with pytest.raises(NothingFits, match=r"RAM budget 10 B: the smallest network .* raise --ram"):
        search(Budget(flash_bytes=100_000, ram_bytes=10))
    with pytest.raises(NothingFits, match=r"latency budget 1e-09 ms: .* raise --latency"):
        search(Budget(latency_ms=1e-9))
    assert search(Budget(flash_bytes=smallest.flash_bytes, ram_bytes=smallest.ram_bytes)).best.done


def test_a_hopeless_flash_budget_is_refused_before_any_search() -> None:
    with pytest.raises(NothingFits, match=r"flash budget 1000 B: the smallest network .* raise --flash"):
        evaluator(Budget(flash_bytes=1_000)).check_budget()
    evaluator(Budget(flash_bytes=10_000, ram_bytes=1)).check_budget()
    evaluator(Budget()).check_budget()


def test_nothing_fits_both_at_once() -> None:
    """Each limit has a network that keeps it, none keeps both: the message says how near one comes."""
    trials = [
        Trial(
            0, "a", "structure", state=TrialState.REJECTED, flash_bytes=9_000, ram_bytes=100, energy_nj=1, latency_ms=1
        ),
        Trial(
            1, "b", "structure", state=TrialState.REJECTED, flash_bytes=4_000, ram_bytes=900, energy_nj=1, latency_ms=1
        ),
    ]
    space = load_space("spikenas-bench")
    which = NetworkEvaluator(space, (3, 32, 32), 10, load_target("cortex-m4"), Budget(5_000, 500))
    error = which.nothing_fits(trials)
    assert isinstance(error, NothingFits)
    assert str(error) == (
        "flash 4.9 KB and RAM 500 B together: of 2 networks tried the nearest needs flash 8.8 KB and RAM 100 B; "
        "raise --flash or --ram"
    )


def test_when_all_trials_fail_the_first_reason_is_told() -> None:
    failed = [Trial(0, "a", "structure", state=TrialState.FAILED, reason="no weather")]
    error = evaluator(Budget()).nothing_fits(failed)
    assert isinstance(error, InputError)
    assert str(error) == "no network of space 'embedded' could be evaluated: no weather"
