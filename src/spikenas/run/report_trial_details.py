"""What a report tells of a trial that is clicked: the cells of its network, and its cost by layer.

Ten thousand trials' cells are packed: gzip in base64, which the page's script unpacks at the first click. A cost takes
milliseconds to estimate, so only the LAYERED most interesting networks have it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import Any

from spikenas.cost.cost import estimate
from spikenas.cost.neuromorphic import for_target
from spikenas.cost.target import load_target
from spikenas.errors import SpikenasError
from spikenas.graph import Graph, Input, Shape
from spikenas.run.report_cells import cell_block
from spikenas.run.report_data import ReportData, Row
from spikenas.run.report_drawing import draw
from spikenas.space.genotype import Cell, Genotype
from spikenas.space.space import SPACES, load_space

LAYERED = 500


def trial_details(data: ReportData, best: Iterable[int]) -> str:
    """The details of ``data.trials``, packed; ``best`` are the positions of those on a Pareto front.

    Unpacked, ``pictures`` are drawings, ``cells`` says by genotype which of them are its cells, and ``layers`` has by
    genotype rows of name, kind, flash and buffer in bytes, MACs, synops and energy in nJ, at the usual spike rate.
    """
    genotypes = _parsed(data)
    pictures: dict[Cell, int] = {}
    cells = {
        text: [pictures.setdefault(cell.canonical, len(pictures)) for cell in genotype.cells]
        for text, genotype in genotypes.items()
    }
    order = dict.fromkeys(text for text in _by_interest(data, set(best)) if text in genotypes)
    details = {
        "pictures": [draw(cell_block(cell)).item() for cell in pictures],
        "cells": cells,
        "layers": {text: _layers(data, genotypes[text]) for text in list(order)[:LAYERED]},
    }
    text = json.dumps(details, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def sample_shape(graph: Graph) -> Shape:
    """Of what the network takes: (C, H, W), or (T, C, H, W) where its steps see different images."""
    layer = graph[graph.input]
    assert isinstance(layer, Input)
    return layer.shape if layer.static else (graph.timesteps, *layer.shape)


def _parsed(data: ReportData) -> dict[str, Genotype]:
    """Genotypes by their text, but those that no space here knows."""
    found: dict[str, Genotype] = {}
    if data.space not in SPACES:
        return found
    space = load_space(data.space)
    for text in dict.fromkeys(str(row["genotype"]) for row in data.trials):
        with suppress(SpikenasError):
            found[text] = space.parse(text)
    return found


def _by_interest(data: ReportData, best: set[int]) -> list[str]:
    """The trials' genotypes: the chosen one, trained ones, those on a front, and then by score."""

    def interest(position: int) -> tuple[bool, bool, bool, bool, float]:
        row: Row = data.trials[position]
        done = row.get("state", "done") == "done"
        trained = row.get("accuracy") is not None
        score = row.get("score")
        return row["genotype"] == data.genotype, done, trained, position in best, -inf if score is None else score

    order = sorted(range(len(data.trials)), key=interest, reverse=True)
    return [str(data.trials[position]["genotype"]) for position in order]


def _layers(data: ReportData, genotype: Genotype) -> list[list[Any]]:
    space, target = load_space(data.space), load_target(data.target)
    classes = data.graph.shapes[data.graph.output][0]
    try:
        graph = for_target(space.lower(genotype, sample_shape(data.graph), classes), target)
        limits = data.budget
        cost = estimate(graph, target, flash_bytes=limits.flash_bytes, ram_bytes=limits.ram_bytes)
    except SpikenasError:
        return []
    return [
        [
            layer.name,
            layer.kind,
            layer.flash_bytes,
            layer.ram_bytes,
            round(layer.macs),
            round(layer.synops),
            round(layer.energy_nj, 1),
        ]
        for layer in cost.layers
        if layer.flash_bytes or layer.ram_bytes or layer.energy_nj
    ]
