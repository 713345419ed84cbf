"""What a network is built for: images (channels, height, width), or as many frames of them as there are timesteps."""

from __future__ import annotations

from dataclasses import replace

from spikenas.errors import GenotypeError
from spikenas.graph import AvgPool2d, Conv2d, Graph, Input, Layer, Shape


def input_of(sample_shape: Shape) -> Input:
    """The Input for samples (C, H, W), or (T, C, H, W) when they are T frames. Raises GenotypeError.

    >>> input_of((1, 8, 8)), input_of((10, 2, 34, 34))
    (Input(shape=(1, 8, 8), static=True, mirrored=False), Input(shape=(2, 34, 34), static=False, mirrored=False))
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


def without_idle_rows(graph: Graph) -> Graph:
    """A graph for samples of height 1, sound or spectra, with windows of height 1: 1x3 in place of 3x3.

    The other rows of a convolution would only ever see padding; those of a mean would only make it smaller.
    """
    if graph.sample_shape[-2] > 1:
        return graph
    return replace(graph, nodes=tuple(replace(node, layer=_flat(node.layer)) for node in graph.nodes))


def _flat(layer: Layer) -> Layer:
    if not isinstance(layer, Conv2d | AvgPool2d):
        return layer
    return replace(
        layer,
        kernel_size=(1, layer.kernel_size[1]),
        stride=(1, layer.stride[1]),
        padding=(0, layer.padding[1]),
    )
