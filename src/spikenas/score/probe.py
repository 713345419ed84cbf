"""A probe drawn from a dataset."""

from __future__ import annotations

import numpy as np
import torch

from spikenas.data.split import Split, thin
from spikenas.score.score import Probe
from spikenas.snn.network import normalize

IMAGES = 64
"""Ranks need fewer images than publication used; see docs/benchmarks.md."""


def draw_probe(split: Split, images: int = IMAGES, *, seed: int) -> Probe:
    """``images`` images of ``split``, class-balanced, as a network takes them; ``seed`` also draws the weights."""
    few = thin(split, images, np.random.default_rng(seed))
    return Probe(normalize(torch.from_numpy(few.images)), torch.from_numpy(few.labels), seed)
