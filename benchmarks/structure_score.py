"""How well scores of structure rank networks of space `embedded` that were trained on CIFAR-10, briefly.

    python benchmarks/structure_score.py --data ../shared/data/cifar10 --table docs/embedded-cifar10.csv

Every network in the table that has no accuracy yet is trained on three epochs of 12,000 images and judged on 3,000
validation images; then the scores are ranked. A row that was trained is not trained again: delete its figures for that.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from spikenas.data.datasets import Dataset, load_dataset
from spikenas.data.split import thin
from spikenas.graph import Graph
from spikenas.score.ranking import kendall
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.snn.train import TrainConfig, train
from spikenas.space.space import load_space

IMAGES, JUDGED, EPOCHS = 12_000, 3_000, 3
CONFIG = TrainConfig(epochs=EPOCHS, batch_size=128, optimizer="adamw", learning_rate=0.01, threads=1)


def accuracy(graph: Graph, dataset: Dataset) -> float:
    """Validation accuracy after the short training."""
    seen = thin(dataset.train, IMAGES, np.random.default_rng(0))
    judged = thin(dataset.val, JUDGED, np.random.default_rng(0))
    return train(graph, seen, judged, CONFIG).curve[-1].val_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10 in Hugging Face's parquet files")
    parser.add_argument("--table", type=Path, default=Path("docs/embedded-cifar10.csv"))
    options = parser.parse_args()
    with options.table.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    space, dataset = load_space("embedded"), None
    graphs = [space.lower(space.parse(row["genotype"]), (3, 32, 32), 10) for row in rows]
    for number, row in enumerate(rows):
        if not row["accuracy"]:
            dataset = dataset or load_dataset(options.data)
            row["accuracy"] = f"{accuracy(graphs[number], dataset):.4f}"
            print(row["genotype"], row["accuracy"], flush=True)
            with options.table.open("w", encoding="utf-8", newline="") as lines:
                writer = csv.DictWriter(lines, ["genotype", "accuracy"], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    truth = np.array([float(row["accuracy"]) for row in rows])
    print(f"{len(rows)} networks, validation accuracy {truth.min():.3f} to {truth.max():.3f}\n")
    print("| score | tau-b | accuracy of its best eight |\n|---|---|---|")
    for name, score in STRUCTURE_SCORES.items():
        values = np.array([score(graph) for graph in graphs])
        best = truth[np.argsort(-values)[:8]].mean()
        print(f"| {name} | {kendall(values, truth):.2f} | {100 * best:.1f} |")


if __name__ == "__main__":
    main()
