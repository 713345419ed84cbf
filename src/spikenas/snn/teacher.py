"""A network that need not fit any chip: it learns first, and a small one then learns from what it makes of each image.

Knowledge distillation (Hinton, Vinyals and Dean, arXiv 1503.02531): how much a truck looks like a car, or a cat like a
dog, is more to learn from than that the one is a truck and the other a cat.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from spikenas.data.split import Split
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Lif,
    Linear,
    Mean,
    Output,
    Shape,
)
from spikenas.model import Model
from spikenas.snn.augment import parse_augment
from spikenas.snn.evaluate import BATCH_SIZE
from spikenas.snn.hardware import autocast, device_of, uses_bfloat16
from spikenas.snn.network import from_model, normalize
from spikenas.snn.train_config import MANY_IMAGES, TrainConfig

STEM, WIDTHS = 32, (64, 128, 256)
"""channels of the first convolution, and of each block of two, which halves the image"""
PUPIL_EPOCHS, EPOCHS_LEAST, EPOCHS_MOST = 3, 5, 12
"""epochs of a network to one of its teacher, and the teacher's least, below which there is none, and most"""


def epochs_of_teacher(told: int | None, epochs: int, images: int) -> int:
    """Epochs of the teacher, 0 for none, of a network that is shown so many images so many times; None: what suits.

    >>> epochs_of_teacher(None, 40, 1294), epochs_of_teacher(None, 3, 45_000), epochs_of_teacher(None, 32, 45_000)
    (0, 0, 10)
    """
    if told is not None:
        return told
    suitable = min(EPOCHS_MOST, epochs // PUPIL_EPOCHS)
    return suitable if images >= MANY_IMAGES and suitable >= EPOCHS_LEAST else 0


def teacher_graph(input_shape: Shape, classes: int) -> Graph:
    """A residual network of seven convolutions, whose neurons are :class:`spikenas.snn.neuron.Rectifier`.

    One step for an image (C, H, W), one for each frame of (T, C, H, W).
    """
    builder = GraphBuilder()
    static = len(input_shape) == 3
    sides = input_shape[-2], input_shape[-1]
    at = builder.add(Input(input_shape[-3:], static), name="image")

    def layer(name: str, channels: int, pool: bool = False) -> str:
        nonlocal sides
        end = builder.add(Conv2d(channels), at, name=f"{name}_conv")
        window = (min(2, sides[0]), min(2, sides[1]))
        if pool and window != (1, 1):
            end = builder.add(AvgPool2d(window, window), end, name=f"{name}_pool")
            sides = (sides[0] // window[0], sides[1] // window[1])
        return builder.add(Lif(), builder.add(BatchNorm2d(), end, name=f"{name}_norm"), name=f"{name}_relu")

    at = layer("stem", STEM)
    for number, width in enumerate(WIDTHS):
        at = first = layer(f"b{number}a", width, pool=True)
        at = builder.add(Add(), first, layer(f"b{number}b", width), name=f"b{number}_sum")
    at = builder.add(AvgPool2d(sides, sides), at, name="pool")
    at = builder.add(Linear(classes), builder.add(Flatten(), at, name="flat"), name="readout")
    builder.add(Output(), builder.add(Mean(), at, name="mean"), name="logits")
    return builder.build(1 if static else input_shape[0])


def teacher_config(training: TrainConfig, epochs: int) -> TrainConfig:
    """How a teacher is trained where its pupil is trained so; true labels alone, as smoothing hides what is alike."""
    return TrainConfig(
        epochs=epochs,
        learning_rate=0.01,
        weight_decay=0.3,
        label_smoothing=0.0,
        neuron="rectifier",
        **{name: getattr(training, name) for name in ("augment", "precision", "device", "threads", "seed")},
    )


@torch.no_grad()
def logits(teacher: Model, split: Split, config: TrainConfig) -> npt.NDArray[np.float32]:
    """What ``teacher`` makes of each image, float32 [N, classes]: the mean of image and mirror image where
    ``config``, of its training, mirrors."""
    device = device_of(config)
    network = from_model(teacher, neuron=config.neuron).to(device).eval()
    channels, height, width = split.images.shape[-3:]
    views = (False, True) if parse_augment(config.augment, (channels, height, width)).flip else (False,)
    found = []
    with autocast(device, uses_bfloat16(teacher.graph, config, device)):
        for start in range(0, len(split), BATCH_SIZE):
            images = normalize(torch.from_numpy(split.images[start : start + BATCH_SIZE]).to(device))
            seen = [network(images.flip(-1) if mirrored else images).float() for mirrored in views]
            found.append(torch.stack(seen).mean(0).cpu())
    return torch.cat(found).numpy()
