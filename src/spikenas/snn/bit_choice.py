"""Mixed bits: the least output noise that a budget of flash allows.

Noises of layers are taken to add up, as independent errors do; bytes really do, but for some code that depends on
which widths occur. So all assignments that are not worse than another in both are few, and the first of them in the
order of their noise whose exact flash fits is the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spikenas.cost.budget import format_bytes
from spikenas.cost.cost import estimate
from spikenas.cost.flash import WEIGHT_BITS
from spikenas.cost.target import Target
from spikenas.errors import NothingFits
from spikenas.graph import Graph
from spikenas.snn.precision import bytes_by_bits, with_bits

Noise = Mapping[str, Mapping[int, float]]
"""Output noise by layer and bits; see :mod:`spikenas.snn.sensitivity`."""

FRONT_MOST = 4000  # assignments kept; more differ by a hair


def choose_bits(
    graph: Graph, noise: Noise, target: Target, flash_bytes: int, ram_bytes: int | None = None
) -> dict[str, int]:
    """Bits by layer with the least total noise among those whose flash fits, with the kernels that the budgets call
    for. Raises NothingFits."""
    for bits in _by_noise(bytes_by_bits(graph, target), noise):
        cost = estimate(with_bits(graph, bits), target, flash_bytes=flash_bytes, ram_bytes=ram_bytes)
        if cost.flash_bytes <= flash_bytes:
            return bits
    least = least_flash(graph, target, flash_bytes, ram_bytes)
    raise NothingFits(
        f"flash budget {format_bytes(flash_bytes)}: this network needs {least:,} bytes at 2 bits a weight; raise "
        "--flash, or search for a smaller network with spikenas run"
    )


def least_flash(graph: Graph, target: Target, flash_bytes: int | None = None, ram_bytes: int | None = None) -> int:
    """The least flash at any bits, with the kernels that the budgets (None: the target's) call for.

    One width alone may need less code than the smallest of several.
    """
    sizes = bytes_by_bits(graph, target)
    options = [dict.fromkeys(sizes, bits) for bits in WEIGHT_BITS]
    options.append({name: min(_useful(size)) for name, size in sizes.items()})
    graphs = [with_bits(graph, bits) for bits in options]
    return min(estimate(one, target, flash_bytes=flash_bytes, ram_bytes=ram_bytes).flash_bytes for one in graphs)


def _by_noise(sizes: Mapping[str, Mapping[int, int]], noise: Noise) -> Iterator[dict[str, int]]:
    """Assignments of which no other has both fewer bytes and less noise, quietest first."""
    front: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
    for name, size in sizes.items():
        longer = [
            (loud + noise.get(name, {}).get(bits, 0.0), total + size[bits], (*chosen, bits))
            for loud, total, chosen in front
            for bits in _useful(size)
        ]
        front, least = [], float("inf")
        for entry in sorted(longer):
            if entry[1] < least:
                front.append(entry)
                least = entry[1]
        if len(front) > FRONT_MOST:
            front = [front[i * (len(front) - 1) // (FRONT_MOST - 1)] for i in range(FRONT_MOST)]
    for _, _, chosen in front:
        yield dict(zip(sizes, chosen, strict=True))
    smallest = {name: min(_useful(size)) for name, size in sizes.items()}
    yield smallest
    for bits in WEIGHT_BITS:
        yield {name: bits if bits in _useful(size) else max(WEIGHT_BITS) for name, size in sizes.items()}


def _useful(size: Mapping[int, int]) -> list[int]:
    """Widths that take fewer bytes than all wider ones."""
    return [bits for bits in WEIGHT_BITS if all(size[bits] < size[wider] for wider in WEIGHT_BITS if wider > bits)]
