"""The integer network over many images: by its own C on this computer where there is a compiler, else by torch.

Both give the bits of :mod:`spikenas.reference`.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from spikenas.data.split import Split
from spikenas.deploy import host_library
from spikenas.errors import MissingTool, QuantizeError
from spikenas.model import IntegerModel
from spikenas.snn import integer_network

COMPILED_IMAGES = 1000  # fewer are done by torch before the compiler is


def predict_integers(model: IntegerModel, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Integer outputs [N, classes] for ``images`` uint8 [N, C, H, W] or [N, T, C, H, W]."""
    if len(images) >= COMPILED_IMAGES:
        try:
            return host_library.predict(model, images, threads=os.cpu_count() or 1)
        except (MissingTool, QuantizeError):  # no compiler, or 32-bit membranes
            pass
    return integer_network.predict(model, images)


def integer_accuracy(model: IntegerModel, split: Split) -> float:
    """Share of right answers, 0 to 1."""
    return float(np.mean(predict_integers(model, split.images).argmax(axis=1) == split.labels))
