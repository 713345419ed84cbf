"""How well a score ranks the networks of a table: rank correlations, and what it would have selected.

Kendall's tau-b counts pairs in the right order and forgives ties (Kendall, Biometrika 33, 1945). A score that is
NaN counts as the lowest: a search would never choose that network.
"""

from __future__ import annotations

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
    within it, in percentage points.
    """

    count: int
    failed: int
    tau: float
    spearman: float
    top_tau: float
    regrets: dict[int, float]

    @property
    def mean_regret(self) -> float:
        return float(np.mean(list(self.regrets.values())))


def rank(table: Table, scores: Scores) -> Ranking:
    """Judge ``scores`` [N], higher being better, by the table."""
    failed = int(np.isnan(np.asarray(scores, np.float64)).sum())
    values = lowest_for_nan(scores)
    top = top_rows(table.test_acc)
    return Ranking(
        count=len(table),
        failed=failed,
        tau=kendall(values, table.test_acc),
        spearman=spearman(values, table.test_acc),
        top_tau=kendall(values[top], table.test_acc[top]),
        regrets={int(budget): regret(values, table.test_acc, table.params <= budget) for budget in table.budgets},
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


def regret(scores: Scores, truth: Scores, feasible: npt.NDArray[np.bool_]) -> float:
    """Best truth among the feasible minus that of the highest score; the mean over those that share it."""
    inside, scored = truth[feasible].astype(np.float64), scores[feasible]
    return float(inside.max() - inside[scored == scored.max()].mean())


def lowest_for_nan(scores: Scores) -> npt.NDArray[np.float64]:
    """The scores with NaN replaced by minus infinity."""
    values = np.asarray(scores, np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def _correlation(measure: Any, scores: Scores, truth: Scores) -> float:
    ranks, truths = (stats.rankdata(side) for side in (scores, truth))  # infinities have ranks, too
    if np.ptp(ranks) == 0 or np.ptp(truths) == 0:
        return 0.0
    return float(measure(ranks, truths).statistic)
