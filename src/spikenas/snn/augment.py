"""Random shifts and flips of a whole batch at once, in one gather."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from spikenas.errors import TrainError

AUTO_SHIFT = {8: 1, 16: 2, 32: 4}
"""pixels of shift for images of at least so many pixels a side"""


@dataclass(frozen=True, slots=True)
class Augment:
    """Each image is moved by up to ``shift`` pixels both ways (its border repeats) and mirrored half the time."""

    shift: int = 0
    flip: bool = False


def parse_augment(text: str, shape: tuple[int, int, int]) -> Augment:
    """``none``, ``shiftN``, ``shiftN+flip``, ``flip``, or ``auto``: what suits images of ``shape`` (C, H, W).

    ``auto`` shifts by 4 pixels from 32x32 on, as is usual there, by 2 from 16x16 on, by 1 from 8x8 on; it mirrors
    colour images only, because grey ones are often characters.
    Raises TrainError for any other text.

    >>> parse_augment("auto", (1, 8, 8)), parse_augment("auto", (3, 32, 32))
    (Augment(shift=1, flip=False), Augment(shift=4, flip=True))
    """
    channels, side = shape[0], min(shape[1:])
    if text == "auto":
        return Augment(
            shift=max((s for least, s in AUTO_SHIFT.items() if side >= least), default=0), flip=channels == 3
        )
    if text == "none":
        return Augment()
    match = re.fullmatch(r"(?:shift(\d+))?(?:(?:^|\+)(flip))?", text)
    if not match or not text:
        raise TrainError(f"augment {text!r} is unknown: use auto, none, flip, shift2 or shift2+flip")
    return Augment(int(match[1] or 0), match[2] is not None)


def augmented(pixels: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """A changed copy of ``pixels`` uint8 [B, C, H, W], in channels-last layout."""
    batch, _, height, width = pixels.shape
    shift = augment.shift
    offsets = torch.randint(-shift, shift + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) + offsets[0]).clamp_(0, height - 1)
    columns = (torch.arange(width) + offsets[1]).clamp_(0, width - 1)
    if augment.flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    images = torch.arange(batch)[:, None, None]
    # Advanced indices around the channel axis: the result comes out as [B, H, W, C].
    return pixels[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
