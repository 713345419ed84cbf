"""What bits cost: the tables of docs/benchmarks.md for one finished run.

    python benchmarks/quantization.py --run runs/demo [--qat 5] [--flips 500] [--seed 0]

Every accuracy is the integer network's over the whole test set. Calibration sees training images only, the choice of
mixed bits validation images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikenas.cost.target import load_target
from spikenas.data.datasets import Dataset, load_dataset
from spikenas.data.split import thin
from spikenas.model import Model
from spikenas.run.artifacts import load_model
from spikenas.run.folder import read_run
from spikenas.run.quantization import Quantized, QuantizeSettings, quantize_model
from spikenas.snn.evaluate import evaluate
from spikenas.snn.flips import flipped_spikes
from spikenas.snn.learning_curve import BatchStats, EpochStats
from spikenas.snn.network import from_model
from spikenas.snn.precision import bits_of_list, model_with_bits
from spikenas.snn.quantize import quantize


class Quiet:
    """An observer that prints stages only."""

    def stage(self, name: str, detail: str) -> None: ...
    def message(self, text: str) -> None: ...
    def batch(self, stats: BatchStats) -> None: ...
    def step(self, done: int, total: int, what: str) -> None: ...

    def epoch(self, stats: EpochStats) -> None:
        self.curve.append(stats.val_accuracy)

    def __init__(self) -> None:
        self.curve: list[float] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--qat", type=int, default=5, help="epochs of fine-tuning; 0: without")
    parser.add_argument("--flips", type=int, default=500, help="test images on which changed spikes are counted")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = read_run(arguments.run)
    told = folder.settings
    dataset = load_dataset(told["data"], seed=told["seed"], limit=told["limit"])
    model = load_model(folder.trained)
    print(f"{told['data']}, {len(dataset.test):,} test images, {model.graph.parameter_count:,} parameters\n")
    flip_table(model, dataset, told["target"], arguments.flips)
    accuracy_table(model, dataset, told["target"], arguments.qat, arguments.seed)


def flip_table(model: Model, dataset: Dataset, target: str, count: int) -> None:
    """Share of changed spikes by layer."""
    images = thin(dataset.test, count, np.random.default_rng(0)).images
    calibration = thin(dataset.train, 1000, np.random.default_rng(0)).images
    columns: dict[int, dict[str, float]] = {}
    for bits in (8, 4, 2):
        wanted = model_with_bits(model, bits_of_list(model.graph, (bits,), load_target(target)))
        columns[bits] = flipped_spikes(wanted, quantize(wanted, calibration), images)
    print("| neurons | 8 bits | 4 bits | 2 bits |\n| --- | --- | --- | --- |")
    for name in columns[8]:
        print(f"| {name} | " + " | ".join(f"{100 * column[name]:.2f}%" for column in columns.values()) + " |")
    print("| mean | " + " | ".join(f"{100 * np.mean(list(c.values())):.2f}%" for c in columns.values()) + " |\n")


def accuracy_table(model: Model, dataset: Dataset, target: str, epochs: int, seed: int) -> None:
    """Accuracy against bytes for each setting."""
    base = QuantizeSettings(seed=seed, target=target)
    rows: list[tuple[str, QuantizeSettings]] = [
        ("8 bits", replace(base, bits=(8,))),
        ("8 bits, 8-bit membranes", replace(base, bits=(8,), membrane_bits=8)),
        ("8 bits, 8-bit membranes, QAT", replace(base, bits=(8,), membrane_bits=8, qat_epochs=epochs)),
        ("4 bits", replace(base, bits=(4,))),
        ("4 bits, QAT", replace(base, bits=(4,), qat_epochs=epochs)),
        ("2 bits", replace(base, bits=(2,))),
        ("2 bits, QAT", replace(base, bits=(2,), qat_epochs=epochs)),
    ]
    print("| setting | test accuracy | points lost | flash B | of 8 bits | RAM B | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    found: dict[str, Quantized] = {}
    curves: dict[str, list[float]] = {}
    plain = evaluate(from_model(model), dataset.test).accuracy
    for name, settings in rows:
        if name.endswith("QAT") and not epochs:
            continue
        found[name] = _row(name, model, dataset, settings, plain, found, curves)
    mixed = replace(base, flash_bytes=found["4 bits"].flash_bytes)
    for name, settings in (("mixed", mixed), ("mixed, QAT", replace(mixed, qat_epochs=epochs))):
        if name.endswith("QAT") and not epochs:
            continue
        name = f"{name}, at the bytes of 4 bits"
        found[name] = _row(name, model, dataset, settings, plain, found, curves)
        print(f"\n{name}: " + ", ".join(f"{layer} {bits}" for layer, bits in found[name].bits.items()) + "\n")
    for name, curve in curves.items():
        if curve:
            print(f"validation accuracy by epoch, {name}: " + ", ".join(f"{100 * value:.1f}" for value in curve))


def _row(
    name: str,
    model: Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    plain: float,
    found: dict[str, Quantized],
    curves: dict[str, list[float]],
) -> Quantized:
    begun, quiet = time.perf_counter(), Quiet()
    target = load_target(settings.target or "")
    result, _ = quantize_model(model, dataset, settings, target, quiet, float_accuracy=plain)
    whole = found.get("8 bits", result).flash_bytes
    print(
        f"| {name} | {100 * result.integer_accuracy:.2f}% (float {100 * result.float_accuracy:.2f}%) "
        f"| {result.points_lost:.2f} | {result.flash_bytes:,} | {100 * result.flash_bytes / whole:.0f}% "
        f"| {result.ram_bytes:,} | {time.perf_counter() - begun:.0f} |",
        flush=True,
    )
    curves[name] = quiet.curve
    return result


if __name__ == "__main__":
    main()
