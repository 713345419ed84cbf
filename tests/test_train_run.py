"""spikenas train and evaluate: killed, interrupted and resumed runs, checkpoints that do not belong, exact counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from spikenas import reference
from spikenas.cli.main import main
from spikenas.cli.progress import RunProgress
from spikenas.data.datasets import load_dataset
from spikenas.data.split import Split, thin
from spikenas.errors import RunError
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
    Reset,
)
from spikenas.model import Model
from spikenas.run.artifacts import load_integer_model, load_model
from spikenas.run.trainer import CALIBRATION_IMAGES, ShortTrainer
from spikenas.run.training_store import load_training, save_training
from spikenas.snn.calibration import calibrate
from spikenas.snn.evaluate import evaluate
from spikenas.snn.network import Network, from_model, normalize
from spikenas.snn.operations_count import count_operations
from spikenas.snn.precision import bits_by_layer
from spikenas.snn.qat import Rounding, fine_tune, qat_config
from spikenas.snn.quantize import quantize
from spikenas.snn.train import TrainConfig, TrainState, train
from spikenas.snn.training_run import TrainingRun, rate_epochs
from spikenas.space.space import load_space

GENOTYPE = "t2-b8-k3s2-8:003.00.0-pool"
COMMAND = ["train", GENOTYPE, "--data", "digits", "--limit", "300", "--epochs", "8", "--threads", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main([*COMMAND, "--out", str(out)]) == 0
    return out


def same_weights(one: Path, other: Path, file: str = "model.safetensors") -> bool:
    a, b = (load_model(path / file) for path in (one, other))
    return a.graph == b.graph and all(np.array_equal(array, b.weights[name]) for name, array in a.weights.items())


def test_a_run_killed_in_mid_training_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    # epochs take some milliseconds, so the process waits after each until it is killed
    program = (
        "import sys, time; from spikenas.snn import training_run; from spikenas.cli.main import main\n"
        "whole = training_run.TrainingRun.one_epoch\n"
        "def slow(self, on_batch):\n"
        "    time.sleep(0.5 if self.epoch else 0)\n"
        "    return whole(self, on_batch)\n"
        "training_run.TrainingRun.one_epoch = slow; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, *COMMAND, "--out", str(out)], stderr=subprocess.DEVNULL)
    curve = out / "curve.json"
    deadline = time.monotonic() + 120
    while not (curve.exists() and len(json.loads(curve.read_text())) >= 3) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (out / "training.safetensors").exists()
    assert not (out / "model.safetensors").exists()
    assert main([*COMMAND, "--out", str(out)]) == 0
    assert same_weights(finished, out)
    assert len(json.loads(curve.read_text())) == 8
    assert not (out / "training.safetensors").exists()


def test_ctrl_c_in_mid_epoch_leaves_a_run_that_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stopped"

    def interrupt(self: RunProgress, stats: object) -> None:
        if getattr(stats, "epoch", 0) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunProgress, "batch", interrupt)
    assert main([*COMMAND, "--out", str(out)]) == 130
    monkeypatch.undo()
    assert main([*COMMAND, "--out", str(out)]) == 0
    assert "going on after epoch 4" in capsys.readouterr().err
    assert same_weights(finished, out)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(finished: Path, tmp_path: Path) -> None:
    """The process may not write files above 60 KB: the settings still fit, a checkpoint does not."""
    out = tmp_path / "full"
    program = (
        "import resource, sys; from spikenas.cli.main import main; import spikenas.pipeline\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); sys.exit(main(sys.argv[1:]))"
    )
    wide = ["train", "t2-b8-k3s2-64:003.00.0-pool", *COMMAND[2:], "--out", str(out)]
    environment = {**os.environ, "SPIKENAS_KERNELS": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program, *wide], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("spikenas: ")
    assert "cannot be written" in last
    assert "Traceback" not in result.stderr
    assert main(wide) == 0


def test_processes_that_train_together_do_as_one(tmp_path: Path) -> None:
    """Without norms, which see a process's own share, two halves of a batch must give the gradient of the whole."""
    program = tmp_path / "together.py"
    program.write_text(
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_train_run import plain_graph, noise, TOGETHER\n"
        "from spikenas.snn.distributed import worker_group\n"
        "from spikenas.snn.train import train\n"
        "with worker_group() as first:\n"
        "    result = train(plain_graph(), noise(40), noise(20), TOGETHER)\n"
        "    if first: np.savez(sys.argv[1], loss=result.curve[-1].train_loss, **result.model.weights)\n",
        encoding="utf-8",
    )
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*run, str(program), str(tmp_path / "out.npz")], check=True, capture_output=True, env=environment)
    alone = train(plain_graph(), noise(40), noise(20), TOGETHER)
    with np.load(tmp_path / "out.npz") as together:
        assert float(together["loss"]) == pytest.approx(alone.curve[-1].train_loss, rel=1e-4)
        for name, array in alone.model.weights.items():
            assert together[name] == pytest.approx(array, rel=1e-3, abs=1e-4)


TOGETHER = TrainConfig(epochs=2, rate_coded=0.5, batch_size=20, threads=1, augment="shift1", mixup=0.0, clip=0.0)


def noise(count: int) -> Split:
    rng = np.random.default_rng(count)
    return Split(rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8), np.arange(count) % 4)


def chain(*layers: object, timesteps: int = 2) -> Graph:
    names = [f"{type(layer).__name__.lower()}_{i}" for i, layer in enumerate(layers)]
    edges = tuple(Edge(source, target) for source, target in pairwise(names))
    return Graph(timesteps, tuple(map(Node, names, layers)), edges)  # type: ignore[arg-type]


def plain_graph(layers: int = 1) -> Graph:
    return chain(Input((1, 8, 8)), *[Conv2d(6), Lif(threshold=0.3)] * layers, Flatten(), Linear(4), Mean(), Output())


def test_a_single_layer_of_neurons_learns_the_same_from_rates() -> None:
    """Its current is the same at every step and its readout linear, so that the mean of all steps is exact."""
    graph, config = replace(plain_graph(), timesteps=5), TrainConfig(epochs=2, batch_size=20, threads=1, rate_penalty=1)
    rates = train(graph, noise(40), noise(20), replace(config, rate_coded=1.0))
    spikes = train(graph, noise(40), noise(20), replace(config, rate_coded=0.0))
    for name, array in spikes.model.weights.items():
        assert rates.model.weights[name] == pytest.approx(array, rel=1e-3, abs=1e-5), name
    assert rates.model.graph == graph
    assert rates.curve[0].spike_rate == pytest.approx(spikes.curve[0].spike_rate)
    assert rates.curve[0].train_loss == pytest.approx(spikes.curve[0].train_loss)
    assert rates.curve[0].val_loss == pytest.approx(spikes.curve[0].val_loss, rel=1e-4)
    assert rates.curve[0].on_rates


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_on_rates_validation_is_of_rates_and_the_end_of_spikes(average: float) -> None:
    graph = replace(plain_graph(2), timesteps=4)
    config = TrainConfig(epochs=2, rate_coded=0.5, batch_size=20, threads=1, average=average)
    rates, spikes = train(graph, noise(40), noise(20), config).curve
    started = TrainingRun(graph, noise(40), noise(20), config, None)
    started.one_epoch(None)
    twin = Network(replace(graph, timesteps=1))
    twin.rate_steps = 4
    twin.operators = started.judged.operators
    assert evaluate(twin, noise(20)).loss == evaluate(started.judged.on_rates(), noise(20)).loss
    assert rates.val_loss == pytest.approx(evaluate(twin, noise(20)).loss)
    assert rates.val_loss != pytest.approx(evaluate(started.judged, noise(20)).loss)
    started.one_epoch(None)
    assert spikes.val_loss == pytest.approx(evaluate(started.judged, noise(20)).loss)


def test_no_rates_where_they_cannot_stand_for_spikes() -> None:
    several, config = replace(plain_graph(), timesteps=3), TrainConfig(epochs=10, rate_coded=0.85)
    assert rate_epochs(several, config) == 8
    assert rate_epochs(several, replace(config, rate_coded=1.0)) == 10
    assert rate_epochs(replace(several, timesteps=1), config) == 0
    frames = chain(Input((1, 8, 8), static=False), *(node.layer for node in several.nodes[1:]), timesteps=3)
    assert rate_epochs(frames, config) == 0
    layers = (Input((4, 8, 8)), Add(), Conv2d(4), Lif(), Flatten(), Linear(4), Mean(), Output())
    forward = chain(*layers, timesteps=3)
    back = Edge(forward.nodes[3].name, forward.nodes[1].name, delay=1)
    assert rate_epochs(forward, config) == 8
    assert rate_epochs(replace(forward, edges=(*forward.edges, back)), config) == 0


def test_a_second_layer_integrates_the_mean_of_the_spikes_before_it() -> None:
    """By hand: a current of .6 makes two spikes in four steps; .9 of their mean is .45 a step, which makes one."""
    lif = Lif(decay=1.0, threshold=1.0, reset=Reset.SUBTRACT)
    layers = (Flatten(), Linear(1, bias=False), lif, Linear(1, bias=False), lif, Linear(1, bias=False), Mean())
    graph = chain(Input((1, 1, 1)), *layers, Output(), timesteps=4)
    for joins in (True, False):
        network = Network(graph).on_rates()
        network.joins = joins
        with torch.no_grad():
            for weight, name in ((1.2, "linear_2"), (0.9, "linear_4"), (3.0, "linear_6")):
                network.operator(name).weight.fill_(weight)
        outputs, counts = network.steps_with_spikes(torch.full((1, 1, 1, 1), 0.5))
        assert outputs.tolist() == [[[0.75]]]
        assert {name: float(count.detach()) for name, count in counts.items()} == {"lif_3": 0.5, "lif_5": 0.25}


def test_on_rates_a_norm_without_a_neuron_is_what_it_is_elsewhere() -> None:
    """Its kernel once wrote the neuron's spikes, of which there are none, to memory that was not its own."""
    layers = (Conv2d(64, bias=False), BatchNorm2d(), AvgPool2d((2, 2), (2, 2)), Lif(threshold=0.3), Conv2d(8), Lif())
    graph = chain(Input((1, 8, 8)), *layers, Flatten(), Linear(4), Mean(), Output(), timesteps=5)
    images = normalize(torch.from_numpy(noise(40).images))
    found = []
    for joins in (True, False):
        network = Network(graph).on_rates()
        network.joins = joins
        outputs, counts = network.steps_with_spikes(images)
        outputs.square().sum().backward()
        gradient = network.operator("conv2d_1").weight.grad
        found.append((outputs.detach(), gradient, *(count.detach() for count in counts.values())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_training_that_goes_on_knows_when_it_was_of_rates() -> None:
    graph, config = plain_graph(2), TrainConfig(epochs=4, batch_size=20, threads=1, rate_coded=0.6)
    states: list[TrainState] = []
    whole = train(graph, noise(40), noise(20), config)
    train(graph, noise(40), noise(20), config, stop_after=2, on_state=states.append)
    resumed = train(graph, noise(40), noise(20), config, resume=states[-1])
    assert [stats.train_loss for stats in resumed.curve] == [stats.train_loss for stats in whole.curve]
    assert [stats.on_rates for stats in resumed.curve] == [True, True, False, False]
    never = train(graph, noise(40), noise(20), replace(config, rate_coded=0.0))
    assert never.curve[3].train_loss != whole.curve[3].train_loss


def test_minutes_become_epochs_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "timed"
    command = [
        "train",
        GENOTYPE,
        "--data",
        "digits",
        "--limit",
        "300",
        "--minutes",
        "0.02",
        "--out",
        str(out),
        "--json",
    ]
    assert main(command) == 0
    pace = json.loads((out / "pace.json").read_text())
    epochs = len(json.loads((out / "curve.json").read_text()))
    assert epochs == pace["epochs"] == json.loads(capsys.readouterr().out)["epochs"]
    seconds_of_an_epoch = (300 + 144 / 3) / pace["images_per_s"]
    assert epochs == max(1, int(60 * 0.02 / seconds_of_an_epoch))
    (out / "pace.json").write_text(json.dumps({**pace, "epochs": 77}))
    assert main(command) == 0  # the number is taken from the folder, and nothing is trained again
    assert len(json.loads((out / "curve.json").read_text())) == epochs


# --- evaluate and exact counts ----------------------------------------------------------------------------


def test_evaluate_says_what_the_summary_says(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((finished / "summary.json").read_text())
    assert found["integer_accuracy"] == summary["integer_accuracy"]
    assert found["float_accuracy"] == summary["float_accuracy"]
    assert found["images"] == np.sum(found["confusion"]) == 359
    assert np.trace(found["confusion"]) == round(359 * summary["integer_accuracy"])
    assert found["targets"]["cortex-m4"]["energy_nj"] == pytest.approx(summary["cost"]["energy_nj"])
    # the cost model's synops take every window to be whole
    assert 0.7 * summary["cost"]["synops"] < found["synops"] <= summary["cost"]["synops"]
    assert main(["evaluate", str(finished), "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 144
    assert main(["evaluate", str(finished)]) == 0
    assert "confus" not in capsys.readouterr().err


def test_synops_by_hand() -> None:
    """Every neuron fires at every step: pixels at the border of a map lie in fewer windows of a 3x3 convolution."""
    graph = chain(
        *(Input((1, 4, 4)), Conv2d(1, (1, 1), (1, 1), (0, 0), bias=True), Lif()),
        *(Conv2d(5), Lif(), AvgPool2d((2, 2), (2, 2)), Flatten(), Linear(3), Mean(), Output()),
        timesteps=2,
    )
    network = Network(graph)
    with torch.no_grad():
        for name, bias in (("conv2d_1", 2.0),):
            network.operator(name).weight.zero_()
            network.operator(name).bias.fill_(bias)
        network.operator("conv2d_3").weight.fill_(2.0)
    split = Split(np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, np.int64))
    counted = count_operations(network, split)
    assert counted.spikes == {"lif_2": 3 * 2 * 16, "lif_4": 3 * 2 * 16 * 5}
    # of 16 pixels 4 corners lie in 4 windows, 8 edges in 6, 4 inner ones in 9: 100, to 5 channels each
    assert counted.synops == {"conv2d_3": 3 * 2 * 100 * 5, "linear_7": 3 * 2 * 16 * 5 * 3}


def test_synops_equal_those_of_spikingjelly(finished: Path) -> None:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    graph = chain(
        *(Input((1, 8, 8)), Conv2d(6, bias=True), BatchNorm2d(), Lif(), Conv2d(8, stride=(2, 2)), BatchNorm2d(), Lif()),
        *(Conv2d(8, groups=8), BatchNorm2d(), Lif(), Flatten(), Linear(10, bias=False), Mean(), Output()),
        timesteps=3,
    )
    network = from_model(train(graph, noise(40), noise(20), TrainConfig(epochs=1, threads=1)).model).eval()
    split = noise(24)
    counter = SynOpCounter()
    images = normalize(torch.from_numpy(split.images))
    assert not (images == images.round()).all()  # no layer but those that read spikes is taken for one
    with torch.no_grad(), DispatchCounterMode([counter]):
        network.steps(images, lambda name, value: None)
    ours = count_operations(network, split, batch_size=7)
    assert sum(ours.synops.values()) == counter.get_total() > 10_000
    judged = evaluate(network, split)  # of the fused neurons, which show no spikes
    assert (ours.evaluation.spike_counts, ours.evaluation.accuracy) == (judged.spike_counts, judged.accuracy)
    assert ours.evaluation.loss == pytest.approx(judged.loss)


# --- checkpoints --------------------------------------------------------------------------------------------


def state_of(graph: Graph, config: TrainConfig) -> TrainState:
    return train(graph, noise(40), noise(20), config, stop_after=1).state


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    graph, config = plain_graph(), TrainConfig(epochs=3, average=0.9, learn_decay=True, threads=1)
    state, path = state_of(graph, config), tmp_path / "training.safetensors"
    save_training(path, state, graph, config)
    back = load_training(path, graph, config)
    assert (back.epoch, back.curve, back.rate_scale) == (state.epoch, state.curve, state.rate_scale)
    assert back.arrays.keys() == state.arrays.keys()
    assert all(np.array_equal(array, back.arrays[name]) for name, array in state.arrays.items())
    with pytest.raises(RunError, match="another genotype or of other settings; remove it to train anew"):
        load_training(path, graph, replace(config, epochs=4))
    with pytest.raises(RunError, match="another genotype or of other settings"):
        load_training(path, chain(*list(graph.layers.values()), timesteps=3), config)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"not a whole checkpoint \(.*\); remove it to train from the start"):
        load_training(path, graph, config)


def test_a_search_without_images_asks_for_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = str(tmp_path / "study")
    search = [
        "search",
        "--input",
        "1x8x8",
        "--classes",
        "10",
        "--flash",
        "16KB",
        "--strategy",
        "random",
        "--samples",
        "3",
    ]
    assert main([*search, "--samples", "3", "--out", study]) == 0
    assert f"spikenas train {study} --data PATH" in capsys.readouterr().out
    assert main(["train", study]) == 2
    assert f"--data is missing: the search in '{study}' was made without images" in capsys.readouterr().err


def test_search_then_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    search = ["search", "--data", "digits", "--flash", "16KB", "--strategy", "random", "--samples", "5"]
    assert main([*search, "--finalists", "0", "--out", str(study)]) == 0
    chosen = json.loads((study / "summary.json").read_text())["genotype"]
    assert main(["train", str(study), "--epochs", "1", "--limit", "100", "--json"]) == 0
    out = capsys.readouterr().out
    summary = json.loads(out[out.index('{"genotype"') :])
    assert summary["genotype"] == chosen
    assert summary["budget"]["flash_bytes"] == 16 * 1024
    assert (study / "trained" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", GENOTYPE, "--data", "digits", "--limit", "50", "--batch-size", "64"], "only 50 training images"),
        (["train", "nonsense", "--data", "digits"], "no genotype of space 'embedded'"),
        (["train", GENOTYPE], "--data is missing"),
        (["train", GENOTYPE, "--data", "digits", "--optimizer", "adam"], "optimizer 'adam' is unknown"),
        (["train", GENOTYPE, "--data", "digits", "--device", "cuda"], "torch sees no GPU"),
        (["train", GENOTYPE, "--data", "digits", "--augment", "blur"], "augment 'blur' is unknown"),
        (["train", GENOTYPE, "--data", "digits", "--warmup", "2"], "--warmup"),
        (["train", GENOTYPE, "--data", "digits", "--minutes", "0"], "--minutes 0: give the training some time"),
        (["train", GENOTYPE, "--data", "digits", "--minutes", "1", "--epochs", "3"], "give one of them"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main([*words, "--out", str(tmp_path / "x")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last


def test_images_of_another_size_are_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = load_dataset("digits").test
    np.savez(tmp_path / "wide.npz", train_images=digits.images[:, :, :, :6], train_labels=digits.labels)
    assert main(["evaluate", str(finished), "--data", str(tmp_path / "wide.npz")]) == 2
    assert "images are 1x8x6, the network takes 1x8x8" in capsys.readouterr().err
    np.savez(tmp_path / "two.npz", train_images=digits.images, train_labels=digits.labels % 2)
    assert main(["evaluate", str(finished), "--data", str(tmp_path / "two.npz")]) == 2
    assert "has 2 classes, the network 10" in capsys.readouterr().err
    assert main(["evaluate", str(finished), "--split", "tests"]) == 2
    assert "split 'tests' is unknown: choose from train, val, test" in capsys.readouterr().err


# --- rounding -----------------------------------------------------------------------------------------------


def test_where_rounding_costs_much_the_network_is_trained_on_with_rounded_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "t4-b2-k3s2-4:003.00.0-pool", "--data", "digits", "--epochs", "20", "--out", str(out)]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "points in validation: training on with it" in told
    assert "2 epochs with them rounded" in told
    assert "kept" in told
    tuned, before = load_model(out / "model.safetensors"), load_model(out / "unrounded.safetensors")
    integer = load_integer_model(out / "integer.safetensors")
    (conv,) = (name for name in bits_by_layer(integer) if "e03" in name)
    rows = tuned.weights[f"{conv}.weight"].reshape(4, -1)
    assert all(len(np.unique(np.abs(row))) <= 2 for row in rows)  # 0 and one step a channel
    assert all(len(np.unique(np.abs(row))) > 2 for row in before.weights[f"{conv}.weight"].reshape(4, -1))
    test = load_dataset("digits", seed=0).test
    once = reference.run(quantize(before), test.images).outputs.argmax(1)
    assert json.loads((out / "summary.json").read_text())["integer_accuracy"] > np.mean(once == test.labels) + 0.02

    # stopped between two files, it ends with the same integers
    (out / "integer.safetensors").unlink()
    assert main(command) == 0
    again = load_integer_model(out / "integer.safetensors")
    assert all(np.array_equal(array, again.weights[name]) for name, array in integer.weights.items())

    capsys.readouterr()
    assert main(["quantize", str(out), "--bits", "8", "--json"]) == 0  # of what was never rounded
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["float_accuracy"] == pytest.approx(
        evaluate(from_model(before), test).accuracy
    )

    # with more steps and all else as it is, the integers are the run's own
    assert main(["quantize", str(out), "--timesteps", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    longer = load_integer_model(Path(found["model"]))
    assert longer.graph.timesteps == 8
    assert longer.output_scale == integer.output_scale / 2
    assert all(np.array_equal(array, longer.weights[name]) for name, array in integer.weights.items())
    right = reference.run(longer, test.images).outputs.argmax(1) == test.labels
    assert found["integer_accuracy"] == np.mean(right)
    steps = Model(replace(tuned.graph, timesteps=8), tuned.weights)
    assert found["float_accuracy"] == pytest.approx(evaluate(from_model(steps), test).accuracy)


def test_a_candidate_of_few_bits_is_judged_with_rounded_weights_and_goes_on_without() -> None:
    data, space = load_dataset("digits", seed=0), load_space("embedded")
    graph = space.lower(space.parse("t2-b2-k3s2-8:003.00.0-pool"), data.input_shape, data.classes)
    trainer = ShortTrainer(data.train, data.val, TrainConfig(threads=1))
    found = trainer(graph, None, epochs=3, seed=0)
    plain = train(graph, data.train, data.val, TrainConfig(threads=1, epochs=3))
    for name, array in plain.model.weights.items():
        assert np.array_equal(found.model.weights[name], array), name
    seen = thin(data.train, CALIBRATION_IMAGES, np.random.default_rng(0)).images
    tuning = replace(qat_config(1, seed=0), threads=1)
    tuned = fine_tune(plain.model, data.train, data.val, tuning, calibration=seen).model
    assert found.accuracy == evaluate(from_model(tuned), data.val).accuracy != plain.best.val_accuracy

    four = space.lower(space.parse("t2-b4-k3s2-16:003.00.0-pool"), data.input_shape, data.classes)
    sure = trainer(four, None, epochs=8, seed=0)  # for which rounding does next to nothing
    wanted = Model(four, sure.model.weights)
    rounding = Rounding.of(wanted, calibrate(wanted, seen))
    judged = evaluate(from_model(rounding.untrained(wanted)), data.val)
    assert (sure.accuracy, sure.spike_rates) == (judged.accuracy, judged.spike_rates)

    on_rates = ShortTrainer(data.train, data.val, TrainConfig(threads=1, rate_coded=1.0))
    raced = on_rates(graph, None, epochs=3, seed=0)
    assert [row["on_rates"] for row in raced.curve] == [True] * 3
    rounded = Rounding.of(raced.model, calibrate(raced.model, seen)).untrained(raced.model)
    judged = evaluate(from_model(rounded).on_rates(), data.val)
    assert (raced.accuracy, raced.spike_rates) == (judged.accuracy, judged.spike_rates)
    assert raced.accuracy != evaluate(from_model(rounded), data.val).accuracy
