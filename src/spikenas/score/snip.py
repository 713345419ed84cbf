"""SNIP: how much the loss would change if single weights were removed."""

from __future__ import annotations

from spikenas.graph import Graph
from spikenas.score.gradients import loss_gradients
from spikenas.score.score import Probe


def snip(graph: Graph, probe: Probe) -> float:
    """``sum |w dL/dw|`` (Lee et al., ICLR 2019, arXiv 1810.02340, equation 4; as a score for networks:
    Abdelfattah et al., ICLR 2021, arXiv 2101.08134, section 3.2)."""
    return float(sum((weight * gradient).abs().sum().item() for weight, gradient in loss_gradients(graph, probe)))
