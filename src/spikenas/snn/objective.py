"""What a training minimizes."""

from __future__ import annotations

from dataclasses import dataclass

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
    """``labels`` int64 [B], blended with those of the images at ``partners`` in the shares ``share``, 1 - ``share``.

    ``taught`` is what a teacher makes of the images as they are shown, logits [B, classes], if there is one.
    """

    labels: Tensor
    partners: Tensor | None = None
    share: float = 1.0
    taught: Tensor | None = None


def mixed(images: Tensor, labels: Tensor, config: TrainConfig, step: int) -> tuple[Tensor, Targets]:
    """Mixup (Zhang et al., arXiv 1710.09412): every image is blended with another, in a share drawn for the batch.

    The draw depends on the seed and the step alone, so a resumed training draws the same.
    """
    if not config.mixup:
        return images, Targets(labels)
    rng = np.random.default_rng([config.seed, step])
    share = float(rng.beta(config.mixup, config.mixup))
    partners = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return images * share + images[partners] * (1.0 - share), Targets(labels, partners, share)


def loss(outputs: Tensor, targets: Targets, config: TrainConfig) -> Tensor:
    """The loss of outputs [T, B, classes]: cross-entropy of their mean, blended with TET's by ``temporal_loss``.

    Where a teacher was asked, BELIEVED of each cross-entropy is the distance to what it says (Hinton, Vinyals and
    Dean, arXiv 1503.02531): tau^2 KL(teacher / tau || outputs / tau).

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
    steps, logits = len(outputs), outputs.flatten(0, 1)

    def entropy(labels: Tensor) -> Tensor:
        every = labels.expand(steps, -1).flatten()
        return functional.cross_entropy(logits, every, label_smoothing=config.label_smoothing)

    total = entropy(targets.labels)
    if targets.partners is not None:
        total = targets.share * total + (1.0 - targets.share) * entropy(targets.labels[targets.partners])
    if targets.taught is not None:
        theirs = (targets.taught / TEMPERATURE).log_softmax(1).expand(steps, -1, -1).flatten(0, 1)
        ours = (logits / TEMPERATURE).log_softmax(1)
        distance = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        total = (1.0 - BELIEVED) * total + BELIEVED * TEMPERATURE**2 * distance
    return total
