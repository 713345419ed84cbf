"""A network of SNASNet's CIFAR-10 widths (256 and 512 channels, T = 5) trained on a GPU, and its test accuracy.

``python benchmarks/gpu_accuracy.py --data ../shared/data/cifar10 --epochs 60``. The epoch is chosen on a tenth of the
training images, and the test images are looked at once. ``--out curve.json`` keeps every epoch's figures.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch

from spikenas.data.datasets import load_dataset
from spikenas.run.artifacts import write_json
from spikenas.snn.evaluate import evaluate
from spikenas.snn.hardware import autocast
from spikenas.snn.network import from_model
from spikenas.snn.train import EpochStats, TrainConfig, train
from spikenas.space.snasnet import SnasnetSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10 in Hugging Face's parquet files")
    parser.add_argument("--genotype", default=SnasnetSpace(backward=False).example)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rate-coded", type=float, default=0.9)
    parser.add_argument("--augment", default="auto")
    parser.add_argument("--mixup", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    space, device = SnasnetSpace(backward=False), torch.device("cuda")
    dataset = load_dataset(options.data)
    graph = space.lower(space.parse(options.genotype), dataset.input_shape, dataset.classes)
    config = TrainConfig(
        epochs=options.epochs,
        rate_coded=options.rate_coded,
        augment=options.augment,
        mixup=options.mixup,
        device="cuda",
    )
    begun, curve = time.perf_counter(), []

    def told(stats: EpochStats) -> None:
        curve.append({**asdict(stats), "at_s": time.perf_counter() - begun})
        kind = "rates" if stats.on_rates else "spikes"
        accuracies = f"training {100 * stats.train_accuracy:.2f}%, validation {100 * stats.val_accuracy:.2f}%"
        print(
            f"epoch {stats.epoch} on {kind}: {accuracies}, {stats.samples_per_s:,.0f} images/s, "
            f"{stats.spike_rate:.3f} spikes, {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
        if options.out:
            write_json(options.out, curve)

    result = train(graph, dataset.train, dataset.val, config, on_epoch=told)
    network = from_model(result.model).to(device)
    with autocast(device, True):
        found = evaluate(network, dataset.test)
    print(f"`{options.genotype}`, {torch.cuda.get_device_name()}, seed {config.seed}, {options.epochs} epochs")
    print(f"test accuracy {100 * found.accuracy:.2f}%, {found.spike_rate:.3f} spikes a neuron and step, ", end="")
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
