"""The scores that read the graph alone, and every score by its name; importing them does not load torch."""

from __future__ import annotations

from spikenas.errors import InputError
from spikenas.score.entropy import entropy
from spikenas.score.score import Score, StructureScore
from spikenas.score.size import flops, parameters, synops
from spikenas.score.structure import spiking_depth, structure_score
from spikenas.score.trainable_depth import coarse_depth, trainable_depth

STRUCTURE_SCORES: dict[str, StructureScore] = {
    "parameters": StructureScore("parameters", parameters),
    "flops": StructureScore("flops", flops),
    "synops": StructureScore("synops", synops),
    "spiking_depth": StructureScore("spiking_depth", spiking_depth),
    "entropy": StructureScore("entropy", entropy),
    "structure": StructureScore("structure", structure_score),
    "coarse_depth": StructureScore("coarse_depth", coarse_depth),
    "trainable_depth": StructureScore("trainable_depth", trainable_depth),
}
VARIED_SPACES = ("embedded",)
"""Spaces that vary widths, timesteps and bits, which depth alone cannot tell apart."""


def find_score(name: str) -> Score:
    """The score called ``name``; torch is not loaded for one of structure. Raises InputError."""
    if name in STRUCTURE_SCORES:
        return STRUCTURE_SCORES[name]
    from spikenas.score.scores import PROBE_SCORES

    if name not in PROBE_SCORES:
        raise InputError(f"unknown measure {name!r}: choose from {', '.join((*STRUCTURE_SCORES, *PROBE_SCORES))}")
    return PROBE_SCORES[name]


def default_measure(space: str) -> str:
    """The score that ranks the networks of a space best, as far as is known.

    Where only cells vary it is trainable depth: tau-b .64 on SpikeNAS-Bench, to .45 of ``structure``, which knows what
    widths, timesteps and bits are worth (docs/benchmarks.md).

    >>> default_measure("embedded"), default_measure("spikenas-bench")
    ('structure', 'trainable_depth')
    """
    return "structure" if space in VARIED_SPACES else "trainable_depth"
