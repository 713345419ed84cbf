"""What a float network does on calibration images: how large its currents are, and what its weights meet together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikenas.graph import Conv2d, Kind, Linear
from spikenas.model import Model, norm_targets
from spikenas.snn.network import from_model, normalize
from spikenas.snn.precision import weighted_layers

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]
BATCH_SIZE = 50
POSITIONS = 24
"""pixels of a map, drawn anew for each batch, whose windows are looked at"""
INPUTS_MOST = 4096
"""of an output, beyond which a layer's products are not kept: at that many they take 128 MB"""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """By node of the integer graph.

    ``largest``: the largest absolute current per channel. ``products``: of a Conv2d or Linear the mean products
    [groups, n + 1, n + 1] of any two of the n values that an output's weights meet, and of these with 1, which comes
    last; all in real units.
    """

    largest: Mapping[str, Floats] = field(default_factory=dict)
    products: Mapping[str, Floats] = field(default_factory=dict)


def calibrate(model: Model, images: Calibration | Images | None) -> Calibration:
    """Watch ``model`` on ``images`` uint8 [N, C, H, W] or [N, T, C, H, W], which come from the training split only.

    Without any nothing is known; what was seen already is left as it is. Bits change nothing about it.
    """
    if images is None or isinstance(images, Calibration):
        return images or Calibration()
    into_conv, _ = norm_targets(model.graph)
    replaced = set(into_conv.values())  # their currents before the norm do not exist once it is folded
    readers: dict[str, list[tuple[str, Conv2d | Linear]]] = {}
    for name, layer in weighted_layers(model.graph).items():
        if model.graph.fan_in(name) <= INPUTS_MOST:
            source = model.graph.sources[name][0].source
            readers.setdefault(into_conv.get(source, source), []).append((name, layer))
    largest: dict[str, Floats] = {}
    sums: dict[str, Tensor] = {}
    rng = np.random.default_rng(0)

    def watch(name: str, value: Tensor) -> None:
        if name in replaced:
            return
        node = into_conv.get(name, name)
        if model.graph.kinds[name] is Kind.CURRENT:
            most = value.abs().transpose(0, 2).flatten(1).amax(1).double().numpy()
            largest[node] = np.maximum(largest.get(node, 0.0), most)
        for reader, layer in readers.get(node, ()):
            met = _met(layer, value.flatten(0, 1), rng)
            sums[reader] = sums.get(reader, 0.0) + (met.mT @ met).double()

    network = from_model(model).eval()
    with torch.no_grad():
        for start in range(0, len(images), BATCH_SIZE):
            network.steps(normalize(torch.from_numpy(images[start : start + BATCH_SIZE])), watch)
    return Calibration(largest, {name: (total / total[:, -1:, -1:]).numpy() for name, total in sums.items()})


def _met(layer: Conv2d | Linear, values: Tensor, rng: np.random.Generator) -> Tensor:
    """[groups, samples, n + 1]: values [N, C, H, W], or [N, C], in the order of the layer's weights, and a 1."""
    if isinstance(layer, Conv2d):
        pad_h, pad_w = layer.padding
        windows = functional.pad(values, (pad_w, pad_w, pad_h, pad_h))
        for axis, (kernel, stride) in enumerate(zip(layer.kernel_size, layer.stride, strict=True)):
            windows = windows.unfold(2 + axis, kernel, stride)
        height, width = windows.shape[2:4]
        seen = torch.from_numpy(rng.permutation(height * width)[:POSITIONS].copy())
        windows = windows[:, :, seen // width, seen % width]  # [N, C, positions, h, w]
        of_group = windows.unfold(1, windows.shape[1] // layer.groups, windows.shape[1] // layer.groups)
        values = of_group.movedim(-1, 3).transpose(0, 1).flatten(3).flatten(1, 2)
    else:
        values = values[None]
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1).float()
