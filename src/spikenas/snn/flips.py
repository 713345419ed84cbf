"""Which share of spikes a quantization changes, layer by layer.

End to end one changed spike changes others, so each layer is looked at by itself: the float network is given the
integer network's spikes at every layer, and its own are compared with those.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikenas.graph import Lif
from spikenas.model import IntegerModel, Model
from spikenas.snn.integer_network import IntegerNetwork
from spikenas.snn.network import from_model, normalize

BATCH_SIZE = 64


def flipped_spikes(model: Model, integer: IntegerModel, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Share of neurons and steps at which each Lif of the two networks differs, given equal inputs."""
    network, quantized = from_model(model).eval(), IntegerNetwork(integer)
    seen: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for start in range(0, len(images), BATCH_SIZE):
        batch = torch.from_numpy(images[start : start + BATCH_SIZE])
        spikes: dict[str, list[Tensor]] = {}

        def keep(name: str, value: Tensor, spikes: dict[str, list[Tensor]] = spikes) -> None:
            if isinstance(integer.graph[name], Lif):
                spikes.setdefault(name, []).append(value)

        def compare(name: str, value: Tensor, spikes: dict[str, list[Tensor]] = spikes) -> Tensor | None:
            if not isinstance(model.graph[name], Lif):
                return None
            given = spikes[name].pop(0)
            wrong[name] += int((given != value).sum())
            seen[name] += value.numel()
            return given

        with torch.no_grad():
            quantized.run(batch, keep)
            network.steps(normalize(batch), compare)
    return {name: wrong[name] / seen[name] for name in seen}
