"""The closed vocabulary of layers, and the graph everything else reads.

A graph describes one spiking network for one sample: which layers there are, what flows between them at
each of ``timesteps`` steps, and nothing about weights. Every layer is a frozen value defined by its equation.

The neuron (:class:`Lif`) is the one stateful layer. With input current ``x``, membrane ``v`` (0 at the start of
every sample) it computes, at each step::

    u = decay * v + gain * x
    s = u >= threshold
    v = u * (1 - s)             reset "zero"
    v = u - s * threshold       reset "subtract"

spikingjelly's ``LIFNode(tau, decay_input=True)``, which SNASNet uses, is ``decay = 1 - 1/tau``, ``gain = 1/tau``.

>>> graph = Graph(4, (Node("image", Input((1, 8, 8))), Node("conv", Conv2d(2)), Node("lif", Lif()),
...                   Node("flat", Flatten()), Node("fc", Linear(10)), Node("mean", Mean()), Node("out", Output())),
...               (Edge("image", "conv"), Edge("conv", "lif"), Edge("lif", "flat"), Edge("flat", "fc"),
...                Edge("fc", "mean"), Edge("mean", "out")))
>>> graph.shapes["conv"], graph.shapes["out"], graph.parameter_count
((2, 8, 8), (10,), 1308)
>>> from_json(to_json(graph)) == graph
True
"""

from __future__ import annotations

from spikenas.graph.graph import Edge, Graph, GraphBuilder, Node
from spikenas.graph.layers import (
    LAYERS,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Input,
    Kind,
    Layer,
    Lif,
    Linear,
    Mean,
    Output,
    Pair,
    Reset,
    Shape,
    Vote,
)
from spikenas.graph.text import from_json, to_json

__all__ = [
    "LAYERS",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Edge",
    "Flatten",
    "Graph",
    "GraphBuilder",
    "Input",
    "Kind",
    "Layer",
    "Lif",
    "Linear",
    "Mean",
    "Node",
    "Output",
    "Pair",
    "Reset",
    "Shape",
    "Vote",
    "from_json",
    "to_json",
]
