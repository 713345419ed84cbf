"""Training on with rounded weights, so that the network gets used to them.

Forwards a layer computes with the weights that :func:`spikenas.snn.quantize.quantize` would give it, backwards the
gradient goes straight through the rounding to the real weights (Bengio et al., arXiv 1308.3432), where it is not cut
off: ``w_q = clip(rint(w / step), -limit, limit) step``, ``dL/dw = dL/dw_q`` for ``|w| <= limit step``, 0 beyond.

The steps are those of the integer network that the start would be quantized to, ties between layers, shifts and
thresholds of narrow membranes included, and stay; only BatchNorm2d, which comes after a convolution, moves what a step
is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikenas.data.split import Split
from spikenas.graph import BatchNorm2d, Conv2d, Graph, Linear
from spikenas.model import Model, norm_targets
from spikenas.snn.execution import folded
from spikenas.snn.folding import fold
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult
from spikenas.snn.network import Network
from spikenas.snn.precision import weighted_layers
from spikenas.snn.quantize import largest_currents
from spikenas.snn.scales import Grid, Scales, largest_weight
from spikenas.snn.train import train
from spikenas.snn.train_config import TrainConfig

Floats = npt.NDArray[np.float64]
FINE_TUNING_RATE = 3e-3
# bfloat16 has fewer bits than the weights that it would have to hold apart
FINE_TUNING = TrainConfig(
    optimizer="adamw", learning_rate=FINE_TUNING_RATE, weight_decay=0.0, precision="float32", device="cpu"
)


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
    calibration: npt.NDArray[np.uint8] | None = None,
    on_epoch: Callable[[EpochStats], None] | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
) -> FineTuned:
    """Train ``model`` on with its weights rounded to their ``weight_bits``; quantize the result with its grid.

    ``calibration`` as for quantize. Raises QuantizeError for a model that cannot be made integer.
    """
    rounding = Rounding.of(model, {} if calibration is None else largest_currents(model, calibration))

    def build(graph: Graph, **settings: Any) -> Network:
        return RoundedNetwork(graph, rounding=rounding, **settings)

    result = train(
        model.graph,
        train_split,
        val_split,
        config,
        start=model,
        build=build,
        on_epoch=on_epoch,
        on_batch=on_batch,
    )
    return FineTuned(rounding.rounded(result.model), rounding.grid(result.model), result)


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """By layer: the shift of its sum, and how the weight itself is rounded: ``step`` [out, in, 1, ...], ``limit``.

    ``unit`` [out]: the integer's worth in the sum, before a BatchNorm2d that follows.
    """

    shifts: Mapping[str, int]
    units: Mapping[str, Floats]
    steps: Mapping[str, Tensor]
    limits: Mapping[str, int]

    @classmethod
    def of(cls, model: Model, largest: Mapping[str, Floats]) -> Rounding:
        """The rounding that quantization would choose for ``model``."""
        scales = Scales(fold(model), largest)
        grid, gains = scales.chosen(), _gains(model)
        units = {name: step / gains[name] for name, step in grid.steps.items()}
        steps = {}
        for name, unit in units.items():
            inputs = scales.input_scale(name)
            shape = (*inputs.shape, *[1] * (model.weights[f"{name}.weight"].ndim - 2))
            steps[name] = torch.from_numpy((unit[:, None] / inputs).reshape(shape).astype(np.float32))
        layers = weighted_layers(model.graph)
        return cls(grid.shifts, units, steps, {name: largest_weight(layers[name].weight_bits) for name in units})

    def weight(self, name: str, weight: Tensor) -> Tensor:
        """A layer's rounded weight; gradients go straight through where nothing is cut off."""
        most = self.steps[name] * self.limits[name]
        cut = torch.maximum(torch.minimum(weight, most), -most)
        with torch.no_grad():
            error = (cut / self.steps[name]).round_().mul_(self.steps[name]).sub_(cut)
        return cut + error

    def rounded(self, model: Model) -> Model:
        """The model with its weights rounded."""
        weights = dict(model.weights)
        for name in self.steps:
            weights[f"{name}.weight"] = self.weight(name, torch.from_numpy(weights[f"{name}.weight"])).numpy()
        return Model(model.graph, weights)

    def grid(self, model: Model) -> Grid:
        """What the steps are worth behind the norms of ``model``."""
        gains = _gains(model)
        return Grid(self.shifts, {name: unit * gains[name] for name, unit in self.units.items()})


class RoundedNetwork(Network):
    """A Network whose convolutions and linear layers compute with rounded weights."""

    def __init__(self, graph: Graph, *, rounding: Rounding, **settings: Any) -> None:
        super().__init__(graph, **settings)
        self.rounding = rounding

    def compute(self, name: str, inputs: list[Tensor]) -> Tensor:
        layer, x = self.graph[name], inputs[0]
        if not isinstance(layer, Conv2d | Linear):
            return super().compute(name, inputs)
        module = self.operator(name)
        weight = self.rounding.weight(name, module.weight)
        if isinstance(layer, Linear):
            return functional.linear(self._drop(x), weight, module.bias)
        geometry = (layer.stride, layer.padding, (1, 1), layer.groups)
        return folded(x, lambda maps: functional.conv2d(maps, weight, module.bias, *geometry))


def _gains(model: Model) -> dict[str, Floats]:
    """By layer, the absolute factor per channel of a BatchNorm2d that is folded into it."""
    gains = {name: np.ones(model.graph.shapes[name][0]) for name in weighted_layers(model.graph)}
    for norm, conv in norm_targets(model.graph)[0].items():
        layer = model.graph[norm]
        assert isinstance(layer, BatchNorm2d)
        weight, variance = (model.weights[f"{norm}.{key}"].astype(np.float64) for key in ("weight", "running_var"))
        gains[conv] = np.maximum(np.abs(weight) / np.sqrt(variance + layer.eps), np.finfo(np.float32).tiny)
    return gains


def qat_config(epochs: int, *, seed: int) -> TrainConfig:
    """The settings of a short fine-tuning: a tenth of the usual rate, no decay."""
    return replace(FINE_TUNING, epochs=epochs, seed=seed)
