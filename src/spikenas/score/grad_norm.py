"""Gradient norm: how strongly the loss pulls at the weights before training."""

from __future__ import annotations

from spikenas.graph import Graph
from spikenas.score.gradients import loss_gradients
from spikenas.score.score import Probe


def grad_norm(graph: Graph, probe: Probe) -> float:
    """The sum over layers of ``||dL/dW||_2`` (Abdelfattah et al., ICLR 2021, arXiv 2101.08134, section 3.1)."""
    return float(sum(gradient.norm().item() for _, gradient in loss_gradients(graph, probe)))
