"""The scores that read the graph alone, by name; importing them does not load torch."""

from __future__ import annotations

from spikenas.score.entropy import entropy
from spikenas.score.score import StructureScore
from spikenas.score.size import flops, parameters, synops
from spikenas.score.structure import spiking_depth
from spikenas.score.trainable_depth import coarse_depth, trainable_depth

STRUCTURE_SCORES: dict[str, StructureScore] = {
    "parameters": StructureScore("parameters", parameters),
    "flops": StructureScore("flops", flops),
    "synops": StructureScore("synops", synops),
    "spiking_depth": StructureScore("spiking_depth", spiking_depth),
    "entropy": StructureScore("entropy", entropy),
    "coarse_depth": StructureScore("coarse_depth", coarse_depth),
    "trainable_depth": StructureScore("trainable_depth", trainable_depth),
}
