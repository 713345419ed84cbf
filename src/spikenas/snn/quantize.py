"""From trained floats to the integers of :mod:`spikenas.model`, after training.

Every current is an integer times a scale per channel; nothing is ever multiplied to change a scale. So

* currents that are added or pooled share their scales: Add and AvgPool2d *tie* their nodes into one group;
* a group's scale ``s`` is the finest at which each of its layers' weights fit their bits, made coarser where a
  threshold or bias would leave its range (then the weights are tiny beside it, and losing their last bits is harmless);
* scales of inputs, 1/128 of a pixel, 1/k^2 of pooled spikes, or those of a group, are folded into the weights;
* a neuron fires when ``u >= threshold``, so in integers when ``U >= ceil(threshold / (gain s))``;
* a BatchNorm2d before a neuron, ``g x + b``, leaves the sign of g, a bias ``b / (|g| s)`` and a threshold over ``|g|``;
* what feeds Vote, Mean and Output has one scale for all channels, so that the largest output stays the largest.

Where whole numbers come in (pixels, currents), sums are long and the 16 bits of a current would overflow: there
the weights are made finer than ``s`` by 2**shift, and the sum is shifted back; the shift is the least at which the
current provably fits. Folding and symmetric weights per channel are those of Jacob et al. (arXiv 1712.05877), whose
multiplication per value the threshold absorbs here. Which of the two nearest integers a weight becomes is decided by
what it meets in calibration (:mod:`spikenas.snn.compensation`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikenas.errors import QuantizeError
from spikenas.graph import Conv2d, Lif, Linear
from spikenas.model import CURRENT_MAX, IntegerModel, Model
from spikenas.snn.bounds import reaches
from spikenas.snn.calibration import Calibration, Images, calibrate
from spikenas.snn.folding import Floats, Folded, fold
from spikenas.snn.scales import HAIR, Grid, Scales, largest_threshold, largest_weight

Arrays = dict[str, npt.NDArray[np.int32]]


def quantize(
    model: Model,
    calibration: Calibration | Images | None = None,
    *,
    grid: Grid | None = None,
) -> IntegerModel:
    """The integer model of a trained float model, each layer at its own ``weight_bits``.

    ``calibration``: what the model does on images of the training split, or these images, uint8 [N, C, H, W] or
    [N, T, C, H, W]. Where their currents would leave 16 bits, the scale is made coarser, and weights are rounded so
    that their errors cancel on them. ``grid``: what the weights were trained on, to whose nearest points they are
    rounded. Raises QuantizeError, naming the node, for what cannot be made integer.
    """
    folded = fold(model)
    scales = Scales(folded, calibrate(model, calibration), grid)
    weights: Arrays = {}
    for name, layer in folded.graph.layers.items():
        if isinstance(layer, Conv2d | Linear):
            weights |= _layer(scales, name, layer)
        elif isinstance(layer, Lif):
            weights |= _neuron(folded, scales, name, layer)
    integer = IntegerModel(folded.graph, weights, float(scales.scale(folded.graph.output)[0]))
    for name, reach in reaches(integer).items():
        if reach.peak >= 2**31 and not isinstance(folded.graph[name], Lif):
            raise QuantizeError(f"node '{name}': its sums can reach {reach.peak}, beyond 32 bits: make it narrower")
    return integer


def _layer(scales: Scales, name: str, layer: Conv2d | Linear) -> Arrays:
    limit, shift = largest_weight(layer.weight_bits), scales.shift(name)
    weight, bias = scales.compensated_weights(name) if scales.grid is None else scales.whole_weights(name)
    arrays = {
        f"{name}.weight": np.clip(np.rint(weight), -limit, limit).astype(np.int32),
        f"{name}.shift": np.array(shift, np.int32),
    }
    if layer.bias:
        arrays[f"{name}.bias"] = np.rint(bias / 2.0**shift).astype(np.int32)
    return arrays


def _neuron(folded: Folded, scales: Scales, name: str, layer: Lif) -> Arrays:
    scale = scales.scale(folded.graph.sources[name][0].source)
    real = layer.threshold / (layer.gain * scale)
    if not layer.folded_norm:
        return {f"{name}.threshold": _threshold(name, layer, real)}
    norm = folded.norms[name]
    # Next to a g below this the input counts for less than one part in 2**14 of the threshold: g is as good as it.
    g = np.maximum(np.abs(norm.g), real / largest_threshold(layer))
    return {
        f"{name}.threshold": _threshold(name, layer, real / g),
        f"{name}.sign": np.where(norm.g < 0, -1, 1).astype(np.int32),
        f"{name}.bias": np.clip(np.rint(norm.b / (g * scale)), -CURRENT_MAX, CURRENT_MAX).astype(np.int32),
    }


def _threshold(name: str, layer: Lif, real: Floats) -> npt.NDArray[np.int32]:
    """The least integer that is not below the real threshold."""
    threshold = np.maximum(1.0, np.ceil(real * (1.0 - HAIR)))
    most = 2 ** (layer.membrane_bits - 1) - 1
    if threshold.max() > most:
        raise QuantizeError(
            f"node '{name}': its threshold is {threshold.max():.0f} in the units of its input, membranes of "
            f"{layer.membrane_bits} bits end at {most}: widen them or lower the threshold"
        )
    return threshold.astype(np.int32)
