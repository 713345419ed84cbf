"""Samples of height 1, sound and spectra: windows of one row, and the way to C."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks_deploy import random_images, random_weights

from spikenas.cli.main import main
from spikenas.deploy.host_library import host_library
from spikenas.graph import AvgPool2d, Conv2d, Graph, Node
from spikenas.model import IntegerModel
from spikenas.reference import run
from spikenas.space.space import load_space

GENOTYPES = ("t3-b8-k5s2-8:3s5.d0.s-12:00i.00.0-pool", "t3-b4-k3s1-12:3as.00.a-hidden32")


def line_graph(genotype: str) -> Graph:
    space = load_space("embedded").for_frames(3)
    return space.lower(space.parse(genotype), (3, 1, 1, 40), 4)


def square(layer: Conv2d) -> Conv2d:
    kernel, stride, padding = layer.kernel_size[1], layer.stride[1], layer.padding[1]
    return replace(layer, kernel_size=(kernel, kernel), stride=(stride, stride), padding=(padding, padding))


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_windows_have_one_row_and_c_agrees(genotype: str) -> None:
    graph = line_graph(genotype)
    windows = [node.layer for node in graph.nodes if isinstance(node.layer, Conv2d | AvgPool2d)]
    assert {layer.kernel_size[0] for layer in windows} == {1}
    assert all(shape[1] == 1 for shape in graph.shapes.values() if len(shape) == 3)
    model = random_weights(graph, 0, scale=0.5, threshold=200)
    images = random_images(graph, 8, 0)
    outputs = run(model, images).outputs
    assert outputs.any()
    with host_library(model) as library:
        assert np.array_equal(library.predict(images), outputs)


def test_square_windows_would_compute_the_same() -> None:
    model = random_weights(line_graph(GENOTYPES[0]), 1, scale=0.5, threshold=200)
    nodes, weights = [], dict(model.weights)
    for node in model.graph.nodes:
        layer = node.layer
        if isinstance(layer, Conv2d):
            rows = layer.kernel_size[1] // 2
            weights[f"{node.name}.weight"] = np.pad(
                weights[f"{node.name}.weight"], ((0, 0), (0, 0), (rows, rows), (0, 0))
            )
            layer = square(layer)
        nodes.append(Node(node.name, layer))
    tall = IntegerModel(replace(model.graph, nodes=tuple(nodes)), weights, model.output_scale)
    assert sum(array.size for array in tall.weights.values()) > 2 * sum(array.size for array in model.weights.values())
    images = random_images(model.graph, 5, 1)
    assert np.array_equal(run(tall, images).outputs, run(model, images).outputs)


def test_features_in_a_file_are_classified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    place = np.arange(32) - (6 + 9 * labels + rng.integers(-2, 3, 300))[:, None]
    bumps = 80 + 150 * np.exp(-(place**2) / 8) + rng.normal(0, 15, (300, 32))
    np.savez(tmp_path / "spectra.npz", train_images=bumps.clip(0, 255).astype(np.uint8), train_labels=labels)
    command = ["train", "t2-b8-k5s2-8:003.00.0-hidden32", "--data", str(tmp_path / "spectra.npz"), "--epochs", "15"]
    assert main([*command, "--out", str(tmp_path / "run"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["integer_accuracy"] > 0.9
    assert summary["fits"]
