"""How much the outputs suffer from each layer's bits: measured, one layer at a time.

The noise of a layer at b bits is the mean squared change of the logits, as a share of their variance, when that layer
alone is quantized to b bits and all others keep 8, less what changes when its 8-bit weights are merely rounded to the
nearest integers instead of together. For a few changed spikes in an early layer change others until the logits differ,
as they would for any reason, without being worse; taken for noise, that keeps early layers at 8 bits and pays with 2
bits elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikenas.cost.flash import WEIGHT_BITS
from spikenas.data.split import Split
from spikenas.model import IntegerModel, Model
from spikenas.snn.calibration import Calibration, calibrate
from spikenas.snn.integer_network import predict
from spikenas.snn.precision import MOST_BITS, model_with_bits
from spikenas.snn.quantize import quantize

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]
SENSITIVITY_IMAGES = 256


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One layer alone at ``bits``: ``noise`` as above, and the accuracy lost against all layers at 8 bits, 0 to 1."""

    layer: str
    bits: int
    noise: float
    accuracy_lost: float


def sensitivities(
    model: Model,
    layers: Sequence[str],
    judged: Split,
    calibration: Calibration | Images,
    on_step: Callable[[int, int, str], None] | None = None,
) -> list[Sensitivity]:
    """The sensitivity of ``layers`` at every width below 8 in which weights are stored.

    ``judged``: validation images, not test images; ``calibration`` as for quantize. ``on_step`` is told how many
    settings of how many are measured, and which is next.
    """
    eight, seen = dict.fromkeys(layers, MOST_BITS), calibrate(model, calibration)
    reference = _logits(quantize(model_with_bits(model, eight), seen), judged.images)
    variance = float(reference.var(axis=0).mean())
    right = _accuracy(reference, judged)

    def change(bits: Mapping[str, int], seen: Calibration) -> tuple[float, float]:
        logits = _logits(quantize(model_with_bits(model, {**eight, **bits}), seen), judged.images)
        return float(((logits - reference) ** 2).mean()) / max(variance, 1e-12), right - _accuracy(logits, judged)

    found: list[Sensitivity] = []
    fewer = [bits for bits in WEIGHT_BITS if bits < MOST_BITS]
    for name in layers:
        others = {layer: products for layer, products in seen.products.items() if layer != name}
        anyhow, _ = change({}, Calibration(seen.largest, others))
        for bits in fewer:
            if on_step is not None:
                on_step(len(found), len(layers) * len(fewer), f"{name} at {bits} bits")
            changed, lost = change({name: bits}, seen)
            found.append(Sensitivity(name, bits, max(changed - anyhow, 0.0), lost))
    return found


def noise_table(found: Sequence[Sensitivity]) -> Mapping[str, Mapping[int, float]]:
    """The noise by layer and bits."""
    table: dict[str, dict[int, float]] = {}
    for one in found:
        table.setdefault(one.layer, {})[one.bits] = one.noise
    return table


def _logits(integer: IntegerModel, images: Images) -> Floats:
    return predict(integer, images).astype(np.float64) * integer.output_scale


def _accuracy(logits: Floats, split: Split) -> float:
    return float(np.mean(logits.argmax(axis=1) == split.labels))
