"""A network that need not fit any chip: it learns first, and a small one then learns from what it makes of each image.

Knowledge distillation (Hinton, Vinyals and Dean, arXiv 1503.02531): how much a truck looks like a car, or a cat like a
dog, is more to learn from than that the one is a truck and the other a cat. The teacher is shown the very images that
its pupil is shown, shifted, mirrored and blended as they are (Beyer et al., arXiv 2106.05237): what it says of an image
once would be learned by heart like a label.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
from spikenas.snn.hardware import autocast, uses_bfloat16
from spikenas.snn.network import from_model
from spikenas.snn.train_config import TrainConfig

STEM, WIDTHS = 32, (64, 128, 256)
"""channels of the first convolution, and of each block of two, which halves the image"""
NEURON = "rectifier"


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
        neuron=NEURON,
        **{name: getattr(training, name) for name in ("augment", "precision", "device", "threads", "seed")},
    )


class Teacher:
    """A trained ``model`` of :func:`teacher_graph`, on ``device``, for a pupil that is trained so."""

    def __init__(self, model: Model, pupil: TrainConfig, device: torch.device) -> None:
        self.device, self.bfloat16 = device, uses_bfloat16(model.graph, pupil, device)
        self.network = from_model(model, neuron=NEURON).to(device).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits [B, classes], float32, of the images that the pupil sees, [B, C, H, W] or [B, T, C, H, W]."""
        with autocast(self.device, self.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()
