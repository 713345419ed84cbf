"""What the integer network answered: counted, drawn, and clickable in a real browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from fakes_report import report_data, small_graph
from networks_deploy import random_weights
from PIL import Image
from random_graphs import random_graph, random_images, random_integer_model

from spikenas import reference
from spikenas.data.split import Split
from spikenas.graph import Lif
from spikenas.run.answers import NEURONS, look_at_answers, thumbnail
from spikenas.run.report import write_report
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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, dict[str, Any]]]:
    """A browser with the page of :func:`answered`."""
    found = answered()[3]
    folder: Path = tmp_path_factory.mktemp("answers")
    write_report(report_data(answers=found, spike_rates={"lif1": 0.2, "lif2": 0.1}), folder / "report.html")
    browser = Browser(folder / "profile")
    browser.open(folder / "report.html", width=390)
    yield browser, found
    browser.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; on Debian: apt-get install chromium")
class TestInTheBrowser:
    def test_a_field_of_the_matrix_shows_the_mistakes_behind_it(self, shown: tuple[Browser, dict[str, Any]]) -> None:
        browser, found = shown
        true, answer, count = max((row for row in found["confusion"] if row[0] != row[1]), key=lambda row: row[2])
        field = f'document.querySelector(\'.matrix [data-true="{true}"][data-answered="{answer}"]\')'
        browser.evaluate(f"{field}.click()")
        visible = browser.evaluate(
            "[...document.querySelectorAll('.mistakes figure')].filter(one => one.offsetParent)"
            ".map(one => one.innerText)"
        )
        assert [text.strip() for text in visible] == [f"{NAMES[true]} → {NAMES[answer]}"] * count
        said = browser.evaluate("document.getElementById('confusion').textContent")
        assert said.startswith(f"{NAMES[true]} taken for {NAMES[answer]}: {count} of ")
        browser.evaluate(f"{field}.click()")
        everything = "[...document.querySelectorAll('.mistakes figure')].filter(one => one.offsetParent).length"
        assert browser.evaluate(everything) == len(found["wrong"])
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        assert browser.problems == []

    def test_a_sample_draws_its_spikes(self, shown: tuple[Browser, dict[str, Any]]) -> None:
        browser, found = shown
        browser.evaluate("document.querySelectorAll('.samples button')[5].click()")
        sample = found["samples"][5]
        for name, neurons in found["layers"].items():
            drawn = browser.evaluate(
                f"(() => {{ const canvas = document.querySelector('[data-layer={name}] canvas');"
                "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
                "return [canvas.width, canvas.height, [...data].filter((_, i) => i % 4 === 3).map(Number)]; })()"
            )
            bits = np.unpackbits(np.frombuffer(base64.b64decode(sample["spikes"][name]), np.uint8), count=3 * neurons)
            assert drawn[:2] == [neurons, 3]
            assert [value == 255 for value in drawn[2]] == bits.astype(bool).tolist()
        assert f"answered {NAMES[sample['answered']]}" in browser.evaluate(
            "document.getElementById('sample').textContent"
        )
        assert browser.problems == []
