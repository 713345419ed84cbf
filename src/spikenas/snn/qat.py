"""Training on with rounded weights, so that the network gets used to them.

Forwards a layer computes with the weights that :func:`spikenas.snn.quantize.quantize` would give it, backwards the
gradient goes straight through the rounding to the real weights (Bengio et al., arXiv 1308.3432), where it is not cut
off: ``w_q = clip(rint(w / step), -limit, limit) step``, ``dL/dw = dL/dw_q`` for ``|w| <= limit step``, 0 beyond.

Behind the BatchNorm2d that is folded into a layer, the step is that of the integer network that the start would be
quantized to, ties between layers, shifts and thresholds of narrow membranes included, and stays. Before the norm it is
that over the norm's gain, which moves: were it to stay, layers that share a scale would drift apart and be rounded
once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenas.data.split import Split
from spikenas.graph import Conv2d, Graph, Linear
from spikenas.model import Model, norm_targets
from spikenas.snn.calibration import Calibration, Images, calibrate
from spikenas.snn.execution import folded
from spikenas.snn.folding import fold
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult
from spikenas.snn.network import Network, from_model
from spikenas.snn.precision import weighted_layers
from spikenas.snn.scales import Grid, Scales, largest_weight
from spikenas.snn.train import train
from spikenas.snn.train_config import TrainConfig

Floats = npt.NDArray[np.float64]
FINE_TUNING_RATE = 6e-3
FINE_TUNING = TrainConfig(learning_rate=FINE_TUNING_RATE, weight_decay=0.0, rate_coded=0.0, device="cpu")


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """``model``: the best epoch's, its weights the rounded ones; with ``grid`` it quantizes to just these."""

    model: Model
    grid: Grid
    training: TrainResult


def fine_tune(
    model: Model,
    train_split: Split,
    val_split: Split,
    config: TrainConfig = FINE_TUNING,
    *,
    calibration: Calibration | Images | None = None,
    teacher: Model | None = None,
    on_epoch: Callable[[EpochStats], None] | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
) -> FineTuned:
    """Train ``model`` on with its weights rounded to their ``weight_bits``; quantize the result with its grid.

    It starts from weights whose errors cancel on ``calibration``; biases find themselves, behind norms. ``teacher`` as
    for train. Raises QuantizeError for a model that cannot be made integer.
    """
    rounding = Rounding.of(model, calibrate(model, calibration))

    def build(graph: Graph, **settings: Any) -> Network:
        return RoundedNetwork(graph, rounding=rounding, **settings)

    result = train(
        model.graph,
        train_split,
        val_split,
        config,
        start=Model(model.graph, {**model.weights, **rounding.weights}),
        build=build,
        teacher=teacher,
        on_epoch=on_epoch,
        on_batch=on_batch,
    )
    return FineTuned(rounding.rounded(result.model), rounding.grid, result)


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """By layer how its weights are rounded: ``steps`` [out, in, 1, ...] behind its norm, and whole ``limits``.

    ``weights`` and ``biases``: arrays of the model with which its nearest integers err least together
    (:mod:`spikenas.snn.compensation`).
    """

    grid: Grid
    steps: Mapping[str, Tensor]
    limits: Mapping[str, int]
    norms: Mapping[str, str]
    """by layer the BatchNorm2d that is folded into it"""
    weights: Mapping[str, npt.NDArray[np.float32]]
    biases: Mapping[str, npt.NDArray[np.float32]]

    @classmethod
    def of(cls, model: Model, calibration: Calibration) -> Rounding:
        """The rounding that quantization would choose for ``model``."""
        scales = Scales(fold(model), calibration)
        grid, norms = scales.chosen(), {conv: norm for norm, conv in norm_targets(model.graph)[0].items()}
        limits = {name: largest_weight(layer.weight_bits) for name, layer in weighted_layers(model.graph).items()}
        steps, weights, biases = {}, {}, {}
        for name, worth in grid.steps.items():
            inputs, weight = scales.input_scale(name), model.weights[f"{name}.weight"]
            steps[name] = torch.from_numpy((worth[:, None] / inputs).reshape(*inputs.shape, *[1] * (weight.ndim - 2)))
            before, after = scales.whole_weights(name), scales.compensated_weights(name)
            in_front = np.divide(weight, before[0], out=np.zeros_like(before[0]), where=before[0] != 0)
            inside = np.clip(after[0], -limits[name], limits[name])  # beyond, there is no gradient
            weights[f"{name}.weight"] = (inside * in_front).astype(np.float32)
            bias = f"{norms.get(name, name)}.bias"
            if bias in model.weights:
                biases[bias] = (model.weights[bias] + (after[1] - before[1]) * worth).astype(np.float32)
        return cls(grid, steps, limits, norms, weights, biases)

    def untrained(self, model: Model) -> Model:
        """``model``, of which this is the rounding, rounded without being trained on."""
        return self.rounded(Model(model.graph, {**model.weights, **self.weights, **self.biases}))

    def weight(self, network: Network, name: str) -> Tensor:
        """A layer's rounded weight; gradients go straight through where nothing is cut off."""
        weight: Tensor = network.operator(name).weight
        step = self.steps[name]
        if name in self.norms:
            step = step / _gain(network.operator(self.norms[name])).reshape(-1, *[1] * (step.dim() - 1))
        most = (step * self.limits[name]).float()
        cut = torch.maximum(torch.minimum(weight, most), -most)
        rounded = (cut.detach() / step).round_().mul_(step).float()
        return rounded + (cut - cut.detach())

    def rounded(self, model: Model) -> Model:
        """The model with its weights rounded."""
        network = from_model(model)
        with torch.no_grad():
            weights = {f"{name}.weight": self.weight(network, name).numpy() for name in self.steps}
        return Model(model.graph, {**model.weights, **weights})


class RoundedNetwork(Network):
    """A Network whose convolutions and linear layers compute with rounded weights."""

    def __init__(self, graph: Graph, *, rounding: Rounding, **settings: Any) -> None:
        super().__init__(graph, **settings)
        self.rounding = rounding

    def compute(self, name: str, inputs: list[Tensor]) -> Tensor:
        layer, x = self.graph[name], inputs[0]
        if not isinstance(layer, Conv2d | Linear):
            return super().compute(name, inputs)
        bias, weight = self.operator(name).bias, self.rounding.weight(self, name)
        if isinstance(layer, Linear):
            return functional.linear(self._drop(x), weight, bias)
        geometry = (layer.stride, layer.padding, (1, 1), layer.groups)
        return folded(x, lambda maps: functional.conv2d(maps, weight, bias, *geometry))


@torch.no_grad()
def _gain(norm: nn.BatchNorm2d) -> Tensor:
    """The absolute factor per channel that folding puts into the weights before ``norm``."""
    assert norm.running_var is not None
    gain = norm.weight.double().abs() / (norm.running_var.double() + norm.eps).sqrt()
    return gain.clamp(min=torch.finfo(torch.float32).tiny)


def qat_config(epochs: int, *, seed: int) -> TrainConfig:
    """The settings of a short fine-tuning: a third of the usual rate, no decay."""
    return replace(FINE_TUNING, epochs=epochs, seed=seed)
