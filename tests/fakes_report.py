"""A finished run made by hand, for tests of its report."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.graph import Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output
from spikenas.run.report_data import ReportData
from spikenas.space.space import load_space

GENOTYPE = "t3-b8-k3s1-8:333.33.3-pool"
BUDGET = Budget(32 * 1024, 16 * 1024)


def small_graph() -> Graph:
    """A convolution and two layers of neurons on 8x8 images, 10 classes, 3 timesteps."""
    g = GraphBuilder()
    image = g.add(Input((1, 8, 8)), name="image")
    first = g.add(Lif(), g.add(Conv2d(8), image, name="conv1"), name="lif1")
    second = g.add(Lif(), g.add(Conv2d(8, stride=(2, 2)), first, name="conv2"), name="lif2")
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), second), name="readout")), name="out")
    return g.build(3)


def report_data(graph: Graph | None = None, budget: Budget = BUDGET, **changes: Any) -> ReportData:
    """A run on ``graph`` with 12 epochs and 40 trials."""
    graph = graph or small_graph()
    values: dict[str, Any] = {
        "title": "digits on cortex-m4",
        "genotype": GENOTYPE,
        "space": "embedded",
        "data": "digits",
        "target": "cortex-m4",
        "budget": budget,
        "cost": estimate(graph, load_target("cortex-m4"), {}),
        "graph": graph,
        "float_accuracy": 0.9778,
        "integer_accuracy": 0.9722,
        "spike_rate": 0.124,
        "seconds": {"search": 68.2, "train": 41.3, "quantize": 0.8, "evaluate": 1.9},
        "seed": 0,
        "command": "spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo",
        "curve": curve_rows(12),
        "trials": trial_rows(40),
        "train_command": "spikenas train GENOTYPE --data digits --flash 32768 --ram 16384 --out OUT",
    }
    return ReportData(**{**values, **changes})


def curve_rows(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 0.8 / epoch,
            "val_loss": 2.2 / epoch,
            "val_accuracy": 0.98 - 0.8 / epoch,
            "spike_rate": 0.1 + 0.05 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def trial_rows(count: int) -> list[dict[str, Any]]:
    """Half of them scored, a quarter refused, a quarter trained; the last trained one is the chosen network."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        flash, ram = int(rng.integers(4_000, 32_000)), int(rng.integers(2_000, 16_000))
        row: dict[str, Any] = {
            "number": number,
            "genotype": f"t3-b8-k3s1-8:333.33.3-12:333.33.3-{number:05d}-pool",
            "measure": "structure",
            "state": "done",
            "epochs": 0,
            "score": float(rng.normal(10, 3)),
            "accuracy": None,
            "flash_bytes": flash,
            "ram_bytes": ram,
            "energy_nj": flash / 50,
            "latency_ms": ram / 900,
            "reason": "",
        }
        if number % 4 == 1:
            reason = f"flash {(flash + 32_000) / 1024:.1f} KB is over 32.0 KB; ram {ram / 1024:.1f} KB is over 2.0 KB"
            row |= {"state": "rejected", "score": None, "flash_bytes": flash + 32_000, "reason": reason}
        elif number % 4 == 3:
            row |= {"measure": "train", "epochs": 4, "score": None, "accuracy": float(rng.uniform(0.8, 0.98))}
        rows.append(row)
    rows[-1]["genotype"] = GENOTYPE
    return rows


def searched_rows(count: int) -> list[dict[str, Any]]:
    """:func:`trial_rows` of genotypes that exist, almost all of them different."""
    space, rng = load_space("embedded"), np.random.default_rng(0)
    rows = trial_rows(count)
    for row in rows[:-1]:
        row["genotype"] = str(space.sample(rng))
    return rows
