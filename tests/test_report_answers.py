"""What the integer network answered: counted, and with the images and spikes that belong to it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from fakes_report import report_data, small_graph
from networks_deploy import random_weights
from PIL import Image
from random_graphs import random_graph, random_images, random_integer_model
from test_report import HOSTILE, Page

from spikenas import reference
from spikenas.data.split import Split
from spikenas.graph import Lif
from spikenas.run.answers import NEURONS, look_at_answers, thumbnail
from spikenas.run.report import render_report
from spikenas.snn.spike_record import record_spikes

NAMES = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.mark.parametrize("feedback", [False, True])
def test_recorded_spikes_are_those_of_the_reference(feedback: bool) -> None:
    graph = random_graph(3, feedback=feedback, static=True)
    model = random_integer_model(graph, 3)
    images = random_images(model.graph, 4, 3)
    outputs, spikes = record_spikes(model, images)
    trace = reference.run(model, images)
    np.testing.assert_array_equal(outputs, trace.outputs)
    assert set(spikes) == {node.name for node in model.graph.nodes if isinstance(node.layer, Lif)}
    for name, bits in spikes.items():
        expected = np.moveaxis(trace.values[name], 0, 1)
        np.testing.assert_array_equal(bits, expected.reshape(*expected.shape[:2], -1))


def answered(images: int = 240) -> tuple[Any, Split, np.ndarray[Any, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    model = random_weights(small_graph(), 0)
    pixels = rng.integers(0, 256, (images, 1, 8, 8)).astype(np.uint8)
    answers = reference.run(model, pixels).outputs.argmax(axis=1)
    labels = np.where(rng.random(images) < 0.6, answers, rng.integers(0, 10, images))
    test = Split(pixels, labels)
    return model, test, answers, look_at_answers(model, test, NAMES, answers)


def test_confusions_mistakes_and_samples_are_those_of_the_images() -> None:
    model, test, answers, found = answered()
    table = np.zeros((10, 10), int)
    for true, answer, count in found["confusion"]:
        table[true, answer] = count
    assert table.tolist() == [[int(((test.labels == i) & (answers == j)).sum()) for j in range(10)] for i in range(10)]
    pairs = [(one["true"], one["answered"]) for one in found["wrong"]]
    wrong = {(i, j) for i, j in zip(*np.nonzero(table), strict=True) if i != j}
    assert set(pairs[: len(wrong)]) == wrong  # one of each before a second of any
    for one in found["wrong"]:
        picture = Image.open(io.BytesIO(base64.b64decode(one["png"])))
        np.testing.assert_array_equal(np.asarray(picture), test.images[one["image"], 0])
    for one in found["samples"]:
        trace = reference.run(model, test.images[[one["image"]]])
        assert one["outputs"] == trace.outputs[0].tolist()
        for name, text in one["spikes"].items():
            spikes = trace.values[name][:, 0].reshape(3, -1)
            assert one["rates"][name] == pytest.approx(spikes.mean(), abs=1e-6)
            assert spikes.shape[1] <= NEURONS  # so all of them are shown
            bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=spikes.size)
            np.testing.assert_array_equal(bits.reshape(spikes.shape), spikes)


def test_a_network_without_mistakes_has_none() -> None:
    model, test, answers, _ = answered(40)
    found = look_at_answers(model, Split(test.images, answers), NAMES, answers)
    assert found["wrong"] == []
    assert all(true == answer for true, answer, _ in found["confusion"])


def test_thumbnails_are_small_and_in_colour() -> None:
    image = np.zeros((3, 64, 96), np.uint8)
    image[1] = 200
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail(image))))
    assert (picture.mode, picture.size, picture.getpixel((3, 3))) == ("RGB", (32, 21), (0, 200, 0))
    frames = np.stack([np.full((2, 8, 8), 100, np.uint8), np.full((2, 8, 8), 30, np.uint8)])
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail(frames))))
    assert (picture.mode, picture.getpixel((0, 0))) == ("L", 100)


def test_hostile_class_names_stay_text() -> None:
    model, test, answers, _ = answered(40)
    found = look_at_answers(model, test, (HOSTILE, *NAMES[1:]), answers)
    page = Page(render_report(report_data(answers=found)))
    assert len(page.scripts) == 3
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.data["answers"]["classes"][0] == HOSTILE
    assert HOSTILE in page.text
