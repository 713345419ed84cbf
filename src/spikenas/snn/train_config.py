"""How to train: the settings and the schedules. Settings are read without loading torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from spikenas.errors import TrainError


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train; the defaults suit small images and networks of some 10,000 weights.

    ``batch_size`` 0 means 64, 128 of many images, or all where there are fewer. ``optimizer`` is ``muon``
    (:mod:`spikenas.snn.muon`), ``adamw`` or ``sgd`` (Nesterov momentum 0.9); ``weight_decay`` acts on weights, not on
    biases or norms; None is what suits the length of an epoch, see :meth:`decay_of`. ``schedule``, see
    :func:`learning_rate_at`, rises over ``warmup``, a share of all steps. ``augment`` see
    :func:`spikenas.snn.augment.parse_augment`; ``mixup`` is the alpha of mixup's Beta distribution; ``temporal_loss``
    the weight of the loss of each single step, both 0 for none (:mod:`spikenas.snn.objective`). ``rate_penalty`` times
    the mean spike rate of the Lif nodes is added to the loss. ``learn_decay`` trains each neuron's leak (PLIF, Fang et
    al., ICCV 2021). The first epochs, a share ``rate_coded`` of them, train a network that sees a still image on rates:
    each neuron integrates the mean of its input for all timesteps and passes on the mean of its spikes, so that
    everything else is computed once (:mod:`spikenas.snn.training_run`); 1: all, for networks that are compared and not
    used. ``average`` is the decay of an exponential
    average of the weights, which is then what is judged and kept (0: none). ``patience`` epochs of spikes without a
    better validation accuracy end the training (0: none do). ``clip`` bounds the gradient's norm (0: not at all).
    ``precision`` is ``float32``, ``bfloat16`` for convolutions and what they exchange, or ``auto``, see
    :mod:`spikenas.snn.hardware`; so is ``device`` ``cpu``, ``cuda`` or ``auto``. ``threads`` 0 means 1 for small work,
    torch's number otherwise. Raises TrainError for other values.
    """

    epochs: int = 50
    batch_size: int = 0
    learning_rate: float = 2e-2
    weight_decay: float | None = None
    optimizer: str = "muon"
    schedule: str = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.1
    augment: str = "auto"
    mixup: float = 0.0
    temporal_loss: float = 0.0
    learn_decay: bool = False
    rate_coded: float = 0.85
    average: float = 0.0
    patience: int = 0
    dropout: float = 0.0
    rate_penalty: float = 0.0
    clip: float = 1.0
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    neuron: str = "fused"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise TrainError(f"{name} {value}: it must lie in {low}..{high}")
        if self.batch_size == 1:
            raise TrainError("batch_size 1: a batch needs at least 2 images to be normalized")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainError(f"{name} {getattr(self, name)!r} is unknown: choose {' or '.join(choices)}")

    def batch_of(self, images: int) -> int:
        """Images of a batch where there are so many. Raises TrainError when more are asked for than there are.

        >>> [TrainConfig().batch_of(images) for images in (40, 1000, 45_000)]
        [40, 64, 128]
        """
        if self.batch_size > images:
            raise TrainError(f"batch_size {self.batch_size}: there are only {images} training images; give fewer")
        return self.batch_size or min(LARGE_BATCH if images >= MANY_IMAGES else AUTO_BATCH, images)

    def decay_of(self, batches: int) -> float:
        """The weight decay where an epoch has so many batches.

        Decay d at learning rate r makes of the weights an average of what was learned in the last 1 / (d r) steps. How
        many epochs these are is what matters, not how many images an epoch has (Wang and Aitchison, arXiv 2405.13698).

        >>> TrainConfig().decay_of(352), TrainConfig().decay_of(20), TrainConfig(weight_decay=0.0).decay_of(352)
        (0.023674242424242424, 0.1, 0.0)
        """
        if self.weight_decay is not None:
            return self.weight_decay
        return min(DECAY_MOST, 1 / (self.learning_rate * batches * MEMORY_EPOCHS))


MEMORY_EPOCHS, DECAY_MOST = 6, 0.1
"""epochs that the weights are an average of, and the most decay where these are few steps; both measured"""
AUTO_BATCH = 64
LARGE_BATCH, MANY_IMAGES = 128, 20_000
"""a larger batch makes fewer steps of an epoch, which many images can spare, and each image costs a quarter less"""
_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (0, 2**20),
    "learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.99),
    "mixup": (0, 100),
    "temporal_loss": (0, 1),
    "rate_coded": (0, 1),
    "average": (0, 0.999999),
    "patience": (0, 100_000),
    "dropout": (0, 0.99),
    "rate_penalty": (0, 1e6),
    "clip": (0, 1e9),
    "threads": (0, 4096),
    "seed": (0, 2**63 - 1),
}

START, END = 25.0, 1e4
"""of one cycle: by how much its first and last rates are below the highest"""


def _cosine(share: float, rise: float) -> float:
    if share < rise:
        return share / rise
    return 0.5 * (1.0 + math.cos(math.pi * (share - rise) / (1.0 - rise))) if rise < 1.0 else 1.0


def _one_cycle(share: float, rise: float) -> float:
    up = share < rise
    low, part = (1.0 / START, share / rise) if up else (1.0 / END, 1.0 - (share - rise) / (1.0 - rise or 1.0))
    return low + (1.0 - low) * 0.5 * (1.0 - math.cos(math.pi * part))


SCHEDULES: dict[str, Callable[[float, float], float]] = {"cosine": _cosine, "one-cycle": _one_cycle}


def learning_rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of one step of the optimizer, numbered from 0.

    ``cosine``: a linear rise over the first ``warmup`` share of the steps, then half a cosine down to 0 (Loshchilov
    and Hutter, arXiv 1608.03983). ``one-cycle``: the rise begins at a 25th and is half a cosine, too; down to a
    10,000th (Smith and Topin, arXiv 1708.07120).
    """
    rise = max(1, round(config.warmup * steps))
    if config.schedule == "cosine" and step < rise:  # the first step has a rate, too
        return config.learning_rate * (step + 1) / rise
    return config.learning_rate * SCHEDULES[config.schedule](step / steps, rise / steps)


_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("muon", "adamw", "sgd"),
    "schedule": tuple(SCHEDULES),
    "precision": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
