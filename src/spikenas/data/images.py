"""Image files, on disk or in memory, to one uint8 array."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spikenas.data.split import MOST_BYTES, Images
from spikenas.errors import DatasetError

Progress = Callable[[str], None]

GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # more than 8 bits; Pillow would clip them
REPORT_EVERY = 2_000

# What Pillow's decoders raise on files that are cut short or are not what they say.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One image file: what to call it in a message, and where it is or its bytes."""

    name: str
    data: Path | bytes


def decode(encoded: Sequence[Encoded], progress: Progress | None = None) -> Images:
    """Decode to uint8 [N, C, H, W]; C is 1 when every image is greyscale, otherwise 3.

    Raises DatasetError naming a file that is broken or deeper than 8 bits, or two files that
    differ in size. ``progress`` is told how far it is, a line at a time.
    """
    images = _room_for(len(encoded), _pixels(encoded[0]))
    for number, item in enumerate(encoded):
        if progress is not None and number % REPORT_EVERY == 0:
            progress(f"decoding images: {number:,} of {len(encoded):,}")
        pixels = _pixels(item)
        if pixels.shape[1:] != images.shape[2:]:
            sizes = f"{encoded[0].name} is {_size(images[0])}, {item.name} is {_size(pixels)}"
            raise DatasetError(f"images differ in size: {sizes}; make them equal (width x height)")
        if len(pixels) > images.shape[1]:
            images = np.repeat(images, len(pixels), axis=1)
        images[number] = pixels  # one grey channel spreads over three
    return images


def _room_for(count: int, pixels: Images) -> Images:
    if count * pixels.size > MOST_BYTES:
        need = f"{count:,} images of {_size(pixels)} need {count * pixels.size / 1024**3:.0f} GiB decoded"
        raise DatasetError(f"{need}, above {MOST_BYTES // 1024**3} GiB; make them smaller first")
    return np.empty((count, *pixels.shape), np.uint8)


def _pixels(item: Encoded) -> Images:
    """One image as uint8 [C, H, W], C 1 or 3; transparency is dropped."""
    try:
        with Image.open(io.BytesIO(item.data) if isinstance(item.data, bytes) else item.data) as image:
            mode = image.mode
            if mode in GREY_MODES:
                return np.asarray(image.convert("L"))[np.newaxis]
            if mode not in DEEP_MODES:
                # A palette with transparency must pass through RGBA, or Pillow warns.
                full = image.convert("RGBA") if mode == "P" else image
                colour = full if mode == "RGB" else full.convert("RGB")
                return np.asarray(colour).transpose(2, 0, 1)
    except BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        reason = "not an image" if "cannot identify" in reason else reason
        raise DatasetError(f"{item.name}: broken image file ({reason}); repair or remove it") from error
    raise DatasetError(f"{item.name}: pixels of more than 8 bits (mode {mode}); convert it to 8 bits")


def _size(pixels: Images) -> str:
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"
