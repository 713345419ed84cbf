"""``hf:`` names: what is asked of the Hub, what is read of its answer, and every refusal; no network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_data import COLOUR, write_parquet

from spikenas.cli.main import main
from spikenas.data.datasets import load_dataset
from spikenas.errors import DatasetError, MissingTool


class FakeHub(ModuleType):
    """Stands in for huggingface_hub: answers with a folder, or fails."""

    def __init__(self, answer: Path | Exception) -> None:
        super().__init__("huggingface_hub")
        self.answer, self.asked = answer, list[dict[str, Any]]()

    def snapshot_download(self, repository: str, **options: Any) -> str:
        self.asked.append({"repository": repository, **options})
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKENAS_CACHE", str(tmp_path_factory.mktemp("cache")))


def install(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> FakeHub:
    hub = FakeHub(answer)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


def test_a_dataset_in_the_layout_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [number % 2 for number in range(40)]
    write_parquet(tmp_path / "plain_text" / "train-00000-of-00001.parquet", COLOUR[:30], labels[:30])
    write_parquet(tmp_path / "plain_text" / "test-00000-of-00001.parquet", COLOUR[30:], labels[30:])
    hub = install(monkeypatch, tmp_path)
    dataset = load_dataset("hf:uoft-cs/cifar10")
    assert (dataset.name, dataset.input_shape, len(dataset.test)) == ("cifar10", (3, 5, 4), 10)
    np.testing.assert_array_equal(dataset.test.images, COLOUR[30:].transpose(0, 3, 1, 2))
    load_dataset("hf:uoft-cs/cifar10/plain_text@main")
    asked = {"repository": "uoft-cs/cifar10", "repo_type": "dataset"}
    assert hub.asked == [
        asked | {"revision": None, "allow_patterns": ["*.parquet"]},
        asked | {"revision": "main", "allow_patterns": ["plain_text/*.parquet"]},
    ]


def test_offline_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install(monkeypatch, FileNotFoundError("Name or service not known\nAn error happened"))
    assert main(["run", "--data", "hf:uoft-cs/cifar10", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().replace("\n", " ")
    assert "hf:uoft-cs/cifar10: cannot be fetched (Name or service not known); check the name" in said
    assert "Traceback" not in said


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path)
    with pytest.raises(DatasetError, match=r"hf:cifar10: write hf:OWNER/NAME\[/FOLDER\]"):
        load_dataset("hf:cifar10")
    with pytest.raises(DatasetError, match=r"no train.*parquet in it .* give the folder: hf:a/b/FOLDER"):
        load_dataset("hf:a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingTool, match=r"pip install 'spikenas\[hub\]'"):
        load_dataset("hf:a/b")
