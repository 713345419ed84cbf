"""Training: schedule and augmentation by hand, determinism, resuming bit for bit, and real digits learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from spikenas import reference
from spikenas.data.datasets import load_dataset
from spikenas.data.split import Split
from spikenas.errors import TrainError
from spikenas.graph import AvgPool2d, BatchNorm2d, Conv2d, Edge, Flatten, Graph, Input, Lif, Linear, Mean, Node, Output
from spikenas.snn.augment import Augment, augmented, parse_augment
from spikenas.snn.evaluate import evaluate
from spikenas.snn.muon import Muon, orthogonal
from spikenas.snn.network import Network, from_model, normalize, to_model
from spikenas.snn.objective import Targets, loss, mixed
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
from spikenas.snn.training_run import TrainingRun


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


def test_running_statistics_of_few_batches_have_no_trace_of_where_they_began() -> None:
    images = noise(12)
    config = TrainConfig(epochs=2, batch_size=12, learning_rate=1e-9, augment="none", threads=1, precision="float32")
    model = train(graph(), images, images, config).model
    kernel = torch.from_numpy(model.weights["conv2d_1.weight"])
    currents = torch.nn.functional.conv2d(normalize(torch.from_numpy(images.images)), kernel, padding=1)
    variance, mean = torch.var_mean(currents, dim=(0, 2, 3))
    np.testing.assert_allclose(model.weights["batchnorm2d_2.running_var"], variance, rtol=1e-4)
    np.testing.assert_allclose(model.weights["batchnorm2d_2.running_mean"], mean, rtol=1e-3, atol=1e-5)


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


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_same_seed_same_weights(optimizer: str) -> None:
    config = replace(QUICK, optimizer=optimizer, rate_penalty=0.1, label_smoothing=0.1)
    assert same(run(config).state, run(config).state)
    assert not same(run(config).state, run(replace(config, seed=1)).state)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_a_resumed_training_ends_with_the_same_bits(optimizer: str) -> None:
    config = replace(QUICK, optimizer=optimizer)
    straight = run(config)
    paused = run(config, stop_after=1)
    assert paused.state.epoch == 1
    resumed = run(config, resume=paused.state)
    assert same(straight.state, resumed.state)
    assert [stats.val_accuracy for stats in resumed.curve] == [stats.val_accuracy for stats in straight.curve]
    assert all(np.array_equal(resumed.model.weights[n], array) for n, array in straight.model.weights.items())


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_muon_moves_matrices_as_torch_does_and_vectors_as_adamw_does(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    begun, vector = torch.randn(shape, generator=generator), torch.randn(7, generator=generator)
    ours = [torch.nn.Parameter(begun.reshape(shape[0], -1, 2, 1).clone()), torch.nn.Parameter(vector.clone())]
    theirs = [torch.nn.Parameter(begun.clone()), torch.nn.Parameter(vector.clone())]
    mine = Muon(ours, lr=0.02, weight_decay=0.1)
    # torch's steps have a root mean square of .2 at rate 1, ours of .5
    matrix = torch.optim.Muon(theirs[:1], lr=0.05, weight_decay=0.04, adjust_lr_fn="match_rms_adamw")
    rest = torch.optim.AdamW(theirs[1:], lr=0.02, weight_decay=0.1)
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            other.grad = torch.randn(other.shape, generator=generator)
            one.grad = other.grad.reshape(one.shape).clone()
        for optimizer in (mine, matrix, rest):
            optimizer.step()
    moved, expected = ours[0].detach().flatten(1) - begun, theirs[0].detach() - begun
    assert (moved - expected).norm() < 0.02 * expected.norm()  # torch's iterations are in bfloat16
    assert torch.equal(ours[1], theirs[1])


def test_steps_of_muon_are_nearly_orthogonal() -> None:
    matrix = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    diagonal = left.T @ orthogonal(matrix) @ right.T
    assert ((diagonal.diag() > 0.65) & (diagonal.diag() < 1.25)).all()
    assert (diagonal - diagonal.diag().diag()).abs().max() < 1e-4


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
    on_rates = replace(stats(1, 0.99), on_rates=True)
    assert best_epoch((on_rates, stats(2, 0.7), stats(3, 0.6)), 100).epoch == 2
    assert best_epoch((on_rates,), 100) is on_rates


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
        ({"optimizer": "adam"}, "'adam' is unknown: choose muon or adamw or sgd"),
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


# --- objective and options ----------------------------------------------------------------------------------


def test_temporal_loss_by_hand() -> None:
    outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])  # two steps, one image, two classes; label 0
    config = TrainConfig(label_smoothing=0.0, temporal_loss=1.0)
    right, wrong = np.log1p(np.exp(-2.0)), np.log1p(np.exp(2.0))
    expected = 0.95 * (right + wrong) / 2 + 0.05 * 1.0  # every output is 1 away from the threshold
    assert float(loss(outputs, Targets(torch.tensor([0])), config)) == pytest.approx(expected)
    mean = float(loss(outputs, Targets(torch.tensor([0])), replace(config, temporal_loss=0.0)))
    assert mean == pytest.approx(np.log(2))
    half = float(loss(outputs, Targets(torch.tensor([0])), replace(config, temporal_loss=0.5)))
    assert half == pytest.approx((expected + np.log(2)) / 2)


def test_mixup_blends_images_and_their_losses() -> None:
    config = TrainConfig(mixup=0.4, seed=3, label_smoothing=0.0)
    images, labels = torch.eye(4)[:, None, None, :], torch.arange(4)
    blended, targets = mixed(images, labels, config, step=7)
    assert targets.partners is not None
    share = targets.share
    assert torch.allclose(blended, share * images + (1 - share) * images[targets.partners])
    outputs = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    entropy = torch.nn.functional.cross_entropy
    expected = share * entropy(outputs[0], labels) + (1 - share) * entropy(outputs[0], labels[targets.partners])
    assert torch.allclose(loss(outputs, targets, config), expected)
    again = mixed(images, labels, config, step=7)[1]
    assert again.share == share != mixed(images, labels, config, step=8)[1].share
    assert mixed(images, labels, replace(config, mixup=0.0), step=7)[0] is images


def test_one_cycle_is_torchs() -> None:
    config = TrainConfig(learning_rate=0.4, warmup=0.3, schedule="one-cycle")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    # torch's last step has the lowest rate, ours would come after it
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=101, pct_start=31 / 101, final_div_factor=1e4 / 25
    )
    for step in range(100):
        assert learning_rate_at(step, 100, config) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()


def test_cut_out_squares_are_grey() -> None:
    pixels = torch.full((50, 3, 8, 8), 7, dtype=torch.uint8)
    got = augmented(pixels, Augment(cutout=3), torch.Generator().manual_seed(0)).numpy()
    assert set(np.unique(got)) == {7, 128}
    assert np.array_equal(got[:, 0], got[:, 1])
    sizes = (got[:, 0] == 128).sum((1, 2))
    assert sizes.max() == 9  # whole squares, and parts of those that reach over the border
    assert set(sizes.tolist()) <= {4, 6, 9}


def test_patience_ends_a_training_that_no_longer_improves() -> None:
    result = run(replace(QUICK, epochs=40, patience=2, learning_rate=1e-6, rate_coded=0.25))
    accuracies = [stats.val_accuracy for stats in result.curve if not stats.on_rates]
    assert 2 < len(accuracies) < 30
    assert max(accuracies[-2:]) <= max(accuracies[:-2])


def test_averaged_weights_follow_the_formula() -> None:
    config = replace(QUICK, epochs=1, batch_size=25, average=0.5)
    states: list[TrainState] = []
    result = run(config, on_state=states.append)
    name = "conv2d_1.weight"
    average = states[0].arrays[f"average.{name}"]
    assert np.array_equal(result.model.weights[name], average)  # what is judged is what is kept
    first = run(config, stop_after=1).state.arrays[f"weights.{name}"]
    assert not np.array_equal(average, first)
    # two batches: a0 = w0; a1 = a0 + 0.9 (w1 - a0); a2 = a1 + (1 - 2/11) (w2 - a1), so a2 lies near w2
    initial = to_model(Network(graph(), seed=config.seed)).weights[name]
    assert np.abs(average - first).max() < 0.3 * np.abs(first - initial).max()


def test_learned_leaks_are_exported() -> None:
    result = run(replace(QUICK, epochs=3, learn_decay=True))
    learned = [n.layer.decay for n in result.model.graph.nodes if isinstance(n.layer, Lif)]
    assert all(decay != 0.5 and decay * 256 == round(decay * 256) for decay in learned)
    images = noise(6, seed=4).images
    outputs = reference.run(result.model, images).outputs
    ours = from_model(result.model).eval()(normalize(torch.from_numpy(images))).detach().numpy()
    np.testing.assert_allclose(outputs, ours, rtol=1e-4, atol=1e-4)
    resumed = run(
        replace(QUICK, epochs=3, learn_decay=True),
        resume=run(replace(QUICK, epochs=3, learn_decay=True), stop_after=2).state,
    )
    assert same(result.state, resumed.state)


def test_a_neuron_that_stops_firing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def silence(stats: EpochStats) -> None:
        if stats.epoch == 1:
            networks[-1].operator("batchnorm2d_5").bias.data.fill_(-1e4)

    networks: list[Network] = []
    build = TrainingRun._new_network
    monkeypatch.setattr(TrainingRun, "_new_network", lambda *a: networks.append(build(*a)) or networks[-1])
    # it is silenced once, after epoch 1, and the state to fall back to has it silent as well, so nothing helps
    with pytest.raises(TrainError, match="neuron 'lif_6' stopped firing in epoch 2; train again with a learning rate"):
        run(on_epoch=silence, on_fallback=told.append)
    assert told[0].startswith("neuron 'lif_6' stopped firing in epoch 2; going on from epoch 1 at 0.5 of")
    assert len(told) == 3


def test_bfloat16_learns_as_float32_does() -> None:
    digits = load_dataset("digits")
    curves = [
        train(graph(8, timesteps=2), digits.train, digits.val, TrainConfig(epochs=3, threads=1, precision=p)).curve
        for p in ("float32", "bfloat16")
    ]
    assert abs(curves[0][-1].train_loss - curves[1][-1].train_loss) < 0.1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_learns_what_a_cpu_does(precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    digits = load_dataset("digits")
    config = TrainConfig(epochs=4, batch_size=32, threads=1, precision=precision, average=0.9)
    curves = [
        train(graph(12, timesteps=2), digits.train, digits.val, replace(config, device=device)).curve
        for device in ("cuda", "cpu")
    ]
    assert abs(curves[0][-1].train_loss - curves[1][-1].train_loss) < 0.1
    assert curves[0][-1].val_accuracy > 0.8
