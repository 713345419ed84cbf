"""What a network is built for: images (channels, height, width), or as many frames of them as there are timesteps."""

from __future__ import annotations

from spikenas.errors import GenotypeError
from spikenas.graph import Input, Shape


def input_of(sample_shape: Shape) -> Input:
    """The Input for samples (C, H, W), or (T, C, H, W) when they are T frames. Raises GenotypeError.

    >>> input_of((1, 8, 8)), input_of((10, 2, 34, 34))
    (Input(shape=(1, 8, 8), static=True), Input(shape=(2, 34, 34), static=False))
    """
    if len(sample_shape) not in (3, 4):
        raise GenotypeError(
            f"input {sample_shape}: a network takes images (channels, height, width), or frames of them (frames, "
            "channels, height, width)"
        )
    return Input(sample_shape[-3:], static=len(sample_shape) == 3)


def frames_of(sample_shape: Shape) -> int | None:
    """T of samples (T, C, H, W); None for images.

    >>> frames_of((1, 8, 8)), frames_of((10, 2, 34, 34))
    (None, 10)
    """
    return sample_shape[0] if len(sample_shape) == 4 else None
