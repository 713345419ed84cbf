"""What may sit on an edge of a cell: one function per operation, one line per operation in ``OPERATIONS``.

An operation reads one cell node through a :class:`Tap`, emits layers and returns the name of the last one. Every
operation keeps channels, height and width, so any edge may carry any of them. ``lif_*`` operations turn the node's
real value into spikes first; ``skip`` and ``avgpool3x3`` pass real values on (SNASNet, arXiv 2201.10355, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from spikenas.errors import GenotypeError
from spikenas.graph import AvgPool2d, BatchNorm2d, Conv2d, GraphBuilder, Lif

NONE = "none"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Layers without parameters, each made once for every node that feeds it.

    Two neurons with the same input and the same constants are the same neuron, so the conv edges that leave a node
    share one Lif: the same function with fewer membranes. The same holds for poolings.

    >>> from spikenas.graph import Input
    >>> sharing = Sharing(GraphBuilder())
    >>> image = sharing.builder.add(Input((1, 4, 4)), name="image")
    >>> sharing.add(Lif(), image), sharing.add(Lif(), image), sharing.add(Lif(threshold=0.5), image)
    ('image_lif', 'image_lif', 'image_lif2')
    """

    builder: GraphBuilder
    made: dict[tuple[str, Lif | AvgPool2d], str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add(self, layer: Lif | AvgPool2d, source: str) -> str:
        """The name of ``layer`` fed by ``source``, added to the builder when it is not there yet."""
        if (source, layer) not in self.made:
            stem = f"{source}_{'lif' if isinstance(layer, Lif) else 'pool'}"
            name, number = stem, 2
            while name in self.names:
                name, number = f"{stem}{number}", number + 1
            self.names.add(name)
            self.made[source, layer] = self.builder.add(layer, source, name=name)
        return self.made[source, layer]


@dataclass(frozen=True, slots=True)
class Tap:
    """Where an operation is plugged in: a node's value, and what the operation must know of its cell."""

    sharing: Sharing
    source: str
    """name of the layer whose output is the node's value, shape (channels, H, W)"""
    edge: str
    """prefix of the names of the layers that the operation adds"""
    channels: int
    lif: Lif
    weight_bits: int = 8


Operation = Callable[[Tap], str | None]


def none(tap: Tap) -> None:
    """No connection."""


def skip(tap: Tap) -> str:
    """The identity on real values."""
    return tap.source


def avgpool3x3(tap: Tap) -> str:
    """Mean over 3x3 windows of real values, stride 1; the padding's zeros count."""
    return tap.sharing.add(AvgPool2d((3, 3), (1, 1), (1, 1)), tap.source)


def lif_conv(tap: Tap, *, kernel: int, depthwise: bool = False, threshold: float | None = None) -> str:
    """Lif -> Conv2d (no bias) -> BatchNorm2d; the cell's own threshold unless one is given."""
    spikes = tap.sharing.add(tap.lif if threshold is None else replace(tap.lif, threshold=threshold), tap.source)
    conv = Conv2d(
        tap.channels,
        (kernel, kernel),
        padding=(kernel // 2, kernel // 2),
        groups=tap.channels if depthwise else 1,
        weight_bits=tap.weight_bits,
    )
    builder = tap.sharing.builder
    return builder.add(BatchNorm2d(), builder.add(conv, spikes, name=f"{tap.edge}_conv"), name=f"{tap.edge}_bn")


OPERATIONS: dict[str, Operation] = {
    "none": none,
    "skip": skip,
    "avgpool3x3": avgpool3x3,
    "lif_conv1x1": partial(lif_conv, kernel=1),
    "lif_conv3x3": partial(lif_conv, kernel=3),
    "lif_conv5x5": partial(lif_conv, kernel=5),
    # depthwise 1x1 scales each channel's spikes: the cheapest operation that spikes
    "lif_dwconv1x1": partial(lif_conv, kernel=1, depthwise=True),
    "lif_dwconv3x3": partial(lif_conv, kernel=3, depthwise=True),
    # SpikeNAS-Bench's three: the threshold belongs to the operation
    "lif_conv3x3_th0.5": partial(lif_conv, kernel=3, threshold=0.5),
    "lif_conv3x3_th1.0": partial(lif_conv, kernel=3, threshold=1.0),
    "lif_conv3x3_th1.5": partial(lif_conv, kernel=3, threshold=1.5),
}

CODES: dict[str, str] = {
    "none": "0",
    "skip": "s",
    "avgpool3x3": "a",
    "lif_conv1x1": "1",
    "lif_conv3x3": "3",
    "lif_conv5x5": "5",
    "lif_dwconv1x1": "i",
    "lif_dwconv3x3": "d",
}
"""The letter of each operation in genotype strings of the spaces ``embedded`` and ``spikenas``."""


def spiking(operation: str) -> bool:
    """Whether the operation holds a neuron."""
    return operation.startswith("lif_")


def checked(space: str, operations: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """``operations`` without repeats in the order of ``allowed``. Raises GenotypeError on any other operation.

    >>> checked("snasnet", ["lif_conv3x3", "skip"], ["none", "skip", "lif_conv3x3"])
    ('skip', 'lif_conv3x3')
    """
    wanted, allowed = tuple(operations), tuple(allowed)
    for operation in wanted:
        if operation not in allowed:
            raise GenotypeError(
                f"operation {operation!r} is not one of space '{space}': choose from {', '.join(allowed)}"
            )
    if not set(wanted) - {NONE}:
        raise GenotypeError(f"operations {wanted!r} connect nothing: name at least one besides 'none'")
    return tuple(operation for operation in allowed if operation in wanted)
