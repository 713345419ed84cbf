"""Random shifts, flips and cut-outs of a whole batch at once, in one gather."""

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
    """Each image is moved by up to ``shift`` pixels both ways (its border repeats) and mirrored half the time.

    A square of ``cutout`` pixels a side, which may reach over the border, is made grey (DeVries and Taylor, arXiv
    1708.04552).
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0


GREY = 128  # 0 to a network


def parse_augment(text: str, shape: tuple[int, int, int]) -> Augment:
    """``none``, any of ``shiftN``, ``flip``, ``cutoutN`` joined by +, or ``auto``: what suits images of ``shape``.

    ``auto`` shifts by 4 pixels from 32x32 on, as is usual there, by 2 from 16x16 on, by 1 from 8x8 on; it mirrors
    colour images only, because grey ones are often characters.
    Raises TrainError for any other text.

    >>> parse_augment("auto", (1, 8, 8)), parse_augment("auto", (3, 32, 32))
    (Augment(shift=1, flip=False, cutout=0), Augment(shift=4, flip=True, cutout=0))
    """
    channels, side = shape[0], min(shape[1:])
    if text == "auto":
        return Augment(
            shift=max((s for least, s in AUTO_SHIFT.items() if side >= least), default=0), flip=channels == 3
        )
    if text == "none":
        return Augment()
    found: dict[str, int] = {}
    for part in text.split("+"):
        match = re.fullmatch(r"(shift|cutout)(\d+)|(flip)", part)
        if match is None or (match[1] or match[3]) in found:
            raise TrainError(f"augment {text!r} is unknown: use auto, none, or such as shift2+flip+cutout8")
        found[match[1] or match[3]] = int(match[2] or 1)
    return Augment(found.get("shift", 0), "flip" in found, found.get("cutout", 0))


def augmented(pixels: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """A changed copy of ``pixels`` uint8 [B, C, H, W], in channels-last layout; or [B, T, C, H, W], frames alike."""
    if pixels.dim() == 5:
        as_channels = augmented(pixels.flatten(1, 2), augment, generator)
        return as_channels.view(pixels.shape)
    batch, _, height, width = pixels.shape
    shift = augment.shift
    offsets = torch.randint(-shift, shift + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) + offsets[0]).clamp_(0, height - 1)
    columns = (torch.arange(width) + offsets[1]).clamp_(0, width - 1)
    if augment.flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    images = torch.arange(batch)[:, None, None]
    device = pixels.device
    # Advanced indices around the channel axis: the result comes out as [B, H, W, C].
    index = [i.to(device) for i in (images, rows[:, :, None], columns[:, None, :])]
    changed = pixels[index[0], :, index[1], index[2]]
    if augment.cutout:
        inside = [_cut(batch, length, augment.cutout, generator).to(device) for length in (height, width)]
        changed[inside[0][:, :, None] & inside[1][:, None, :]] = GREY
    return changed.permute(0, 3, 1, 2)


def _cut(batch: int, length: int, size: int, generator: torch.Generator) -> Tensor:
    """Which of ``length`` positions lie in a window of ``size`` about a random one, bool [B, length]."""
    first = torch.randint(0, length, (batch, 1), generator=generator) - size // 2
    position = torch.arange(length)
    return (position >= first) & (position < first + size)
