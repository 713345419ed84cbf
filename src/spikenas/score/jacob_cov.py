"""Jacobian covariance: whether a network treats different images by different linear maps."""

from __future__ import annotations

import numpy as np

from spikenas.graph import Graph
from spikenas.score.gradients import input_gradients
from spikenas.score.score import Probe

SMALL = 1e-5


def jacob_cov(graph: Graph, probe: Probe) -> float:
    """``-sum(log(l_i + k) + 1 / (l_i + k))`` over the eigenvalues l_i of the correlations between the Jacobians of
    the images, k = 1e-5 (Mellor et al., arXiv 2006.04647v1, equation 4).

    The largest value is that of uncorrelated Jacobians, minus the number of images. NaN when an image's gradient
    vanishes.
    """
    jacobians = input_gradients(graph, probe).double().cpu().numpy()
    deviations = jacobians - jacobians.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(deviations, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        return float("nan")
    unit = deviations / norms
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T).clip(min=0.0) + SMALL
    return float(-(np.log(eigenvalues) + 1.0 / eigenvalues).sum())
