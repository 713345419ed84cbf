"""Short trainings for a search, on fixed samples of the training and validation images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from spikenas.data.split import Split
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.run.evaluator import Training
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import from_model
from spikenas.snn.train import TrainConfig, train


@dataclass(frozen=True, slots=True, eq=False)
class ShortTrainer:
    """Trains candidates on ``train_split`` under ``config``, whose epochs and seed each call replaces."""

    train_split: Split
    val_split: Split
    config: TrainConfig

    def __call__(self, graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        config = replace(self.config, epochs=epochs, seed=seed)
        result = train(graph, self.train_split, self.val_split, config, start=start)
        judged = evaluate(from_model(result.model), self.val_split)
        curve = tuple(asdict(stats) for stats in result.curve)
        return Training(result.model, judged.accuracy, curve, judged.spike_rates)
