"""Which neurons of an integer network spike at which step, for pictures of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikenas.graph import Lif
from spikenas.model import IntegerModel
from spikenas.snn.integer_network import IntegerNetwork


def record_spikes(
    model: IntegerModel, images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.bool_]]]:
    """Outputs [N, classes] and each Lif's spikes [N, T, neurons], neurons in the order channel, row, column.

    ``images``: uint8 [N, C, H, W]; spikes are of these, not of mirror images. Raises ModelError when they do not fit.
    """
    steps: dict[str, list[Tensor]] = {}

    def keep(name: str, value: Tensor) -> None:
        if isinstance(model.graph[name], Lif):
            steps.setdefault(name, []).append(value.flatten(2).bool())

    outputs = IntegerNetwork(model).run(torch.from_numpy(images), keep)
    spikes = {name: torch.cat(values)[:, : len(images)].transpose(0, 1).numpy() for name, values in steps.items()}
    return outputs.to(torch.int64).numpy(), spikes
