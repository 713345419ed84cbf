"""Mixed bits: the least output noise that a budget of flash allows.

Noises of layers are taken to add up, as independent errors do. Bytes of layers really do, and the code that reads
them depends on the kernels and on which widths occur. So for each kernels and widths, the assignments that are not
worse than another in both are few, and the first of all these, by noise, whose exact flash fits is the best.
"""

from __future__ import annotations

from collections.abc import Mapping

from spikenas.cost.budget import format_bytes
from spikenas.cost.cost import estimate
from spikenas.cost.flash import WEIGHT_BITS
from spikenas.cost.memory import Kernels
from spikenas.cost.target import Target
from spikenas.errors import NothingFits
from spikenas.graph import Graph
from spikenas.snn.precision import bytes_by_bits, with_bits

Noise = Mapping[str, Mapping[int, float]]
"""Output noise by layer and bits; see :mod:`spikenas.snn.sensitivity`."""

FRONT_MOST = 4000  # assignments of the same widths kept; more differ by a hair
_Assignment = tuple[float, int, tuple[int, ...]]
"""noise, bytes, bits by layer"""


def choose_bits(
    graph: Graph, noise: Noise, target: Target, flash_bytes: int, ram_bytes: int | None = None
) -> dict[str, int]:
    """Bits by layer with the least total noise among those whose flash fits, with the kernels that the budgets call
    for. Raises NothingFits."""
    sizes = [bytes_by_bits(graph, target, kernels) for kernels in Kernels]
    for _, _, chosen in sorted(entry for size in sizes for entry in _quiet_or_small(size, noise)):
        bits = dict(zip(sizes[0], chosen, strict=True))
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


def _quiet_or_small(sizes: Mapping[str, Mapping[int, int]], noise: Noise) -> list[_Assignment]:
    """Assignments of which no other with the same widths has both fewer bytes and less noise."""
    fronts: dict[frozenset[int], list[_Assignment]] = {frozenset(): [(0.0, 0, ())]}
    for name, size in sizes.items():
        measured = {max(WEIGHT_BITS): 0.0, **noise.get(name, {})}
        options = [bits for bits in _useful(size) if bits in measured]
        longer: dict[frozenset[int], list[_Assignment]] = {}
        for widths, front in fronts.items():
            for bits in options:
                read = widths | {bits} if len(options) > 1 else widths  # what is always in bytes needs no code for it
                longer.setdefault(read, []).extend(
                    (loud + measured[bits], total + size[bits], (*chosen, bits)) for loud, total, chosen in front
                )
        fronts = {widths: _front(entries) for widths, entries in longer.items()}
    return [entry for front in fronts.values() for entry in front]


def _front(entries: list[_Assignment]) -> list[_Assignment]:
    """The entries that no quieter one undercuts in bytes; of more than FRONT_MOST every n-th, the ends among them."""
    front, least = [], float("inf")
    for entry in sorted(entries):
        if entry[1] < least:
            front.append(entry)
            least = entry[1]
    if len(front) <= FRONT_MOST:
        return front
    return [front[i * (len(front) - 1) // (FRONT_MOST - 1)] for i in range(FRONT_MOST)]


def _useful(size: Mapping[int, int]) -> list[int]:
    """Widths that take fewer bytes than all wider ones."""
    return [bits for bits in WEIGHT_BITS if all(size[bits] < size[wider] for wider in WEIGHT_BITS if wider > bits)]
