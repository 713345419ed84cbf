"""Analysis of operations, against populations whose best answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikenas.errors import InputError, NothingFits, SpikenasError
from spikenas.run.analyze import Analysis, AnalyzeSettings, analyze
from spikenas.run.evaluator import Job, Outcome
from spikenas.run.executor import SerialExecutor
from spikenas.run.store import SqliteStore
from spikenas.search.trial import TRAIN, Trial, TrialState
from spikenas.space.space import Space, load_space

WHOLE = AnalyzeSettings(epochs=3, networks=None)
LOW, MIDDLE, HIGH = (f"lif_conv3x3_th{value}" for value in ("0.5", "1.0", "1.5"))
BENCH = load_space("spikenas-bench", ("none", LOW, MIDDLE, HIGH))


@dataclass(frozen=True)
class WorthEvaluator:
    """Accuracy is half plus the worth of the operations on the connections, in hundredths."""

    space: Space[Any]
    worth: dict[str, float]
    too_large: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def accuracy(self, genotype: str) -> float:
        cells = self.space.parse(genotype).cells
        return 0.5 + sum(self.worth.get(edge.operation, 0.0) for cell in cells for edge in cell.connections) / 100

    def __call__(self, job: Job) -> Outcome:
        proposal = job.proposal
        assert (proposal.measure, proposal.epochs) == (TRAIN, 3)
        self.asked.append(proposal.genotype)
        used = {edge.operation for cell in self.space.parse(proposal.genotype).cells for edge in cell.connections}
        trial = Trial(job.number, proposal.genotype, proposal.measure, proposal.epochs)
        if used & set(self.too_large):
            return Outcome(replace(trial, state=TrialState.REJECTED, budget_use=2.0, reason="too large"))
        return Outcome(replace(trial, accuracy=self.accuracy(proposal.genotype)))

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        return NothingFits(f"{len(trials)} tried")


def analysis(folder: Path, evaluator: WorthEvaluator, settings: AnalyzeSettings = WHOLE, **more: Any) -> Analysis:
    with SqliteStore(folder / "analysis.sqlite") as store:
        return analyze(evaluator.space, settings, evaluator, SerialExecutor(), store, **more)


def test_rows_are_those_of_the_networks_without_the_operation(tmp_path: Path) -> None:
    evaluator = WorthEvaluator(BENCH, {LOW: -0.5, MIDDLE: 1.0, HIGH: 1.5})
    found = analysis(tmp_path, evaluator, test_accuracy=lambda genotype: evaluator.accuracy(genotype) - 0.1)
    everyone = np.array([evaluator.accuracy(str(genotype)) for genotype in BENCH.enumerate()])
    assert found.whole.networks == len(everyone) == BENCH.count()
    assert found.whole.mean == pytest.approx(everyone.mean())
    assert (found.whole.difference, found.whole.removed) == (0.0, ())
    assert [row.removed for row in found.rows] == [("none",), (LOW,), (MIDDLE,), (HIGH,)]
    for row in found.rows:
        without = [g for g in BENCH.enumerate() if not _uses(g, row.removed[0])]
        values = np.array([evaluator.accuracy(str(genotype)) for genotype in without])
        assert row.networks == len(values)
        assert row.mean == pytest.approx(values.mean())
        assert row.best == pytest.approx(values.max())
        assert row.top == pytest.approx(np.sort(values)[-round(len(values) / 10) :].mean())
        assert row.difference == pytest.approx(values.mean() - everyone.mean())
        error = sqrt(values.var(ddof=1) / len(values) + everyone.var(ddof=1) / len(everyone))
        assert row.standard_error == pytest.approx(error)
        assert row.test_mean == pytest.approx(row.mean - 0.1)
        assert row.test_best == pytest.approx(row.best - 0.1)
    assert len(evaluator.asked) == len(set(evaluator.asked)) == BENCH.count()


def _uses(genotype: Any, operation: str) -> bool:
    if operation == "none":
        return len(genotype.cell.connections) < 6
    return any(edge.operation == operation for edge in genotype.cell.connections)


def test_what_harms_is_dropped_and_what_helps_or_saves_is_kept(tmp_path: Path) -> None:
    """Without ``none`` networks are better on average, being larger; it stays all the same."""
    found = analysis(tmp_path, WorthEvaluator(BENCH, {LOW: -0.5, MIDDLE: 1.0, HIGH: 1.5}))
    none = found.rows[0]
    assert none.difference > 5 * none.standard_error
    assert found.recommended == ("none", MIDDLE, HIGH)
    assert found.together.removed == (LOW,)
    assert f"without {LOW} networks gain" in found.reason
    assert "none and skip are kept" in found.reason
    assert load_space(found.space, found.recommended).operations == found.recommended


def test_where_all_are_alike_nothing_is_dropped(tmp_path: Path) -> None:
    found = analysis(tmp_path, WorthEvaluator(BENCH, {}))
    assert found.recommended == BENCH.operations
    assert all(row.difference == 0 for row in found.rows)
    assert found.reason.startswith("no other operation can be dropped")


def test_the_last_operation_that_spikes_stays(tmp_path: Path) -> None:
    space = load_space("spikenas-bench", ("none", "skip", LOW))
    found = analysis(tmp_path, WorthEvaluator(space, {LOW: -5.0}))
    assert found.rows[-1].difference > 0
    assert found.recommended == space.operations


def test_two_that_can_each_be_spared_but_not_together(tmp_path: Path) -> None:
    """Either of two makes the third work; without both of them nothing does."""

    @dataclass(frozen=True)
    class EitherOr(WorthEvaluator):
        def accuracy(self, genotype: str) -> float:
            used = [edge.operation for edge in self.space.parse(genotype).cell.connections]
            alone = not {LOW, MIDDLE} & set(used)
            return 0.2 if alone else 0.6 - 0.05 * (LOW in used and MIDDLE in used) - 0.01 * (LOW in used)

    space = load_space("spikenas-bench", (LOW, MIDDLE, HIGH))
    found = analysis(tmp_path, EitherOr(space, {}))
    rows = {row.removed[0]: row for row in found.rows}
    assert rows[LOW].difference > 0
    assert rows[MIDDLE].difference > 0
    assert found.together.removed in ((LOW,), (MIDDLE,))
    assert found.together.difference == max(rows[LOW].difference, rows[MIDDLE].difference)


def test_few_networks_drawn_in_pairs_find_what_all_of_them_show(tmp_path: Path) -> None:
    space = load_space("embedded", ("none", "lif_conv1x1", "lif_conv3x3", "lif_conv5x5"))
    evaluator = WorthEvaluator(space, {"lif_conv1x1": -1.0, "lif_conv3x3": 1.0, "lif_conv5x5": 1.0})
    found = analysis(tmp_path, evaluator, AnalyzeSettings(epochs=3, networks=12, seed=1))
    assert found.recommended == ("none", "lif_conv3x3", "lif_conv5x5")
    assert found.whole.networks == 12
    row = found.rows[1]
    spread = np.std([evaluator.accuracy(genotype) for genotype in evaluator.asked[:12]], ddof=1)
    assert row.standard_error < sqrt(2 * spread**2 / 12)  # what independent draws would have
    (tmp_path / "again").mkdir()
    assert analysis(tmp_path / "again", evaluator, found.settings) == found


def test_pairs_differ_in_operations_and_not_in_widths(tmp_path: Path) -> None:
    space = load_space("embedded")
    evaluator = WorthEvaluator(space, {})
    found = analysis(tmp_path, evaluator, AnalyzeSettings(epochs=3, networks=5))
    assert len(found.rows) == len(space.operations)
    frames = [
        (g.timesteps, g.weight_bits, g.stem_kernel, g.stem_stride, g.head, tuple(stage.width for stage in g.stages))
        for g in map(space.parse, evaluator.asked)
    ]
    assert len(set(frames)) <= 5 < len(frames)


def test_an_interrupted_analysis_goes_on(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(trial: Trial) -> None:
        if trial.number == 1_500:
            raise Stop

    evaluator = WorthEvaluator(BENCH, {LOW: -0.5, MIDDLE: 1.0})
    with pytest.raises(Stop):
        analysis(tmp_path, evaluator, on_trial=stop)
    rest = WorthEvaluator(BENCH, evaluator.worth)
    found = analysis(tmp_path, rest)
    assert 0 < len(rest.asked) <= BENCH.count() - 1_500
    (tmp_path / "whole").mkdir()
    assert analysis(tmp_path / "whole", evaluator) == found


def test_networks_over_the_budget_are_counted_and_not_missed_in_the_means(tmp_path: Path) -> None:
    evaluator = WorthEvaluator(BENCH, {LOW: -0.1, MIDDLE: 1.0, HIGH: 1.0}, too_large=(MIDDLE, HIGH))
    found = analysis(tmp_path, evaluator)
    only_low = [g for g in BENCH.enumerate() if not _uses(g, MIDDLE) and not _uses(g, HIGH)]
    assert found.whole.networks == len(only_low)
    assert found.whole.fitting == pytest.approx(len(only_low) / BENCH.count())
    assert found.recommended == BENCH.operations


def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    found = analysis(tmp_path, WorthEvaluator(load_space("snasnet"), {}), AnalyzeSettings(epochs=3, networks=3))
    assert list(found.impossible) == ["none"]
    assert "backward connections need operation 'none'" in found.impossible["none"]
    assert [row.removed for row in found.rows] == [(name,) for name in load_space("snasnet").operations[1:]]


def test_bad_input(tmp_path: Path) -> None:
    for wrong, words in (
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"networks": 1}, "networks 1"),
        ({"seed": -1}, "seed -1"),
    ):
        with pytest.raises(InputError, match=words):
            AnalyzeSettings(**wrong)
    one = load_space("spikenas-bench", (LOW,))
    with pytest.raises(InputError, match="there is nothing to remove"):
        analysis(tmp_path, WorthEvaluator(one, {}))
    (tmp_path / "all").mkdir()
    with pytest.raises(InputError, match="space 'embedded' has more than 100000 networks: say how many"):
        analysis(tmp_path / "all", WorthEvaluator(load_space("embedded"), {}))
    (tmp_path / "few").mkdir()
    with pytest.raises(InputError, match=r"0 of \d+ networks could be trained; raise the budget"):
        analysis(tmp_path / "few", WorthEvaluator(BENCH, {}, too_large=(LOW, MIDDLE, HIGH)))
