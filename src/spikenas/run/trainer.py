"""Short trainings for a search, on fixed samples of the training and validation images, and how fast they are here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from spikenas.data.split import Split, thin
from spikenas.graph import Graph
from spikenas.model import Model
from spikenas.run.evaluator import Training
from spikenas.score.structure import work
from spikenas.snn.calibration import calibrate
from spikenas.snn.evaluate import Evaluation, evaluate
from spikenas.snn.network import from_model
from spikenas.snn.precision import has_few_bits
from spikenas.snn.qat import Rounding, fine_tune, qat_config
from spikenas.snn.train import TrainConfig, train
from spikenas.snn.training_run import has_rates
from spikenas.space.space import load_space


@dataclass(frozen=True, slots=True, eq=False)
class ShortTrainer:
    """Trains candidates on ``train_split`` under ``config``, whose epochs and seed each call replaces.

    Where ``config`` trains on rates to the end, a network is judged on them, too. A network of few bits is judged with
    its weights rounded, as it would be used, and after one more epoch with them where rounding costs much.

    ``most_work``: weights applied in an epoch at most, so that one shows fewer images to a network that has more in an
    epoch of the training that is to follow; None shows everyone all images.
    """

    train_split: Split
    val_split: Split
    config: TrainConfig
    most_work: float | None = None

    def __call__(self, graph: Graph, start: Model | None, *, epochs: int, seed: int) -> Training:
        config = replace(self.config, epochs=epochs, seed=seed)
        shown = self.shown(graph)
        result = train(graph, shown, self.val_split, config, start=start)
        on_rates = result.curve[-1].on_rates
        judged = self._judged(result.model, on_rates)
        if has_few_bits(graph):
            judged = self._judged_rounded(result.model, judged, shown, config, on_rates)
        curve = tuple(asdict(stats) for stats in result.curve)
        return Training(result.model, judged.accuracy, curve, judged.spike_rates)

    def _judged(self, model: Model, on_rates: bool) -> Evaluation:
        network = from_model(model)
        return evaluate(network.on_rates() if on_rates else network, self.val_split)

    def _judged_rounded(
        self, model: Model, real: Evaluation, shown: Split, config: TrainConfig, on_rates: bool
    ) -> Evaluation:
        """Of ``model``, which is as good as ``real`` before its weights are rounded."""
        seen = calibrate(model, thin(shown, CALIBRATION_IMAGES, np.random.default_rng(config.seed)).images)
        judged = self._judged(Rounding.of(model, seen).untrained(model), on_rates)
        if judged.accuracy >= real.accuracy - MOST_LOST:
            return judged
        tuning = qat_config(1, seed=config.seed)
        tuning = replace(tuning, batch_size=config.batch_size, threads=config.threads, rate_coded=config.rate_coded)
        return self._judged(fine_tune(model, shown, self.val_split, tuning, calibration=seen).model, on_rates)

    def shown(self, graph: Graph) -> Split:
        """The images of an epoch, the same in every training of ``graph``."""
        if self.most_work is None:
            return self.train_split
        images = max(IMAGES_LEAST, round(self.most_work / _work_of_training(graph)))
        return thin(self.train_split, images, np.random.default_rng(self.config.seed))


def _work_of_training(graph: Graph) -> float:
    """:func:`work` of an image in the training of the network that is chosen, on rates and of spikes, on the mean."""
    rates = TrainConfig().rate_coded if has_rates(graph) else 0.0
    return rates * work(replace(graph, timesteps=1)) + (1 - rates) * work(graph)


def measured_work_rate(train_split: Split) -> float:
    """Weights applied in a second of training on rates by this computer, all its cores, to images of that shape."""
    shape = train_split.images.shape[-3:]
    images = np.random.default_rng(0).integers(0, 256, (TIMED_IMAGES, *shape), np.uint8)
    few = Split(images, np.arange(TIMED_IMAGES) % 2)
    space = load_space("embedded")
    graph = space.lower(space.parse(TIMED), shape, 2)
    config = TrainConfig(epochs=3, rate_coded=1.0)
    seconds = train(graph, few, few, config, stop_after=2).curve[-1].seconds  # the first compiles
    return TIMED_IMAGES * work(replace(graph, timesteps=1)) / seconds


IMAGES_LEAST = 1000
CALIBRATION_IMAGES = 300
MOST_LOST = 0.01
"""of validation accuracy, up to which a candidate is judged as it is rounded: so much is chance"""
TIMED, TIMED_IMAGES = "t4-b8-k3s1-64:003.00.0-pool", 512
