"""Scores judged by a small made-up table, and strategies replayed on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spikenas.errors import DatasetError, InputError, NothingFits
from spikenas.run.evaluator import Job
from spikenas.run.learner import PredictorLearner
from spikenas.run.replay import TableEvaluator, bench_strategies, replay, structure_columns
from spikenas.score.bench import BenchRow, BenchSettings, bench_predictor, bench_scores, graphs_of, scores_of
from spikenas.score.ranking import rank
from spikenas.score.score import Needs, Probe
from spikenas.score.scores import PROBE_SCORES, SCORES
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.table import Table, digits
from spikenas.score.trainable_depth import trainable_depth
from spikenas.search.settings import SearchSettings
from spikenas.search.strategies import make_strategy
from spikenas.search.strategy import PlannedStrategy
from spikenas.search.trial import TRAIN, Proposal, TrialState
from spikenas.space.macro import Variant
from spikenas.space.spikenas_bench import BenchSpace, from_arch_id, table_parameter_count

SPACE = BenchSpace()
EPOCHS = 8
DEPTH = "trainable_depth"


def table_of(ids: np.ndarray, seed: int = 0) -> Table:
    """Accuracies that grow with the number of spiking edges, with noise, and with the epochs."""
    rng = np.random.default_rng(seed)
    ops = digits(ids)
    final = 60 + 4 * (ops > 1).sum(axis=1) + rng.normal(0, 1, len(ids))
    curve = final[:, None] * np.linspace(0.5, 1, EPOCHS) + rng.normal(0, 0.5, (len(ids), EPOCHS))
    return Table(
        ids=ids,
        ops=ops,
        params=np.array([table_parameter_count(from_arch_id(i)) for i in ids.tolist()], np.int64),
        test_acc=final.astype(np.float32),
        val_acc=curve.astype(np.float32),
        train_acc=(curve + 1).astype(np.float32),
        firing_rates=np.full((len(ids), 16), -1, np.float32),
        train_seconds=np.full(len(ids), 800, np.float32),
    )


SMALL = table_of(np.arange(0, 15_625, 130))
WHOLE = table_of(np.arange(15_625))
PROBE = Probe(torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 5]))
TINY = BenchSettings(networks=12, seed=1, variant=Variant((4, 8), hidden=8, group=1))


# --- scores -------------------------------------------------------------------------------------------------


def test_structure_scores_judge_every_row() -> None:
    heard: list[BenchRow] = []
    rows = bench_scores(SMALL, list(STRUCTURE_SCORES.values()), on_row=heard.append)
    assert rows == heard
    assert [row.name for row in rows] == list(STRUCTURE_SCORES)
    by_name = {row.name: row.ranking for row in rows}
    assert by_name["parameters"].count == len(SMALL)
    # judged one by one
    values = []
    for arch_id in SMALL.ids.tolist():
        genotype = SPACE.canonical(from_arch_id(arch_id))
        live = genotype.cell.is_live
        values.append(trainable_depth(SPACE.lower(genotype, (3, 32, 32), 10)) if live else np.nan)
    assert by_name["trainable_depth"] == rank(SMALL, np.array(values))
    assert by_name["trainable_depth"].failed == np.isnan(values).sum() > 0
    assert by_name["spiking_depth"].tau > 0.3


def test_with_images_all_scores_judge_one_subset() -> None:
    assert bench_scores(SMALL, list(PROBE_SCORES.values())) == []
    asked = [SCORES["synflow"], SCORES["parameters"], SCORES["naswot"]]
    rows = bench_scores(SMALL, asked, PROBE, TINY, input_shape=(3, 8, 8))
    assert [(row.name, row.needs, row.ranking.count) for row in rows] == [
        ("synflow", Needs.GRADIENTS, 12),
        ("parameters", Needs.STRUCTURE, 12),
        ("naswot", Needs.ACTIVATIONS, 12),
    ]
    chosen = TINY.rows(SMALL)
    assert chosen.tolist() == TINY.rows(SMALL).tolist() == sorted(set(chosen.tolist()))
    assert chosen.tolist() != replace(TINY, seed=2).rows(SMALL).tolist()
    assert len(replace(TINY, networks=10**6).rows(SMALL)) == len(SMALL)
    subset, budgets = SMALL.take(chosen), SMALL.budgets.tolist()
    graphs = graphs_of(SMALL, chosen, (3, 8, 8), 10, TINY.variant)
    values = [np.nan if graph is None else SCORES["synflow"](graph, PROBE) for graph in graphs]
    assert rows[0].ranking == rank(subset, np.array(values), budgets)
    graphs = graphs_of(SMALL, chosen, (3, 8, 8), 10)
    values = [np.nan if graph is None else graph.parameter_count for graph in graphs]
    assert rows[1].ranking == rank(subset, np.array(values), budgets)
    assert len(subset.budgets) < len(budgets)
    assert rows[1].ranking.regrets[budgets[0]] is None  # of which the subset has none


def test_equal_networks_are_scored_once() -> None:
    calls: list[int] = []
    counted = replace(STRUCTURE_SCORES["parameters"], measure=lambda graph: float(calls.append(1) or 1))
    # 0-1 and 1-3 by a skip; and the same with a dead convolution from 2
    ids = np.array([1 + 625, 1 + 625 + 2 * 3125])
    graphs = graphs_of(WHOLE, ids, (3, 32, 32), 10)
    assert graphs[0] is graphs[1]
    assert scores_of(counted, [*graphs, None], ids)[:2].tolist() == [1.0, 1.0]
    assert len(calls) == 1


def test_settings_refuse() -> None:
    with pytest.raises(InputError, match="1 networks, seed 0"):
        BenchSettings(networks=1)
    with pytest.raises(InputError, match="seed -1"):
        BenchSettings(seed=-1)


def test_predictor_beats_chance_and_improves() -> None:
    table = table_of(np.arange(0, 15_625, 30))
    few, many = bench_predictor(table, (10, 200), seeds=4, last_epochs=3)
    assert (few.samples, few.seeds) == (10, 4)
    assert 0.3 < few.tau < many.tau < 1
    with pytest.raises(InputError, match=r"\d+ networks with a path"):
        bench_predictor(table, (10_000,), seeds=1)


# --- replay -------------------------------------------------------------------------------------------------


def evaluator(limit: int | None = None) -> TableEvaluator:
    return TableEvaluator(WHOLE, structure_columns(WHOLE), limit)


def test_trains_from_the_curves() -> None:
    table = evaluator()
    text = "bench-414410"
    row = WHOLE.rows([1234])[0]
    full = table(Job(3, Proposal(text, TRAIN, 4)))
    assert full.trial.number == 3
    assert full.trial.accuracy == pytest.approx(WHOLE.val_acc[row, 2:4].mean() / 100)  # the later half
    assert table(Job(3, Proposal(text, TRAIN, 1))).trial.accuracy == pytest.approx(WHOLE.val_acc[row, 0] / 100)
    assert table(Job(3, Proposal(text, TRAIN, 5))).trial.accuracy == pytest.approx(WHOLE.val_acc[row, 2:5].mean() / 100)
    assert replace(table, curves=False)(Job(3, Proposal(text, TRAIN, 4))) == replace(full, curve=())
    assert full.trial.seconds == pytest.approx(400)
    assert [point["val_accuracy"] for point in full.curve] == pytest.approx(WHOLE.val_acc[row, :4] / 100)
    more = table(Job(4, Proposal(text, TRAIN, 8, start=4)))  # complete: what it ends with
    assert more.trial.accuracy == pytest.approx(WHOLE.val_acc[row, 7] / 100)
    assert len(more.curve) == 4
    assert table(Job(5, Proposal(text, TRAIN, 99))).trial.accuracy == more.trial.accuracy
    assert table.test_accuracy(text) == pytest.approx(WHOLE.test_acc[row] / 100)


def test_scores_and_refuses() -> None:
    table = evaluator(limit=17_917_668)
    fits = table(Job(0, Proposal("bench-000100", "trainable_depth"))).trial
    assert fits.state is TrialState.FAILED  # no path: the score is not a number
    fits = table(Job(0, Proposal("bench-003000", "trainable_depth"))).trial
    assert fits.score == pytest.approx(trainable_depth(SPACE.lower(SPACE.parse("bench-003000"), (3, 32, 32), 10)))
    assert fits.budget_use == 1.0
    large = table(Job(0, Proposal("bench-303030", TRAIN, 1))).trial
    assert large.state is TrialState.REJECTED
    assert large.reason == "19393764 parameters, the budget is 17917668"
    unknown = table(Job(0, Proposal("bench-003000", "nonsense"))).trial
    assert (unknown.state, unknown.reason[:26]) == (TrialState.FAILED, "unknown measure 'nonsense'")
    absent = TableEvaluator(SMALL, {}, None)(Job(0, Proposal("bench-100000", TRAIN, 1))).trial
    assert "the table has no arch_id 1" in absent.reason
    with pytest.raises(DatasetError):
        TableEvaluator(SMALL, {}, None).row("bench-100000")


def test_replay_pays_every_epoch_once() -> None:
    def plan():  # type: ignore[no-untyped-def]
        yield [Proposal("bench-003000", "trainable_depth"), Proposal("bench-303030", "trainable_depth")]
        yield [Proposal("bench-003000", TRAIN, 2), Proposal("bench-002000", TRAIN, 2)]
        yield [Proposal("bench-003000", TRAIN, 6, start=2), Proposal("bench-303030", TRAIN, 9)]

    table = evaluator(limit=17_917_668)
    result = replay(PlannedStrategy(plan()), table)
    assert result.genotype == "bench-003000"
    assert (result.epochs, result.trained, result.judged) == (2 + 2 + 4, 3, 3)  # what does not fit costs nothing
    inside = WHOLE.test_acc[WHOLE.params <= 17_917_668]
    assert result.regret == pytest.approx(inside.max() - 100 * table.test_accuracy("bench-003000"), abs=1e-4)


def test_replay_when_nothing_fits() -> None:
    strategy = make_strategy("random", SPACE, SearchSettings(samples=5, measure=DEPTH), seed=0)
    with pytest.raises(NothingFits, match="1000 parameters: the smallest network of the table has 17179620"):
        replay(strategy, evaluator(limit=1000))
    with pytest.raises(NothingFits, match="17179620 parameters: the smallest of 5 networks tried has 1"):
        replay(
            make_strategy("random", SPACE, SearchSettings(samples=5, measure=DEPTH), seed=0),
            evaluator(limit=17_179_620),
        )
    broken = SearchSettings(samples=5, measure="nonsense")
    with pytest.raises(InputError, match="could be evaluated: unknown measure 'nonsense'"):
        replay(make_strategy("random", SPACE, broken, seed=0), evaluator())


def test_a_learner_races_better_networks_than_the_score_alone_would() -> None:
    """Accuracy here grows with the number of spiking edges, which parameters tell and depth only hints at."""
    settings = SearchSettings(samples=400, measure=DEPTH, finalists=16, first_epochs=4, rounds=2)
    table = evaluator()
    found = {}
    for name in ("screen-and-race", "learn-and-race"):
        learner = PredictorLearner(SPACE, (3, 32, 32), 10)
        runs = [replay(make_strategy(name, SPACE, settings, seed=seed, learner=learner), table) for seed in range(4)]
        assert all((run.epochs, run.trained) == (16 * 4 + 8 * 4, 16) for run in runs)
        found[name] = np.mean([run.regret for run in runs])
    assert found["learn-and-race"] < found["screen-and-race"]
    again = replay(make_strategy("learn-and-race", SPACE, settings, seed=3, learner=learner), table)
    assert again == runs[-1]


def test_strategies_by_budget() -> None:
    heard = []
    settings = {
        "random": SearchSettings(samples=60, measure=DEPTH),
        "screen-and-race": SearchSettings(samples=300, measure=DEPTH, finalists=4, first_epochs=1, rounds=3),
    }
    rows = bench_strategies(WHOLE, settings, seeds=2, on_row=heard.append)
    assert rows == heard
    assert len(rows) == 2 * 7
    assert {row.parameter_limit for row in rows} == set(WHOLE.budgets.tolist())
    for row in rows:
        if row.failed < 2:
            assert 0 <= row.mean_regret <= row.worst_regret
            assert row.mean_epochs <= (0 if row.strategy == "random" else 4 + 2 + 2)
    assert [row.failed for row in rows if row.strategy == "screen-and-race"] == [0] * 7
    # 60 of 9,444 networks: some budgets only a handful fit
    assert np.isnan(rows[0].mean_regret) == (rows[0].failed == 2)
    again = bench_strategies(WHOLE, settings, seeds=2)
    assert repr(rows) == repr(again)  # NaN is not equal to itself
