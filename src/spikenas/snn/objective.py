"""What a training minimizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spikenas.snn.train_config import TrainConfig

TEMPERATURE, BELIEVED = 4.0, 0.9
"""by what logits are divided where they are compared with a teacher's, and what share of the loss that is"""
REGULARIZE = 0.05
"""lambda of TET: the weight of its mean square distance from the threshold, 1"""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """``labels`` int64 [B] and ``taught``, a teacher's logits [B, classes], if there is one.

    They are mixed with those of the images at ``partners`` in the shares ``share``, 1 - ``share``.
    """

    labels: Tensor
    taught: Tensor | None = None
    partners: Tensor | None = None
    share: float = 1.0

    def pairs(self) -> Iterator[tuple[float, Tensor, Tensor | None]]:
        """Shares, each with labels and logits."""
        yield self.share, self.labels, self.taught
        if self.partners is not None:
            taught = None if self.taught is None else self.taught[self.partners]
            yield 1.0 - self.share, self.labels[self.partners], taught


def mixed(images: Tensor, targets: Targets, config: TrainConfig, step: int) -> tuple[Tensor, Targets]:
    """Mixup (Zhang et al., arXiv 1710.09412): every image is blended with another, in a share drawn for the batch.

    The draw depends on the seed and the step alone, so a resumed training draws the same.
    """
    if not config.mixup:
        return images, targets
    rng = np.random.default_rng([config.seed, step])
    share = float(rng.beta(config.mixup, config.mixup))
    partners = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return images * share + images[partners] * (1.0 - share), replace(targets, partners=partners, share=share)


def loss(outputs: Tensor, targets: Targets, config: TrainConfig) -> Tensor:
    """The loss of outputs [T, B, classes]: cross-entropy of their mean, blended with TET's by ``temporal_loss``.

    TET (Deng et al., ICLR 2022, arXiv 2202.11946, equations 9 to 11): the mean over the steps of each step's own
    cross-entropy, and a pull of every output towards the threshold.
    """
    weight = config.temporal_loss
    total = (1.0 - weight) * _cross_entropy(outputs.mean(0, keepdim=True), targets, config) if weight < 1.0 else 0.0
    if weight:
        entropy = _cross_entropy(outputs, targets, config)
        pull = functional.mse_loss(outputs, torch.ones_like(outputs))
        total = total + weight * ((1.0 - REGULARIZE) * entropy + REGULARIZE * pull)
    assert isinstance(total, Tensor)
    return total


def _cross_entropy(outputs: Tensor, targets: Targets, config: TrainConfig) -> Tensor:
    """Of outputs [T, B, classes], the mean over steps and images."""

    steps, logits, total = len(outputs), outputs.flatten(0, 1), outputs.new_zeros(())
    for share, labels, taught in targets.pairs():
        every = labels.expand(steps, -1).flatten()
        value = functional.cross_entropy(logits, every, label_smoothing=config.label_smoothing)
        if taught is not None:
            theirs = (taught / TEMPERATURE).log_softmax(1).expand(steps, -1, -1).flatten(0, 1)
            ours = (logits / TEMPERATURE).log_softmax(1)
            distance = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
            value = (1.0 - BELIEVED) * value + BELIEVED * TEMPERATURE**2 * distance
        total = total + share * value
    return total
