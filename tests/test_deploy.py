"""The C kernels against the numpy reference, bit for bit, on this computer."""

from __future__ import annotations

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_deploy import random_graph, random_images, random_weights
from test_cost import measured_network, skip_network

from spikenas.cost.flash import STRUCTS, constant_bytes
from spikenas.cost.memory import Kernels, Schedule, legal_schedules, plan_memory
from spikenas.cost.steps import groups, stored_nodes
from spikenas.deploy.c_writer import write_firmware
from spikenas.deploy.compare import Difference, Watcher
from spikenas.deploy.host_library import HostLibrary, host_library, predict
from spikenas.deploy.packing import pack_dense, pack_rows, pack_stream
from spikenas.deploy.reciprocals import mean_reciprocal, quotient_reciprocal
from spikenas.deploy.tables import build_tables
from spikenas.errors import ModelError, QuantizeError, RunError
from spikenas.graph import Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output
from spikenas.model import IntegerModel
from spikenas.reference import Trace, run

PLAIN = ("-O1",)
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DSPIKENAS_HOST")


def random_model(seed: int) -> IntegerModel | None:
    """A random model; None where the graph has a norm that cannot be folded."""
    try:
        scale, threshold = (1.0, 0.2)[seed % 2], (150, 20, 60)[seed % 3]
        return random_weights(random_graph(seed), seed, scale=scale, threshold=threshold)
    except ModelError:
        return None


@pytest.mark.parametrize("schedule", Schedule)
def test_both_schedules_give_the_logits_of_the_reference(schedule: Schedule) -> None:
    model = random_weights(measured_network(), 0, scale=0.3, threshold=250)
    images = random_images(model.graph, 3, 0)
    with host_library(model, schedule=schedule) as library:
        assert np.array_equal(library.predict(images), run(model, images).outputs)
        assert library.plan.schedule is schedule


def test_feedback() -> None:
    model = random_weights(skip_network(feedback=True), 1)
    images = random_images(model.graph, 5, 1)
    expected = run(model, images)
    assert 0.02 < expected.values["s2"].mean() < 0.9
    assert np.array_equal(predict(model, images), expected.outputs)


@pytest.mark.parametrize("kernels", Kernels)
def test_thousands_of_neurons_without_a_map(kernels: Kernels) -> None:
    """Their packed spikes are 1,025 bytes, or 257 words: more than a byte counts."""
    g = GraphBuilder()
    image = g.add(Input((1, 2, 2)), name="image")
    many = g.add(Lif(), g.add(Linear(8_200), g.add(Flatten(), image)), name="many")
    more = g.add(Lif(), g.add(Linear(5), many))
    g.add(Output(), g.add(Mean(), g.add(Linear(3), more)))
    model = random_weights(g.build(2), 0, scale=0.1)
    images = random_images(model.graph, 4, 0)
    expected = run(model, images)
    assert expected.values["many"][..., 8_192:].any()
    with host_library(model, kernels=kernels) as library:
        assert np.array_equal(library.predict(images), expected.outputs)


def watched(library: HostLibrary, image: npt.NDArray[np.uint8], trace: Trace, number: int) -> Difference | None:
    """The first thing in the arena that is not as in image ``number`` of the trace."""
    watcher = Watcher(library.model.graph, library.plan, trace)
    watcher.begin(number)
    library.watch(image, watcher.seen)
    writes = [trace.values[name][0, 0].size for step in library.plan.steps for name in step.writes]
    assert watcher.values >= library.model.graph.views * sum(writes)
    return watcher.found


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([PLAIN, ("-O2", "-DSPK_VECTORS")]), st.sampled_from(Kernels))
def test_random_networks(seed: int, flags: tuple[str, ...], kernels: Kernels) -> None:
    model = random_model(seed)
    if model is None:
        return
    images = random_images(model.graph, 3, seed)
    trace = run(model, images)
    for schedule in legal_schedules(model.graph):
        with host_library(model, schedule=schedule, kernels=kernels, flags=flags) as library:
            assert np.array_equal(library.predict(images), trace.outputs)
            assert watched(library, images[1], trace, 1) is None


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31))
def test_sanitizers_find_nothing(seed: int) -> None:
    check_sanitized(seed)


@pytest.mark.slow
def test_sanitizers_find_nothing_in_200_networks() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # nearly all of the time is the compiler's
        assert sum(pool.map(check_sanitized, range(260))) >= 200


def check_sanitized(seed: int) -> bool:
    """Run the samples of a random network under the address and undefined-behaviour sanitizers."""
    model = random_model(seed)
    if model is None:
        return False
    schedules = legal_schedules(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        samples = random_images(model.graph, 2, seed)
        kernels = (Kernels.FAST, Kernels.COMPACT)[seed // 2 % 3 == 0]
        schedule = schedules[seed % len(schedules)]
        write_firmware(model, Path(folder), samples=samples, schedule=schedule, kernels=kernels)
        flags = f"CFLAGS={' '.join(SANITIZERS)}"
        result = subprocess.run(["make", "-C", folder, flags], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("as expected") == 2
    return True


def test_the_makefile_builds_and_runs_the_samples(tmp_path: Path) -> None:
    model = random_weights(skip_network(), 0)
    write_firmware(model, tmp_path / "firmware", samples=random_images(model.graph, 40, 0))
    result = subprocess.run(["make", "-C", str(tmp_path / "firmware")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("logits as expected") == 16
    sources = "".join((tmp_path / "firmware" / name).read_text() for name in ("steps.c", "rows.c", "neurons.c"))
    assert "malloc" not in sources
    assert "float" not in sources


def test_a_wrong_weight_is_named_by_layer_timestep_and_index() -> None:
    model = random_weights(skip_network(), 0)
    images = random_images(model.graph, 1, 0)
    weights = {name: array.copy() for name, array in model.weights.items()}
    weights["conv.weight"][3, 2, 1, 1] += -100 if weights["conv.weight"][3, 2, 1, 1] > 0 else 100
    trace = run(IntegerModel(model.graph, weights, model.output_scale), images)
    with host_library(model) as library:
        first = watched(library, images[0], trace, 0)
    assert first is not None
    assert first.layer == "s2"
    assert first.index[0] == 3  # the output channel of that weight
    assert "layer 's2' differs at timestep" in str(first)


@pytest.mark.parametrize("kernels", Kernels)
def test_constants_are_as_large_as_predicted(kernels: Kernels) -> None:
    sizes = {"uint32_t": 4, "int32_t": 4, "int16_t": 2, "int8_t": 1, "uint8_t": 1}
    for graph in (measured_network(), skip_network()):
        model = random_weights(graph, 0, scale=0.3, threshold=250)
        plan = plan_memory(model.graph, kernels)
        work = [groups(model.graph, step, stored_nodes(model.graph)) for step in plan.steps]
        tables = build_tables(model, plan)
        arrays = sum(constant.values.size * sizes[constant.type] for constant in tables.constants)
        struct = STRUCTS[kernels]
        rows = struct.step * len(plan.steps) + struct.term * len(tables.terms)
        rows += sum(struct.group * len(s.groups) + struct.neuron * len(s.neurons) for s in tables.steps)
        assert sum(constant_bytes(model.graph, plan, work).values()) == pytest.approx(arrays + rows, abs=160)


# --- packing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_rows_unpack_plane_by_plane(bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    row = np.random.default_rng(bits).integers(-limit, limit + 1, 21)
    words = pack_rows(row[np.newaxis], bits)[0]
    planes, found = 8 // bits, []
    for word in words.tolist():
        for plane in range(planes):
            lanes = [(word >> (8 * byte + bits * plane)) & (2**bits - 1) for byte in range(4)]
            found += [lanes[0] - limit, lanes[2] - limit, lanes[1] - limit, lanes[3] - limit]
    assert found[:21] == row.tolist()
    assert not any(found[21:])


def test_dense_weights_are_cut_into_patches() -> None:
    weight = np.arange(2 * 1 * 1 * 6).reshape(2, 1, 1, 6) - 6
    words = pack_dense(weight, 1, 4)
    unpacked = words.view(np.int8).reshape(-1, 4)[:, [0, 2, 1, 3]].tolist()
    assert unpacked == [[-6, -5, -4, -3], [0, 1, 2, 3], [-2, -1, 0, 0], [4, 5, 0, 0]]


def test_words_of_four_outputs_lie_side_by_side() -> None:
    weight = np.arange(5 * 1 * 1 * 8).reshape(5, 1, 1, 8) - 20
    values = pack_dense(weight, 1, 128).view(np.int8).reshape(-1, 4)[:, [0, 2, 1, 3]]
    of_four = values[:8].reshape(2, 4, 4)  # word, output, value
    assert [of_four[:, output].reshape(-1).tolist() for output in range(4)] == weight.reshape(5, 8)[:4].tolist()
    assert values[8:].reshape(-1).tolist() == weight.reshape(5, 8)[4].tolist()


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_streams_unpack_bit_by_bit(bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    weights = np.random.default_rng(bits).integers(-limit, limit + 1, 21)
    stream = int.from_bytes(pack_stream(weights, bits).tobytes(), "little")
    fields = [stream >> (bits * n) & (2**bits - 1) for n in range(21)]
    assert [field - 2**bits * (field > limit) for field in fields] == weights.tolist()


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 6, 9, 25, 49, 64, 121, 1024, 16383])
def test_the_mean_is_exact(taps: int) -> None:
    reciprocal, shift = mean_reciprocal(taps)
    assert reciprocal < 2**32
    sums = np.unique(np.concatenate([np.arange(-3000, 3000), np.array([-32768, -32767, 32766, 32767]) * taps]))
    for total in sums.tolist():
        positive = 2 * total + taps + 65536 * taps
        found = ((positive * reciprocal) >> 32 >> shift) - 32768
        assert found == int(Fraction(2 * total + taps, 2 * taps).__floor__())


def test_quotients_are_exact() -> None:
    for divisor in (1, 2, 3, 5, 7, 12, 48):
        m = quotient_reciprocal(divisor, 500)
        assert [(n * m) >> 16 for n in range(500)] == [n // divisor for n in range(500)]


# --- what is refused --------------------------------------------------------------------------------------


def small(weight_bits: int = 8, membrane_bits: int = 16) -> Graph:
    g = GraphBuilder()
    image = g.add(Input((1, 4, 4)), name="image")
    lif = g.add(Lif(membrane_bits=membrane_bits), g.add(Conv2d(2, weight_bits=weight_bits), image, name="c"), name="s")
    g.add(Output(), g.add(Mean(), g.add(Linear(2), g.add(Flatten(), lif))))
    return g.build(2)


def test_what_the_kernels_cannot_do_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="node 'c' has 9-bit weights: the C kernels take at most 8"):
        write_firmware(random_weights(small(weight_bits=9), 0), tmp_path / "a")
    with pytest.raises(QuantizeError, match="node 's' has 24-bit membranes"):
        write_firmware(random_weights(small(membrane_bits=24), 0), tmp_path / "b")


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    model = random_weights(small(), 0)
    with pytest.raises(RunError, match="holds other files"):
        write_firmware(model, tmp_path)
    write_firmware(model, tmp_path / "new")
    write_firmware(model, tmp_path / "new")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_images_of_another_shape_are_refused() -> None:
    model = random_weights(small(), 0)
    with host_library(model) as library, pytest.raises(ModelError, match="the network takes uint8"):
        library.predict(np.zeros((1, 1, 5, 4), np.uint8))
