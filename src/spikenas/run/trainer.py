"""Short trainings for a search, on fixed samples of the training and validation images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from spikenas.data.split import Split, thin
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.run.evaluator import Training
from spikenas.score.structure import work
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import from_model
from spikenas.snn.train import TrainConfig, train


@dataclass(frozen=True, slots=True, eq=False)
class ShortTrainer:
    """Trains candidates on ``train_split`` under ``config``, whose epochs and seed each call replaces.

    ``epoch_work``: weights applied in an epoch, which shows a network of more :func:`work` fewer images, so that it
    takes all about as long; None shows everyone all images.
    """

    train_split: Split
    val_split: Split
    config: TrainConfig
    epoch_work: float | None = None

    def __call__(self, graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        config = replace(self.config, epochs=epochs, seed=seed)
        result = train(graph, self.shown(graph), self.val_split, config, start=start)
        judged = evaluate(from_model(result.model), self.val_split)
        curve = tuple(asdict(stats) for stats in result.curve)
        return Training(result.model, judged.accuracy, curve, judged.spike_rates)

    def shown(self, graph: Graph) -> Split:
        """The images of an epoch, the same in every training of ``graph``."""
        if self.epoch_work is None:
            return self.train_split
        images = max(IMAGES_LEAST, round(self.epoch_work / work(graph)))
        return thin(self.train_split, images, np.random.default_rng(self.config.seed))


IMAGES_LEAST = 2000
