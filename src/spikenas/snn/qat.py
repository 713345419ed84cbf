"""Training on with rounded weights, so that the network gets used to them.

Forwards a layer computes with the weights that :func:`spikenas.snn.quantize.quantize` would give it, backwards the
gradient goes straight through the rounding to the real weights (Bengio et al., arXiv 1308.3432), where it is not cut
off: ``w_q = clip(rint(w / step), -limit, limit) step``, ``dL/dw = dL/dw_q`` for ``|w| <= limit step``, 0 beyond.

The steps are those of the integer network itself, ties between layers, shifts and thresholds of narrow membranes
included; they are found anew from the weights after each epoch.
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
from spikenas.snn.learning_curve import BatchStats, EpochStats, TrainResult, best_epoch
from spikenas.snn.network import Network, to_model
from spikenas.snn.precision import weighted_layers
from spikenas.snn.quantize import largest_currents
from spikenas.snn.scales import Scales, largest_weight
from spikenas.snn.train import train
from spikenas.snn.train_config import TrainConfig

Floats = npt.NDArray[np.float64]
FINE_TUNING_RATE = 3e-3
FINE_TUNING = TrainConfig(learning_rate=FINE_TUNING_RATE, weight_decay=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """``model``: the best epoch's, its weights the rounded ones; with ``shifts`` it quantizes to just these."""

    model: Model
    shifts: Mapping[str, int]
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
    """Train ``model`` on with its weights rounded to their ``weight_bits``; quantize the result as any other.

    ``calibration`` as for quantize. The shifts between layers that meet are decided at the start and stay.
    Raises QuantizeError for a model that cannot be made integer.
    """
    largest = {} if calibration is None else largest_currents(model, calibration)
    shifts = Scales(fold(model), largest).shifts()
    kept = _Kept(len(val_split))

    def build(graph: Graph, **settings: Any) -> Network:
        kept.network = RoundedNetwork(graph, largest=largest, shifts=shifts, **settings)
        return kept.network

    def after_epoch(stats: EpochStats) -> None:
        kept.epoch(stats)
        if on_epoch is not None:
            on_epoch(stats)

    result = train(
        model.graph,
        train_split,
        val_split,
        config,
        start=model,
        build=build,
        on_epoch=after_epoch,
        on_batch=on_batch,
    )
    return FineTuned(kept.model, shifts, result)


class _Kept:
    """The rounded weights of the best epoch so far."""

    network: RoundedNetwork
    model: Model

    def __init__(self, val_images: int) -> None:
        self.val_images = val_images
        self.curve: tuple[EpochStats, ...] = ()

    def epoch(self, stats: EpochStats) -> None:
        self.curve = (*self.curve, stats)
        if best_epoch(self.curve, self.val_images) is stats:
            self.model = self.network.rounded()
        self.network.forget_steps()


class RoundedNetwork(Network):
    """A Network whose convolutions and linear layers compute with rounded weights.

    The steps of rounding are found at the first use, and again after ``forget_steps``.
    """

    def __init__(
        self, graph: Graph, *, largest: Mapping[str, Floats], shifts: Mapping[str, int] | None = None, **settings: Any
    ) -> None:
        super().__init__(graph, **settings)
        self._largest, self._shifts = largest, shifts
        self._weight_steps: dict[str, Tensor] = {}

    def forget_steps(self) -> None:
        """Weights have moved: find the steps anew when next needed."""
        self._weight_steps = {}

    def rounded(self) -> Model:
        """The network's numbers, weights as it computes with them."""
        model = to_model(self)
        weights = dict(model.weights)
        with torch.no_grad():
            for name in weighted_layers(self.graph):
                weights[f"{name}.weight"] = self.weight(name).numpy().copy()
        return Model(self.graph, weights)

    def weight(self, name: str) -> Tensor:
        """The rounded weight of a layer."""
        if not self._weight_steps:
            steps = weight_steps(to_model(self), self._largest, self._shifts)
            self._weight_steps = {name: torch.from_numpy(step.astype(np.float32)) for name, step in steps.items()}
        limit = largest_weight(weighted_layers(self.graph)[name].weight_bits)
        return _rounded(self.operator(name).weight, self._weight_steps[name], limit)

    def compute(self, name: str, inputs: list[Tensor]) -> Tensor:
        layer, x = self.graph[name], inputs[0]
        if not isinstance(layer, Conv2d | Linear):
            return super().compute(name, inputs)
        module, weight = self.operator(name), self.weight(name)
        if isinstance(layer, Linear):
            return functional.linear(self._drop(x), weight, module.bias)
        geometry = (layer.stride, layer.padding, (1, 1), layer.groups)
        return folded(x, lambda maps: functional.conv2d(maps, weight, module.bias, *geometry))


def weight_steps(
    model: Model, largest: Mapping[str, Floats], shifts: Mapping[str, int] | None = None
) -> Mapping[str, Floats]:
    """By how much a weight of each layer must grow to be the next integer, [out, in, 1, ...] or [out, 1, ...]."""
    folded_model = fold(model)
    scales = Scales(folded_model, largest, shifts)
    into_conv, _ = norm_targets(model.graph)
    norms = {conv: norm for norm, conv in into_conv.items()}
    steps: dict[str, Floats] = {}
    for name, layer in model.graph.layers.items():
        if isinstance(layer, Conv2d | Linear):
            weight = model.weights[f"{name}.weight"]
            g = np.abs(_gain(model, norms[name])) if name in norms else np.ones(len(weight))
            out = scales.scale(name) / 2.0 ** scales.shift(name) / np.maximum(g, np.finfo(np.float32).tiny)
            inputs = scales.input_scale(name)
            steps[name] = (out[:, None] / inputs).reshape(*inputs.shape, *[1] * (weight.ndim - 2))
    return steps


def _gain(model: Model, norm: str) -> Floats:
    layer = model.graph[norm]
    assert isinstance(layer, BatchNorm2d)
    gain: Floats = model.weights[f"{norm}.weight"].astype(np.float64) / np.sqrt(
        model.weights[f"{norm}.running_var"].astype(np.float64) + layer.eps
    )
    return gain


def _rounded(weight: Tensor, step: Tensor, limit: int) -> Tensor:
    """Rounded forwards, straight through backwards."""
    cut = torch.maximum(torch.minimum(weight, step * limit), step * -limit)
    with torch.no_grad():
        error = (cut / step).round_().mul_(step).sub_(cut)
    return cut + error


def qat_config(epochs: int, *, seed: int) -> TrainConfig:
    """The settings of a short fine-tuning: a tenth of the usual rate, no decay."""
    return replace(FINE_TUNING, epochs=epochs, seed=seed)
