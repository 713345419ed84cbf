"""Training: schedule and augmentation by hand, determinism, resuming bit for bit, and real digits learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from spikenas.data.datasets import load_dataset
from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import AvgPool2d, BatchNorm2d, Conv2d, Edge, Flatten, Graph, Input, Lif, Linear, Mean, Node, Output
from spikenas.snn.augment import Augment, augmented, parse_augment
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import from_model
from spikenas.snn.train import (
    BatchStats,
    EpochStats,
    TrainConfig,
    TrainResult,
    TrainState,
    best_epoch,
    train,
)
from spikenas.snn.train_config import learning_rate_at


def graph(width: int = 8, classes: int = 10, timesteps: int = 4) -> Graph:
    layers = (
        *(Input((1, 8, 8)), Conv2d(width), BatchNorm2d(), Lif()),
        *(Conv2d(2 * width, stride=(2, 2)), BatchNorm2d(), Lif()),
        *(AvgPool2d((4, 4), (4, 4)), Flatten(), Linear(classes), Mean(), Output()),
    )
    names = [f"{type(layer).__name__.lower()}_{i}" for i, layer in enumerate(layers)]
    edges = tuple(Edge(source, target) for source, target in pairwise(names))
    return Graph(timesteps, tuple(map(Node, names, layers)), edges)


def noise(count: int, seed: int = 0, classes: int = 10) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8), np.arange(count) % classes)


QUICK = TrainConfig(epochs=3, batch_size=16, threads=1, dropout=0.2, augment="shift1+flip")


def run(config: TrainConfig = QUICK, **kwargs: object) -> TrainResult:
    return train(graph(), noise(50), noise(20, seed=1), config, **kwargs)  # type: ignore[arg-type]


def same(one: TrainState, other: TrainState) -> bool:
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items()
    )


def test_digits_are_learned() -> None:
    digits = load_dataset("digits")
    result = train(
        graph(12, timesteps=2),
        digits.train,
        digits.val,
        TrainConfig(epochs=8, batch_size=32, augment="none", threads=1),
    )
    evaluation = evaluate(from_model(result.model), digits.test)
    assert evaluation.accuracy > 0.9
    assert result.curve[-1].train_loss < 0.75 * result.curve[0].train_loss
    assert result.best in result.curve
    again = evaluate(from_model(result.model), digits.val)
    assert again.accuracy == result.best.val_accuracy
    assert (evaluation.predictions == digits.test.labels).mean() == pytest.approx(evaluation.accuracy)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_same_seed_same_weights(optimizer: str) -> None:
    config = replace(QUICK, optimizer=optimizer, rate_penalty=0.1, label_smoothing=0.1)
    assert same(run(config).state, run(config).state)
    assert not same(run(config).state, run(replace(config, seed=1)).state)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_ends_with_the_same_bits(optimizer: str) -> None:
    config = replace(QUICK, optimizer=optimizer)
    straight = run(config)
    paused = run(config, stop_after=1)
    assert paused.state.epoch == 1
    resumed = run(config, resume=paused.state)
    assert same(straight.state, resumed.state)
    assert [stats.val_accuracy for stats in resumed.curve] == [stats.val_accuracy for stats in straight.curve]
    assert all(np.array_equal(resumed.model.weights[n], array) for n, array in straight.model.weights.items())


def test_an_interrupted_training_leaves_a_state_to_resume_from() -> None:
    kept: list[TrainState] = []
    threads = torch.get_num_threads()

    def interrupt(stats: BatchStats) -> None:
        if (stats.epoch, stats.batch) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_state=kept.append, on_batch=interrupt)
    assert torch.get_num_threads() == threads
    assert same(run(resume=kept[-1]).state, run().state)


def test_callbacks_see_every_batch_and_epoch() -> None:
    epochs: list[EpochStats] = []
    batches: list[BatchStats] = []
    result = run(on_epoch=epochs.append, on_batch=batches.append)
    assert tuple(epochs) == result.curve
    assert [(stats.epoch, stats.batch) for stats in batches] == [(e, b) for e in (1, 2, 3) for b in (1, 2, 3, 4)]
    assert all(stats.samples_per_s > 0 and 0 <= stats.accuracy <= 1 and stats.eta_s >= 0 for stats in batches)
    assert batches[3].loss == pytest.approx(epochs[0].train_loss)
    assert 0 < epochs[-1].spike_rate < 1


def test_a_training_can_start_from_weights() -> None:
    first = run()
    second = run(replace(QUICK, learning_rate=1e-9, warmup=0.0), start=first.model)
    weights = second.state.arrays
    assert all(
        np.allclose(weights[f"weights.{n}"], a, atol=1e-6) for n, a in first.model.weights.items() if "conv" in n
    )


def test_a_rate_penalty_quiets_the_network() -> None:
    free, penalized = (run(replace(QUICK, epochs=6, rate_penalty=penalty)).curve[-1] for penalty in (0.0, 20.0))
    assert penalized.spike_rate < 0.8 * free.spike_rate


def test_the_best_epoch_is_the_last_within_one_standard_error() -> None:
    def stats(epoch: int, accuracy: float) -> EpochStats:
        return EpochStats(epoch, 0.0, 0.0, 0.0, accuracy, 0.0, 1.0, 1.0)

    curve = tuple(stats(i, accuracy) for i, accuracy in enumerate((0.5, 0.92, 0.89, 0.85), start=1))
    # 100 images: (94 / 104 * 10 / 104 / 104) ** 0.5 = 0.0289, 0.92 - 0.0289 = 0.8911; 80 images: 0.0329
    assert best_epoch(curve, 100).epoch == 2
    assert best_epoch(curve, 80).epoch == 3
    assert best_epoch(curve, 10_000).epoch == 2
    assert best_epoch((stats(1, 1.0), stats(2, 139 / 140)), 140).epoch == 2


def test_learning_rate_rises_then_follows_a_cosine() -> None:
    config = TrainConfig(learning_rate=0.4, warmup=0.2)
    rates = [learning_rate_at(step, 10, config) for step in range(10)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[6] == pytest.approx(0.2)  # half of the remaining 8 steps
    assert all(later < earlier for earlier, later in pairwise(rates[2:]))
    assert 0 < rates[9] < 0.02


def test_evaluation_counts_by_hand() -> None:
    network = from_model(run().model)
    network.train()
    split = noise(33, seed=5)
    one, other = evaluate(network, split, batch_size=7), evaluate(network, split, batch_size=33)
    assert network.training
    assert one.spike_counts == other.spike_counts
    assert np.array_equal(one.predictions, other.predictions)
    sites = {"lif_3": 4 * 8 * 8 * 8, "lif_6": 4 * 16 * 4 * 4}
    assert {n: one.spike_counts[n] / (33 * s) for n, s in sites.items()} == pytest.approx(dict(one.spike_rates))
    assert one.spike_rate == pytest.approx(sum(one.spike_counts.values()) / (33 * sum(sites.values())))


# --- augmentation -----------------------------------------------------------------------------------------


def test_augmented_images_are_shifts_and_mirrors_of_the_originals() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 3, 5, 6), dtype=np.uint8)
    got = augmented(torch.from_numpy(pixels), Augment(2, flip=True), torch.Generator().manual_seed(0)).numpy()
    assert got.shape == pixels.shape
    found = set()
    for image, changed in zip(pixels, got, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
        windows = {(dy, dx): padded[:, dy : dy + 5, dx : dx + 6] for dy in range(5) for dx in range(5)}
        matches = [(*at, False) for at, window in windows.items() if np.array_equal(changed, window)]
        matches += [(*at, True) for at, window in windows.items() if np.array_equal(changed, window[:, :, ::-1])]
        assert matches
        found |= set(matches)
    assert {flip for *_, flip in found} == {False, True}
    assert {dy for dy, *_ in found} == {dx for _, dx, _ in found} == {0, 1, 2, 3, 4}
    unchanged = augmented(torch.from_numpy(pixels), Augment(), torch.Generator())
    assert np.array_equal(unchanged.numpy(), pixels)


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("shift1+cutout3", (1, 8, 8), Augment(1, cutout=3)),
        ("cutout4+flip", (3, 8, 8), Augment(0, True, 4)),
        ("auto", (1, 8, 8), Augment(1)),
        ("auto", (1, 28, 28), Augment(2)),
        ("auto", (3, 32, 32), Augment(4, True)),
        ("auto", (3, 64, 64), Augment(4, True)),
        ("auto", (1, 4, 4), Augment()),
        ("none", (3, 32, 32), Augment()),
        ("flip", (1, 8, 8), Augment(0, True)),
        ("shift3", (1, 8, 8), Augment(3)),
        ("shift3+flip", (1, 8, 8), Augment(3, True)),
    ],
)
def test_augment_is_read(text: str, shape: tuple[int, int, int], expected: Augment) -> None:
    assert parse_augment(text, shape) == expected


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": 0}, r"epochs 0: it must lie in 1\.\."),
        ({"batch_size": 1}, "batch_size 1"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"optimizer": "adam"}, "'adam' is unknown: choose adamw or sgd"),
        ({"schedule": "step"}, "'step' is unknown: choose cosine or one-cycle"),
        ({"precision": "float16"}, "'float16' is unknown: choose auto or float32 or bfloat16"),
        ({"average": 1.0}, "average 1.0"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(TrainError, match=words):
        TrainConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "shift", "shift-1", "mixup", "flip+flip", "flip+", "cutout"])
def test_unknown_augments_are_refused(text: str) -> None:
    with pytest.raises(TrainError, match="is unknown: use auto, none, or such as"):
        parse_augment(text, (1, 8, 8))


def test_splits_that_do_not_fit_are_refused() -> None:
    good = noise(20)
    with pytest.raises(TrainError, match="images are 1x8x6, the network takes 1x8x8"):
        train(graph(), Split(good.images[..., :6], good.labels), good, QUICK)
    with pytest.raises(TrainError, match=r"label 9 is outside the network's 4 classes 0\.\.3"):
        train(graph(classes=4), good, good, QUICK)
    with pytest.raises(TrainError, match="1 training image"):
        train(graph(), good.take(np.arange(1)), good, QUICK)


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    model = run(replace(QUICK, epochs=1)).model
    model = replace(model, weights={**model.weights, "linear_9.weight": np.full((10, 16), 3e38, np.float32)})
    told: list[str] = []
    with pytest.raises(TrainError, match=r"node 'linear_9' is no number at timestep 0; .* learning rate below 0\.0025"):
        run(start=model, on_fallback=told.append)
    words = "the loss is nan in epoch 1, batch 1: node 'linear_9' is no number at timestep 0; going on from epoch 0 at"
    assert told == [f"{words} {scale} of the learning rate" for scale in (0.5, 0.25, 0.125)]
