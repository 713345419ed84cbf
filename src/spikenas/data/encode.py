"""How images become frames: the codes that turn the brightness of a pixel into spikes.

``direct``
    No code: the network reads the image itself, at every step.
``rate``
    At each step a pixel spikes with probability ``pixel / 255``, drawn anew (Bernoulli).
``latency``
    Each pixel spikes once, the brighter the earlier: at step ``round((T - 1) (1 - pixel / 255))``.

A spike is the pixel SPIKE, none is SILENCE, which is 0 to a network, like its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from spikenas.data.split import MOST_BYTES, Images, Split
from spikenas.errors import DatasetError

Spikes = npt.NDArray[np.bool_]

DIRECT = "direct"
SILENCE, SPIKE = 128, 255
FRAMES = 8
"""of a sample where nobody says how many"""
BLOCK = 1024
"""images that are encoded at once"""


def encoded(split: Split, code: str, frames: int, *, seed: int) -> Split:
    """Images [N, C, H, W] as [N, frames, C, H, W] of SILENCE and SPIKE; the same ``seed``, the same spikes.

    Raises DatasetError for an unknown code, for samples that are frames already and for more bytes than MOST_BYTES.

    >>> images = np.array([0, 100, 255], np.uint8).reshape(1, 1, 1, 3)
    >>> encoded(Split(images, np.array([0])), "latency", 3, seed=0).images.reshape(3, 3)
    array([[128, 128, 255],
           [128, 255, 128],
           [255, 128, 128]], dtype=uint8)
    """
    if code not in CODES:
        raise DatasetError(f"encode {code!r} is unknown: choose from {', '.join((DIRECT, *CODES))}")
    if split.images.ndim == 5:
        raise DatasetError(f"encode {code!r}: the samples are frames already; leave --encode out")
    count, *shape = split.images.shape
    size = split.images.size * frames
    if size > MOST_BYTES:
        raise DatasetError(f"{frames} frames of each image need {size / 1024**3:.0f} GiB; lower --frames or --limit")
    samples = np.empty((count, frames, *shape), np.uint8)
    rng = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        spikes = CODES[code](split.images[start : start + BLOCK], frames, rng)
        samples[start : start + BLOCK] = np.where(spikes, np.uint8(SPIKE), np.uint8(SILENCE))
    return Split(samples, split.labels)


def _rate(images: Images, frames: int, rng: np.random.Generator) -> Spikes:
    count, *shape = images.shape
    spikes: Spikes = rng.integers(0, 255, (count, frames, *shape), dtype=np.uint8) < images[:, np.newaxis]
    return spikes


def _latency(images: Images, frames: int, rng: np.random.Generator) -> Spikes:
    step = np.rint((frames - 1) * (1.0 - images / 255.0)).astype(np.int64)
    spikes: Spikes = step[:, np.newaxis] == np.arange(frames).reshape(1, frames, *[1] * (images.ndim - 1))
    return spikes


Code = Callable[[Images, int, np.random.Generator], Spikes]
CODES: Mapping[str, Code] = {"rate": _rate, "latency": _latency}
