from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_search import tiny_graph, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from spikenas.errors import ModelError, RunError
from spikenas.graph import Edge, Graph, Linear, Node
from spikenas.model import IntegerModel, Model
from spikenas.run.artifacts import load_integer_model, load_model, read_json, save_model, write_bytes, write_json
from spikenas.run.checkpoints import Checkpoints
from spikenas.run.folder import open_run, read_run
from spikenas.search.trial import TRAIN, Proposal

# --- models -----------------------------------------------------------------------------------------------


def integer_model() -> IntegerModel:
    weights = {
        "lif.threshold": np.array([3], np.int32),
        "fc.weight": np.arange(-6, 6, dtype=np.int32).reshape(3, 4),
        "fc.bias": np.array([1, -2, 3], np.int32),
        "fc.shift": np.array(0, np.int32),
    }
    return IntegerModel(tiny_graph(), weights, output_scale=0.1)


def assert_same_arrays(a: Any, b: Any) -> None:
    assert a.weights.keys() == b.weights.keys()
    for name, array in a.weights.items():
        np.testing.assert_array_equal(array, b.weights[name])
        assert array.shape == b.weights[name].shape
        assert array.dtype == b.weights[name].dtype


def test_float_model_round_trip(tmp_path: Path) -> None:
    model = tiny_model(0.1)
    transposed = replace(model, weights={**model.weights, "fc.weight": np.asfortranarray(model.weights["fc.weight"])})
    save_model(tmp_path / "m.safetensors", transposed)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.graph == model.graph
    assert_same_arrays(loaded, model)


def test_integer_model_round_trip(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", integer_model())
    loaded = load_integer_model(tmp_path / "m.safetensors")
    assert loaded.graph == integer_model().graph
    assert loaded.output_scale == 0.1  # exactly: it is kept in hexadecimal
    assert_same_arrays(loaded, integer_model())


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_truncation_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, tiny_model(0.0))
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert "not a whole safetensors file" in refused(path)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    assert "no such model file" in refused(path)
    path.write_bytes(save({"a": np.zeros(3, np.float32)}))
    assert "without a spikenas graph" in refused(path)
    save_model(path, integer_model())
    assert "kind 'integer', not 'float'" in refused(path)
    save_model(path, tiny_model(0.0))
    with pytest.raises(ModelError, match="kind 'float', not 'integer'"):
        load_integer_model(path)


def test_weights_of_another_graph_type_or_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, tiny_model(0.0))
    data = path.read_bytes()
    metadata: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = load(data)

    path.write_bytes(save({**arrays, "fc.bias": np.zeros(4, np.float32)}, metadata))
    assert "'fc.bias' has shape (4,)" in refused(path)
    path.write_bytes(save({"fc.weight": arrays["fc.weight"]}, metadata))
    assert "weights lack 'fc.bias'" in refused(path)
    path.write_bytes(save({**arrays, "fc.bias": np.full(3, np.nan, np.float32)}, metadata))
    assert "not finite" in refused(path)
    path.write_bytes(save({**arrays, "fc.bias": np.zeros(3, np.float64)}, metadata))
    assert "'fc.bias' is float64" in refused(path)
    path.write_bytes(save(arrays, {**metadata, "graph": "{}"}))
    assert "not a spikenas graph" in refused(path)
    path.write_bytes(save(arrays, {**metadata, "spikenas_model": "2"}))
    assert "model schema '2' is unknown" in refused(path)


@pytest.mark.parametrize("scale", ["", "nan", "-0x1p+0", "0x1p+99999", "many"])
def test_output_scale_must_be_a_positive_number(tmp_path: Path, scale: str) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, integer_model())
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    path.write_bytes(save(load(data), {**metadata, "output_scale": scale}))
    with pytest.raises(ModelError, match="output scale"):
        load_integer_model(path)


def test_checkpoints(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "weights")
    strange = "../a/b c:*" * 40
    checkpoints.save(Proposal(strange, TRAIN, 2), tiny_model(2.0))
    checkpoints.save(Proposal(strange, TRAIN, 4, 2), tiny_model(4.0))
    assert checkpoints.load(Proposal(strange, TRAIN, 4, 2)).weights["fc.bias"][0] == 2.0
    assert checkpoints.load(Proposal(strange, TRAIN, 8, 4)).weights["fc.bias"][0] == 4.0
    assert len(list((tmp_path / "weights").iterdir())) == 2
    with pytest.raises(RunError, match="no such model file; the race cannot go on without it"):
        checkpoints.load(Proposal("other", TRAIN, 4, 2))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        Checkpoints(tmp_path / "file").save(Proposal("a", TRAIN, 1), tiny_model(0.0))


# --- files ------------------------------------------------------------------------------------------------


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(json_values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot be written .No space left on device.; free space"):
            write_bytes(path, b"2")
    assert read_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RunError, match="not a value JSON can hold"):
        write_json(path, float("nan"))
    with pytest.raises(RunError, match="cannot be written"):
        write_json(tmp_path / "no" / "folder.json", 1)


def test_broken_json(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": [1, 2')
    with pytest.raises(RunError, match="broken JSON"):
        read_json(tmp_path / "half.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="broken JSON"):
        read_json(tmp_path / "binary.json")
    with pytest.raises(RunError, match="No such file"):
        read_json(tmp_path / "absent.json")


# --- run folders ------------------------------------------------------------------------------------------

SETTINGS = {"data": "digits", "seed": 0, "search": {"samples": 10, "measure": "structure"}, "sizes": (1, 2)}


def test_the_same_settings_go_on_with_a_run(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "demo"
    with open_run(out, SETTINGS) as run:
        assert not run.resumed
        run.model.write_text("kept")
        (out / ".model.safetensors.99.tmp").write_text("half of a file")
    with open_run(out, SETTINGS) as run:
        assert run.resumed
        assert run.model.read_text() == "kept"
        assert not (out / ".model.safetensors.99.tmp").exists()
    assert read_run(out).settings == {**SETTINGS, "sizes": [1, 2]}
    assert read_run(out).study == out / "study.sqlite"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "another run: --seed was 0, now 1; choose another --out"),
        ({"search": {"samples": 11, "measure": "structure"}}, ": --samples was 10, now 11; "),
        ({"data": "mnist", "seed": 1}, ": --data was digits, now mnist, and --seed was 0, now 1; "),
        ({"epochs": 3}, ": --epochs was not given, now 3; "),
    ],
)
def test_another_run_is_refused_and_not_touched(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with open_run(tmp_path, SETTINGS):
        pass
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError, match=words), open_run(tmp_path, {**SETTINGS, **change}):
        pass
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_setting_that_is_gone_is_another_run(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS):
        pass
    fewer = {name: value for name, value in SETTINGS.items() if name != "seed"}
    with pytest.raises(RunError, match=": --seed was 0, now not given; "), open_run(tmp_path, fewer):
        pass


def test_what_is_no_run_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    words = r"holds 'thesis.txt' and no run; give --out an empty or new folder"
    with pytest.raises(RunError, match=words), open_run(tmp_path, SETTINGS):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunError, match="is a file; give --out a folder"), open_run(tmp_path / "thesis.txt", SETTINGS):
        pass
    with pytest.raises(RunError, match="cannot be made"), open_run(tmp_path / "thesis.txt" / "out", SETTINGS):
        pass
    with pytest.raises(RunError, match="not the folder of a run"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "broken JSON"),
        ("[]", "not the settings of a run"),
        ('{"spikenas_run": 1}', "not the settings of a run"),
        ('{"spikenas_run": 2, "settings": {}}', "run schema 2 is unknown: this version reads 1; upgrade"),
    ],
)
def test_unreadable_run_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=words), open_run(tmp_path, SETTINGS):
        pass
    assert (tmp_path / "run.json").read_text() == text


HOLD = """
import sys
from pathlib import Path
from spikenas.run.folder import open_run
with open_run(Path(sys.argv[1]), {"seed": 0}):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        words = f"process {first.pid} on .* drives this run; wait for it"
        with pytest.raises(RunError, match=words), open_run(tmp_path, {"seed": 0}):
            pass
        first.kill()
        first.wait()
    with open_run(tmp_path, {"seed": 0}) as run:
        assert run.resumed
        with pytest.raises(RunError, match=f"process {os.getpid()} on"), open_run(tmp_path, {"seed": 0}):
            pass
    assert not (tmp_path / "driver.json").exists()


def test_a_run_killed_before_its_settings_were_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_bytes(b"")
    (tmp_path / "driver.json").write_text("{}")
    (tmp_path / ".run.json.1234.tmp").write_text("{")
    with open_run(tmp_path, SETTINGS) as run:
        assert not run.resumed
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.json", "run.lock"]


def test_graph_in_the_file_is_the_whole_truth(tmp_path: Path) -> None:
    """Another graph with weights of the same shapes keeps its own constants."""
    graph = tiny_graph(timesteps=7)
    nodes = tuple(
        Node(n.name, replace(n.layer, weight_bits=5) if isinstance(n.layer, Linear) else n.layer) for n in graph.nodes
    )
    other = Graph(7, nodes, (*graph.edges, Edge("lif", "sum", delay=1)))
    save_model(tmp_path / "m.safetensors", Model(other, tiny_model(0.0).weights))
    assert load_model(tmp_path / "m.safetensors").graph == other
