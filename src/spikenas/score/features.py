"""A network as a few numbers that a predictor can learn from: what its graph says about signals and gradients."""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from spikenas.graph import Add, Conv2d, Graph, Lif
from spikenas.score.entropy import entropy
from spikenas.score.structure import spiking_depth
from spikenas.score.trainable_depth import COARSE, gradient_flow

FEATURES = (
    *("coarse_depth", "trainable_depth", "log_paths", "spiking_depth", "entropy"),
    *("convolutions", "neurons", "joins", "most_readers"),
    *("mean_isometry", "least_isometry", "spread_isometry", "mean_threshold", "mean_variance", "largest_variance"),
)
"""The first two are what the predictor starts from."""


def features(graph: Graph) -> npt.NDArray[np.float64]:
    """One value per name in FEATURES, [F]; thresholds are relative to the current's standard deviation."""
    flows = gradient_flow(graph)
    last = flows[graph.output]
    neurons = {node.name: node.layer for node in graph.nodes if isinstance(node.layer, Lif)}
    variances = {name: flows[graph.sources[name][0].source].variance for name in neurons}
    feeding = [graph.sources[node.name][0].source for node in graph.nodes if isinstance(node.layer, Conv2d)]
    readers = [name for name in feeding if name in neurons]
    isometries = [flows[name].gain or 0.0 for name in readers] or [0.0]
    thresholds = [neurons[name].threshold / sqrt(variances[name]) for name in readers] or [0.0]
    values = (
        np.floor(last.total_depth / COARSE + 0.5) * COARSE,
        last.total_depth,
        last.total_log_paths,
        spiking_depth(graph),
        entropy(graph),
        len(readers),
        len(neurons),
        sum(len(graph.sources[node.name]) - 1 for node in graph.nodes if isinstance(node.layer, Add)),
        max((len(graph.consumers[name]) for name in neurons), default=0),
        np.mean(isometries),
        min(isometries),
        np.std(isometries),
        np.mean(thresholds),
        np.mean(list(variances.values())) if variances else 0.0,
        max(variances.values(), default=0.0),
    )
    return np.array(values, np.float64)
