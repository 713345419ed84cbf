"""How well a score ranks the networks of a table: rank correlations, and what it would have selected.

Kendall's tau-b counts pairs in the right order and forgives ties (Kendall, Biometrika 33, 1945). A score that is no
finite number counts as the lowest: a search would never choose that network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from spikenas.score.table import Table

Scores = npt.NDArray[Any]
TOP = 0.1


@dataclass(frozen=True, slots=True)
class Ranking:
    """A score judged by the test accuracies of ``count`` networks, ``failed`` of which it gave no number.

    ``regrets``: by parameter budget, the best test accuracy within the budget minus that of the network selected
    within it, in percentage points. A figure is None where none of the networks that it speaks of has a score.
    """

    count: int
    failed: int
    tau: float | None
    spearman: float | None
    top_tau: float | None
    regrets: dict[int, float | None]

    @property
    def mean_regret(self) -> float | None:
        """Over the budgets that have one."""
        known = [regret for regret in self.regrets.values() if regret is not None]
        return float(np.mean(known)) if known else None


def rank(table: Table, scores: Scores, budgets: Iterable[int] | None = None) -> Ranking:
    """Judge ``scores`` [N], higher being better, by the table; ``budgets`` None are the table's own."""
    scored = np.isfinite(np.asarray(scores, np.float64))
    values, truth = lowest_for_none(scores), table.test_acc

    def of(measure: Callable[[Scores, Scores], float], rows: npt.NDArray[Any]) -> float | None:
        return measure(values[rows], truth[rows]) if scored[rows].any() else None

    everything = np.ones(len(table), bool)
    return Ranking(
        count=len(table),
        failed=int((~scored).sum()),
        tau=of(kendall, everything),
        spearman=of(spearman, everything),
        top_tau=of(kendall, top_rows(truth)),
        regrets={int(b): of(regret, table.params <= b) for b in (table.budgets if budgets is None else budgets)},
    )


def kendall(scores: Scores, truth: Scores) -> float:
    """Kendall's tau-b; 0 where either side is constant, since it then orders nothing.

    >>> round(kendall(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])), 4)  # five pairs right, one wrong
    0.6667
    """
    return _correlation(stats.kendalltau, scores, truth)


def spearman(scores: Scores, truth: Scores) -> float:
    """Spearman's rank correlation; 0 where either side is constant."""
    return _correlation(stats.spearmanr, scores, truth)


def top_rows(truth: Scores, share: float = TOP) -> npt.NDArray[np.int64]:
    """The rows of the best ``share`` of all, ties at the edge included."""
    edge = np.sort(truth)[-max(1, round(share * len(truth)))]
    return np.flatnonzero(truth >= edge)


def regret(scores: Scores, truth: Scores) -> float:
    """Best truth minus that of the highest score; the mean over those that share it."""
    best = truth[scores == scores.max()].astype(np.float64)
    return float(truth.astype(np.float64).max() - best.mean())


def lowest_for_none(scores: Scores) -> npt.NDArray[np.float64]:
    """The scores, minus infinity for those that are no finite number."""
    values = np.asarray(scores, np.float64)
    return np.where(np.isfinite(values), values, -np.inf)


def _correlation(measure: Any, scores: Scores, truth: Scores) -> float:
    ranks, truths = (stats.rankdata(side) for side in (scores, truth))  # infinities have ranks, too
    if np.ptp(ranks) == 0 or np.ptp(truths) == 0:
        return 0.0
    return float(measure(ranks, truths).statistic)
