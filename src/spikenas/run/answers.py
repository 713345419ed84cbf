"""What an integer network answered to the test images, as a report shows it: counts, mistakes, and spikes of a few.

Everything is plain values for JSON: thumbnails are PNG files and spikes are bits, both in base64.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spikenas.data.split import Labels, Split
from spikenas.model import IntegerModel
from spikenas.snn.spike_record import record_spikes

MISTAKES = 96
RIGHT_SAMPLES, WRONG_SAMPLES = 8, 4
NEURONS = 512  # of a layer in a raster; of more, so many at equal distances
THUMBNAIL = 32  # pixels of the longer side, at most


def look_at_answers(model: IntegerModel, test: Split, class_names: tuple[str, ...], answers: Labels) -> dict[str, Any]:
    """``answers`` int64 [N] of ``model`` to ``test``, told with some of its images.

    Keys: ``class_names``; ``images``, their number; ``confusion``, a list of [true, answered, count] where there are
    any; ``wrong``, up to MISTAKES images that went wrong, of as many pairs of classes as there are; ``samples``, a few
    images that went right and wrong with their ``outputs`` and by Lif ``rates``, spikes per neuron and step, and
    ``spikes``, bits of [T, ``layers[name]``]: so many of its ``neurons[name]`` neurons, at equal distances.
    """
    counts = Counter(zip(test.labels.tolist(), answers.tolist(), strict=True))
    wrong = _spread(test.labels, answers, np.flatnonzero(test.labels != answers))
    right = _spread(test.labels, answers, np.flatnonzero(test.labels == answers))
    chosen = [*right[:RIGHT_SAMPLES], *wrong[:WRONG_SAMPLES]]
    outputs, spikes = record_spikes(model, test.images[chosen])
    shown = {name: _shown(bits.shape[2]) for name, bits in spikes.items()}
    return {
        "class_names": list(class_names),
        "images": len(test),
        "confusion": [[true, answered, count] for (true, answered), count in sorted(counts.items())],
        "wrong": [_image(test, answers, index) for index in wrong[:MISTAKES]],
        "layers": {name: len(neurons) for name, neurons in shown.items()},
        "neurons": {name: bits.shape[2] for name, bits in spikes.items()},
        "samples": [
            _image(test, answers, index)
            | {
                "outputs": outputs[number].tolist(),
                "rates": {name: round(float(bits[number].mean()), 6) for name, bits in spikes.items()},
                "spikes": {name: _bits(bits[number][:, shown[name]]) for name, bits in spikes.items()},
            }
            for number, index in enumerate(chosen)
        ],
    }


def _spread(labels: Labels, answers: Labels, indices: npt.NDArray[np.intp]) -> list[int]:
    """``indices`` in an order that comes to every (true, answered) pair before it comes to one again."""
    seen: Counter[tuple[int, int]] = Counter()
    ranked = []
    for index in indices.tolist():
        pair = int(labels[index]), int(answers[index])
        ranked.append((seen[pair], index))
        seen[pair] += 1
    return [index for _, index in sorted(ranked)]


def _shown(neurons: int) -> npt.NDArray[np.intp]:
    """Which neurons of so many a raster shows.

    >>> _shown(3), len(_shown(70_000)), _shown(70_000)[-1]
    (array([0, 1, 2]), 512, np.int64(69863))
    """
    shown = min(neurons, NEURONS)
    return np.arange(shown) * neurons // shown


def _image(test: Split, answers: Labels, index: int) -> dict[str, Any]:
    return {
        "image": index,
        "true": int(test.labels[index]),
        "answered": int(answers[index]),
        "png": thumbnail(test.images[index]),
    }


def _bits(spikes: npt.NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(spikes).tobytes()).decode()


def thumbnail(image: npt.NDArray[np.uint8]) -> str:
    """A PNG file in base64 of ``image`` [C, H, W]: in colour where C is 3, else the mean of the channels in grey.

    Of frames [T, C, H, W] each pixel is the brightest of all steps.
    """
    image = image.max(axis=0) if image.ndim == 4 else image
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
