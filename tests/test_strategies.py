"""The strategies, against the optimum that brute force finds and under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_search import tiny_model

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.memory import Kernels
from spikenas.cost.target import load_target
from spikenas.errors import InputError, NothingFits, SpikenasError
from spikenas.graph import Graph
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.evaluator import Job, NetworkEvaluator, Outcome
from spikenas.run.executor import SerialExecutor
from spikenas.run.store import SqliteStore
from spikenas.run.study import StudyResult, run_study
from spikenas.score.structure import structure_score
from spikenas.search.judged import Judged
from spikenas.search.pareto import pareto_front
from spikenas.search.pruning import _strike
from spikenas.search.settings import SearchSettings
from spikenas.search.spikenas_search import gene_blocks
from spikenas.search.strategies import STRATEGIES, make_strategy
from spikenas.search.trial import TRAIN, Trial, TrialState
from spikenas.space.embedded import EmbeddedSpace
from spikenas.space.operations import spiking
from spikenas.space.space import Space, load_space

BENCH = load_space("spikenas-bench", ("none", "skip", "lif_conv3x3_th1.0"))
WHOLE_BENCH = load_space("spikenas-bench")
TWO_CELLS = load_space("spikenas", ("skip", "lif_conv3x3"))
SMALL = EmbeddedSpace(
    operations=("none", "lif_conv1x1"),
    timesteps=(2, 4),
    weight_bits=(8,),
    stem_kernels=(3,),
    widths=(4, 8),
    heads=("pool",),
    max_stages=1,
)
SETTINGS = SearchSettings(samples=300, batch=32, parents=8, finalists=4, rounds=2, population=20, objectives=("score",))
NEW = ("spikenas", "pruning", "evolution", "exhaustive", "racing")


def size_bytes(genotype: Any) -> int:
    """Every neuron with a convolution takes 100 bytes."""
    return 100 + 100 * sum(spiking(edge.operation) for cell in genotype.cells for edge in cell.connections)


def score_of(genotype: Any) -> float:
    """Connections differ in worth, and two that follow each other are worth more than apart."""
    total = 0.0
    for number, cell in enumerate(genotype.cells):
        for edge in cell.connections:
            worth = (1.0 + spiking(edge.operation)) * abs(edge.target - edge.source) ** 0.5 + 0.1 * edge.source
            follows = sum(other.target == edge.source for other in cell.connections)
            total += worth * (1 + 0.3 * number) + 0.7 * follows
    return total


@dataclass(frozen=True)
class CellEvaluator:
    """Judges cells without building them; ``scored`` hears of every genotype that was."""

    space: Space[Any]
    limit_bytes: int
    fail: bool = False
    scored: list[str] = field(default_factory=list)

    def __call__(self, job: Job) -> Outcome:
        proposal = job.proposal
        genotype = self.space.parse(proposal.genotype)
        size = size_bytes(genotype)
        use = size / self.limit_bytes
        trial = Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs, flash_bytes=size)
        if self.fail:
            return Outcome(replace(trial, state=TrialState.FAILED, reason="asked to fail"))
        if use > 1:
            return Outcome(replace(trial, state=TrialState.REJECTED, budget_use=use, reason="too large"))
        self.scored.append(proposal.genotype)
        value = score_of(genotype)
        if proposal.measure == TRAIN:
            return Outcome(replace(trial, budget_use=use, accuracy=value / 1e3), (), tiny_model(value))
        return Outcome(replace(trial, budget_use=use, score=value))

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        return NothingFits(f"{len(trials)} tried")


def ask_all(name: str, space: Space[Any], evaluator: Any, settings: SearchSettings, seed: int = 0) -> list[Trial]:
    """All trials of a search, without a study."""
    strategy = make_strategy(name, space, settings, seed=seed)
    trials: list[Trial] = []
    while proposals := strategy.ask():
        batch = [evaluator(Job(len(trials) + n, proposal)).trial for n, proposal in enumerate(proposals)]
        strategy.tell(batch)
        trials += batch
    return trials


def best_score(trials: Sequence[Trial]) -> float:
    return max(trial.score for trial in trials if trial.done and trial.score is not None)


@lru_cache
def optimum(space: Space[Any], limit_bytes: int) -> float:
    return max(score_of(g) for g in space.enumerate() if size_bytes(g) <= limit_bytes)


# --- what they find ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("space", "limit"), [(WHOLE_BENCH, 500), (TWO_CELLS, 800)])
@pytest.mark.parametrize("name", ["spikenas", "pruning", "evolution", "exhaustive"])
def test_the_best_network_under_a_budget_is_found(name: str, space: Space[Any], limit: int, seed: int) -> None:
    trials = ask_all(name, space, CellEvaluator(space, limit), replace(SETTINGS, samples=600), seed)
    assert best_score(trials) == optimum(space, limit)
    if name != "exhaustive":
        assert len(trials) <= 600 < space.count()


@pytest.mark.parametrize("name", ["spikenas", "pruning", "evolution"])
def test_guided_search_beats_random_draws_of_equal_number(name: str) -> None:
    """Two cells of all eight operations, 6e10 networks, of which few fit."""
    space = load_space("spikenas", load_space("embedded").operations)
    settings = replace(SETTINGS, samples=400)

    def found(strategy: str) -> list[float]:
        return [best_score(ask_all(strategy, space, CellEvaluator(space, 400), settings, seed)) for seed in range(3)]

    assert np.mean(found(name)) > np.mean(found("random")) + 1.0


def test_exhaustive_asks_for_each_genotype_once_and_then_races_the_finalists() -> None:
    settings = replace(SETTINGS, finalists=4, first_epochs=1, rounds=3)
    trials = ask_all("exhaustive", BENCH, CellEvaluator(BENCH, 500), settings)
    scored = [trial.genotype for trial in trials if trial.measure != TRAIN]
    assert sorted(scored) == sorted(map(str, BENCH.enumerate()))
    raced = [trial for trial in trials if trial.measure == TRAIN]
    assert [trial.epochs for trial in raced] == [1] * 4 + [2] * 2 + [4]


def test_racing_trains_random_networks_that_fit_and_halves_them() -> None:
    settings = replace(SETTINGS, finalists=8, first_epochs=3, rounds=3)
    trials = ask_all("racing", BENCH, CellEvaluator(BENCH, 500), settings)
    raced = [trial for trial in trials if trial.measure == TRAIN]
    assert [trial.epochs for trial in raced] == [3] * 8 + [6] * 4 + [12] * 2
    assert all(trial.done for trial in raced)
    fitting = [trial.genotype for trial in trials if trial.measure != TRAIN and trial.done]
    assert [trial.genotype for trial in raced[:8]] == fitting[:8]
    first = sorted(raced[:8], key=lambda trial: trial.accuracy or 0.0)
    assert {trial.genotype for trial in raced[8:12]} == {trial.genotype for trial in first[4:]}


def test_evolution_keeps_a_front_that_nothing_dominates_and_that_fits() -> None:
    """The front of a space small enough to be searched whole is the front of all its networks."""
    limit = 1_100
    settings = replace(SETTINGS, samples=600, population=40, objectives=("score", "flash_bytes"))
    trials = ask_all("evolution", BENCH, CellEvaluator(BENCH, limit), settings)
    front = pareto_front(trials, ("score", "flash_bytes"))
    points = {(trial.score, trial.flash_bytes) for trial in front}
    everyone = {(score_of(g), size_bytes(g)) for g in BENCH.enumerate() if size_bytes(g) <= limit}
    undominated = {
        (score, size)
        for score, size in everyone
        if not any(s >= score and b <= size and (s, b) != (score, size) for s, b in everyone)
    }
    assert all(trial.done and (trial.flash_bytes or 0) <= limit for trial in front)
    assert points == undominated
    assert len(points) > 3


def test_evolution_follows_the_objectives_it_is_given() -> None:
    settings = replace(SETTINGS, samples=200, objectives=("flash_bytes",))
    trials = ask_all("evolution", TWO_CELLS, CellEvaluator(TWO_CELLS, 10_000), settings)
    sizes = [trial.flash_bytes or 0 for trial in trials]
    assert min(sizes) == 100  # nothing but skips
    assert np.mean(sizes[20:]) < np.mean(sizes[:20])


def test_pruning_strikes_what_the_best_do_without() -> None:
    """Of two genes, 0 of the first is in no good network; of the second the best, and only it, has 1."""
    judged = Judged(SETTINGS)
    asking = judged.judge(["00", "10", "11", "01"])
    next(asking)
    scores = {"11": 9.0, "10": 5.0, "01": 2.0, "00": 1.0}
    with pytest.raises(StopIteration):
        asking.send([Trial(n, g, "structure", score=scores[g]) for n, g in enumerate(("00", "10", "11", "01"))])
    pool = [(np.array([int(digit) for digit in name]), name) for name in scores]
    options = [[0, 1], [0, 1]]
    _strike(options, pool, judged)
    # Neither 0 costs the best anything; the networks with 0 in the first gene are the worse ones.
    assert options == [[1], [0, 1]]
    _strike(options, pool, judged)
    assert options == [[1], [1]]
    assert [name for _, name in pool] == ["11"]


# --- what they ask ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_same_seed_same_questions_and_none_twice(name: str) -> None:
    def questions(seed: int) -> list[tuple[str, str, int]]:
        trials = ask_all(name, BENCH, CellEvaluator(BENCH, 500), SETTINGS, seed)
        return [(trial.genotype, trial.measure, trial.epochs) for trial in trials]

    asked = questions(5)
    assert asked == questions(5)
    assert len(asked) == len(set(asked))
    assert (asked == questions(6)) == (name == "exhaustive")
    scored = [measure for _, measure, _ in asked if measure != TRAIN]
    assert len(scored) == BENCH.count() if name == "exhaustive" else len(scored) <= SETTINGS.samples


@pytest.mark.parametrize("name", NEW)
def test_first_genotypes_come_first_and_the_first_batch_is_full(name: str) -> None:
    first = ("bench-001000", "bench-003000")
    settings = replace(SETTINGS, population=SETTINGS.batch)
    asked = [p.genotype for p in make_strategy(name, BENCH, settings, seed=0, first=first).ask()]
    assert tuple(asked[:2]) == first
    assert len(asked) == settings.batch


@pytest.mark.parametrize("name", NEW)
def test_a_space_smaller_than_the_samples_ends_the_search(name: str) -> None:
    space = load_space("spikenas-bench", ("skip", "lif_conv3x3_th1.0"))
    trials = ask_all(name, space, CellEvaluator(space, 10_000), replace(SETTINGS, samples=500))
    scored = [trial.genotype for trial in trials if trial.measure != TRAIN]
    assert len(scored) == len(set(scored)) <= space.count() == 64
    if name in ("spikenas", "exhaustive"):
        assert len(scored) == 64


@pytest.mark.parametrize("name", NEW)
def test_when_every_trial_fails_the_search_still_ends(name: str) -> None:
    trials = ask_all(name, BENCH, CellEvaluator(BENCH, 500, fail=True), replace(SETTINGS, samples=100))
    assert trials
    assert len(trials) <= (BENCH.count() if name == "exhaustive" else 100)


@pytest.mark.parametrize("space", ["spikenas", "embedded", "snasnet", "spikenas-bench"])
@pytest.mark.parametrize("name", ["spikenas", "pruning", "evolution"])
def test_spaces_of_one_cell_and_of_several(name: str, space: str) -> None:
    """What is asked for are genotypes of the space, canonical, each once."""
    which = load_space(space)
    trials = ask_all(name, which, CellEvaluator(which, 10_000), replace(SETTINGS, samples=120))
    parsed = [which.parse(trial.genotype) for trial in trials]
    assert all(which.canonical(genotype) == genotype for genotype in parsed)
    assert len(set(parsed)) == len(parsed) <= 120
    assert name == "pruning" or len(parsed) == 120


def test_genes_by_the_cell_they_write() -> None:
    cells = tuple(range(6)), tuple(range(6, 12))
    assert gene_blocks(load_space("spikenas")) == ((12,), *cells)
    assert gene_blocks(load_space("snasnet")) == ((6,), cells[0])
    assert gene_blocks(load_space("spikenas-bench")) == (cells[0],)
    blocks = gene_blocks(load_space("embedded"))
    # timesteps, bits, kernel, stride, head, halving, number of stages, and the width before each of four cells
    assert blocks[0] == (0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
    assert blocks[1:] == tuple(tuple(range(start, start + 6)) for start in (8, 15, 22, 29))


# --- within a study ---------------------------------------------------------------------------------------

SHAPE = (1, 8, 8)


def networks(flash_bytes: int, **more: Any) -> NetworkEvaluator:
    return NetworkEvaluator(SMALL, SHAPE, 10, load_target("cortex-m4"), Budget(flash_bytes=flash_bytes), **more)


def study(folder: Path, name: str, evaluator: Any, space: Space[Any], **more: Any) -> StudyResult:
    settings = replace(SETTINGS, samples=80, objectives=("score", "flash_bytes"))
    with SqliteStore(folder / "study.sqlite") as store:
        return run_study(
            make_strategy(name, space, settings, seed=3),
            evaluator,
            SerialExecutor(),
            store,
            Checkpoints(folder / "weights"),
            **more,
        )


@pytest.mark.parametrize("name", NEW)
def test_what_is_over_budget_is_never_scored(tmp_path: Path, name: str) -> None:
    smallest = SMALL.lower(SMALL.smallest((1, 8, 8), 10), (1, 8, 8), 10)
    limit = estimate(smallest, load_target("cortex-m4"), kernels=Kernels.COMPACT).flash_bytes + 300  # rejects many
    scored: list[int] = []

    def score(graph: Graph) -> float:
        scored.append(estimate(graph, load_target("cortex-m4"), flash_bytes=limit).flash_bytes)
        return structure_score(graph)

    result = study(tmp_path, name, networks(limit, scores={"structure": score}), SMALL)
    rejected = [trial for trial in result.trials if trial.state is TrialState.REJECTED]
    assert rejected
    assert max(scored) <= limit < min(trial.flash_bytes or 0 for trial in rejected)
    assert len(scored) == sum(trial.done for trial in result.trials if trial.measure != TRAIN)
    assert all(trial.score is None for trial in rejected)


@pytest.mark.parametrize("name", STRATEGIES)
def test_impossible_constraints_name_the_smallest_that_would_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(NothingFits, match=r"flash budget 100 B: the smallest network .* needs .*; raise --flash"):
        study(tmp_path, name, networks(100), SMALL)


@pytest.mark.parametrize("after", [0, 20, 33])
@pytest.mark.parametrize("name", NEW)
def test_a_study_stopped_anywhere_goes_on_as_if_nothing_happened(tmp_path: Path, name: str, after: int) -> None:
    class Stop(BaseException):
        pass

    def stop(trial: Trial) -> None:
        if trial.number == after:
            raise Stop

    (tmp_path / "halves").mkdir()
    evaluator = CellEvaluator(BENCH, 500)
    whole = study(tmp_path, name, evaluator, BENCH)
    with pytest.raises(Stop):
        study(tmp_path / "halves", name, evaluator, BENCH, on_trial=stop)
    evaluator.scored.clear()
    rest = study(tmp_path / "halves", name, evaluator, BENCH)
    assert rest.trials == whole.trials
    assert len(evaluator.scored) < sum(trial.done for trial in whole.trials)


# --- bad input --------------------------------------------------------------------------------------------


def test_exhaustive_refuses_a_space_without_end() -> None:
    with pytest.raises(InputError, match=r"space 'embedded' has 8\.\de\+28 genotypes, .* at most 100000: allow fewer"):
        make_strategy("exhaustive", load_space("embedded"), SETTINGS, seed=0)
    with pytest.raises(InputError, match=r"space 'spikenas' has \d+ genotypes"):
        make_strategy("exhaustive", load_space("spikenas"), SETTINGS, seed=0)


@pytest.mark.parametrize("objectives", [(), ("accuracy",), ("score", "beauty")])
def test_unknown_objectives(objectives: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="choose from score, flash_bytes, ram_bytes"):
        SearchSettings(objectives=objectives)


def test_an_objective_that_is_not_measured_says_so() -> None:
    with pytest.raises(InputError, match="objective 'energy_nj' was not measured for 'bench-"):
        ask_all("evolution", BENCH, CellEvaluator(BENCH, 10_000), replace(SETTINGS, objectives=("energy_nj",)))
