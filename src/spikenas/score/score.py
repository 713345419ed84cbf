"""What a score is: a number for a network that nobody has trained, higher meaning more accurate when trained.

Some scores read the graph alone; others look at spikes or gradients of a freshly drawn network on a few images, a
:class:`Probe`. The same graph, probe and seed give the same number. A score that cannot judge a network gives NaN,
and what asked for it counts that network as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from spikenas.errors import InputError
from spikenas.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor  # scores of structure never load torch


class Needs(StrEnum):
    """What a score looks at, from free to costly."""

    STRUCTURE = "structure"  # the graph
    ACTIVATIONS = "activations"  # spikes of an untrained network on images
    GRADIENTS = "gradients"  # its gradients on labelled images


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A few images to look at: float [B, C, H, W] as a network takes them, labels [B], the seed of the weights."""

    images: Tensor
    labels: Tensor
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StructureScore:
    """A score of the graph alone."""

    name: str
    measure: Callable[[Graph], float]
    needs: Needs = Needs.STRUCTURE

    def __call__(self, graph: Graph, probe: Probe | None = None) -> float:
        return float(self.measure(graph))

    def each(self, graphs: Sequence[Graph], probe: Probe | None) -> Iterator[float]:
        """The scores of ``graphs``, one after the other."""
        return map(self, graphs)


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """A score of an untrained network on images. Raises InputError without a probe."""

    name: str
    measure: Callable[[Graph, Probe], float]
    needs: Needs
    together: Callable[[Sequence[Graph], Probe], list[float]] | None = None
    """the same of many networks, where that is faster than one by one"""

    def __call__(self, graph: Graph, probe: Probe | None = None) -> float:
        return float(self.measure(graph, self._needed(probe)))

    def each(self, graphs: Sequence[Graph], probe: Probe | None) -> Iterator[float]:
        """The scores of ``graphs``, one after the other; where they are computed together, all with the first."""
        if self.together is None:
            yield from (self(graph, probe) for graph in graphs)
        else:
            yield from self.together(graphs, self._needed(probe))

    def _needed(self, probe: Probe | None) -> Probe:
        if probe is None:
            raise InputError(f"score '{self.name}' reads {self.needs}: give it a dataset, or choose a structure score")
        return probe


Score = StructureScore | ProbeScore
