"""The predictor as a strategy asks for it: genotypes in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikenas.graph import Shape
from spikenas.score.predictor import Described, describe, fit
from spikenas.search.trial import Trial
from spikenas.space.space import Space


@dataclass(frozen=True, eq=False)
class PredictorLearner:
    """:mod:`spikenas.score.predictor` on the networks of one space; each is described once."""

    space: Space[Any]
    input_shape: Shape
    classes: int
    _known: dict[str, Described] = field(default_factory=dict)

    def __call__(self, trained: Sequence[Trial], genotypes: Sequence[str], pool: Sequence[str]) -> list[float]:
        """Expected rank of each genotype among ``trained``, all of which have an accuracy."""
        accuracies = np.array([np.nan if trial.accuracy is None else trial.accuracy for trial in trained])
        taught = self._described([trial.genotype for trial in trained])
        predictor = fit(taught, accuracies, self._described(pool))
        return [float(value) for value in predictor.predict(self._described(genotypes))]

    def _described(self, genotypes: Sequence[str]) -> Described:
        for text in genotypes:
            if text not in self._known:
                self._known[text] = describe(self.space, [self.space.parse(text)], self.input_shape, self.classes)
        rows = [self._known[text] for text in genotypes]
        return Described(np.concatenate([r.features for r in rows]), np.concatenate([r.genes for r in rows]))
