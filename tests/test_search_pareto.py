from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spikenas.errors import InputError
from spikenas.search.pareto import OBJECTIVES, non_dominated, pareto_front
from spikenas.search.trial import Trial, TrialState

# Few distinct values, so that ties, equal rows and dominance in one column alone all happen.
points = st.tuples(st.integers(1, 30), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)


@given(points)
def test_front_is_what_comparing_all_pairs_gives(values: np.ndarray) -> None:
    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    expected = [i for i, row in enumerate(values) if not any(dominates(other, row) for other in values)]
    assert non_dominated(values) == expected


def test_score_is_maximized_and_bytes_minimized() -> None:
    trials = [
        Trial(0, "small", "structure", score=1.0, flash_bytes=10),
        Trial(1, "worse", "structure", score=0.9, flash_bytes=10),
        Trial(2, "large", "structure", score=5.0, flash_bytes=900),
        Trial(3, "free", "structure", state=TrialState.REJECTED, score=9.0, flash_bytes=1),
        Trial(4, "unmeasured", "structure", flash_bytes=1),
    ]
    assert [trial.genotype for trial in pareto_front(trials, ("score", "flash_bytes"))] == ["small", "large"]
    assert pareto_front([], ("score",)) == ()


def test_every_objective_is_a_figure_of_a_trial() -> None:
    trial = Trial(0, "a", "structure", **{name: 1 for name in OBJECTIVES})
    for name in OBJECTIVES:
        assert pareto_front([trial], (name,)) == (trial,)


@pytest.mark.parametrize(("objectives", "words"), [(("speed",), "unknown objective 'speed'"), ((), "no objectives")])
def test_bad_objectives(objectives: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pareto_front([], objectives)
