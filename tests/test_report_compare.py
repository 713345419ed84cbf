"""Two runs on one page: their differences, and their Pareto fronts in a real browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from fakes_report import BUDGET, GENOTYPE, curve_rows, report_data, trial_rows
from PIL import Image
from test_report import HOSTILE, Page, branched_graph, hostile_data

from spikenas.cost.budget import Budget
from spikenas.run.report_compare import Compared, figure_lines, render_comparison, write_comparison


def pair() -> tuple[Compared, Compared]:
    first = report_data(trials=trial_rows(60))
    trials = [row | {"score": None if row["score"] is None else row["score"] + 1} for row in trial_rows(40)]
    second = report_data(
        branched_graph(feedback=True),
        Budget(BUDGET.flash_bytes, 8 * 1024),
        integer_accuracy=0.95,
        trials=trials,
        curve=curve_rows(5),
    )
    return Compared("small", {"seed": 0, "epochs": None}, first), Compared("big", {"seed": 0, "epochs": 5}, second)


def test_differences_are_those_of_the_second_run() -> None:
    first, second = pair()
    lines = {line.label: line for line in figure_lines(first.data, second.data)}
    assert lines["Test accuracy"].difference == "-2.2 points"  # 97.22% and 95%
    assert lines["Test accuracy"].tone == "bad"
    flash = second.data.cost.flash_bytes / first.data.cost.flash_bytes - 1
    assert lines["Flash"].difference == f"{100 * flash:+.1f}%"
    assert lines["Flash"].tone == ("bad" if flash > 0 else "good")
    assert (lines["Timesteps"].first, lines["Timesteps"].second) == ("3", "2")
    assert lines["Spike rate"].difference == ""  # equal


def test_the_page_says_what_was_told_differently() -> None:
    text = Page(render_comparison(*pair())).text
    assert "Told differently epochs default 5" in text
    assert "seed" not in text.partition("Told differently")[2].partition("Training")[0]


def test_runs_that_searched_nothing_have_no_fronts() -> None:
    first, second = (Compared(one.name, {}, report_data(trials=(), curve=())) for one in pair())
    sections = {
        attributes.get("id") for tag, attributes in Page(render_comparison(first, second)).tags if tag == "section"
    }
    assert sections == {"figures", "again", None}


def test_hostile_text_stays_text() -> None:
    hostile = Compared(HOSTILE, {HOSTILE: HOSTILE}, hostile_data())
    page = Page(render_comparison(hostile, pair()[1]))
    assert "img" not in {tag for tag, _ in page.tags}
    assert len(page.scripts) == 3
    assert page.text.count(HOSTILE) >= 5


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path]]:
    folder = tmp_path_factory.mktemp("compared")
    write_comparison(*pair(), folder / "compare.html")
    browser = Browser(folder / "profile")
    yield browser, folder / "compare.html"
    browser.close()


def front(rows: list[dict[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    """Brute force: least x, most y."""
    points = [(row[x], row[y]) for row in rows if row["state"] == "done" and row[x] is not None and row[y] is not None]
    return sorted((a, b) for a, b in points if not any((c <= a and d > b) or (c < a and d >= b) for c, d in points))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; on Debian: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_fronts_of_both_follow_the_axes(shown: tuple[Browser, Path], width: int) -> None:
    browser, page = shown
    browser.open(page, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    browser.evaluate(
        "for (const [axis, measure] of [['x', 'energy_nj'], ['y', 'accuracy']]) {"
        "const list = document.getElementById(`axis-${axis}`); list.value = measure;"
        "list.dispatchEvent(new Event('change')); }"
    )
    for run, one in enumerate(pair()):
        data = browser.evaluate(
            f"(() => {{ const d = plots.fronts.model.select_one('points_{run}').data_source.data;"
            "return [[...d.x], [...d.y], [...d.number]]; })()"
        )
        rows = list(one.data.trials)
        expected = front(rows, "energy_nj", "accuracy")
        assert data[0] == pytest.approx([x for x, _ in expected], rel=1e-5)
        assert data[1] == pytest.approx([100 * y for _, y in expected], rel=1e-5)
        assert [rows[number]["energy_nj"] for number in data[2]] == pytest.approx(data[0], rel=1e-5)
        chosen = browser.evaluate(f"[...plots.fronts.model.select_one('chosen_{run}').data_source.data.y]")
        assert chosen == pytest.approx(
            [100 * next(row["accuracy"] for row in rows if row["genotype"] == GENOTYPE)], rel=1e-5
        )
    picture = Image.open(io.BytesIO(browser.screenshot()))
    assert picture.width == width
    assert browser.evaluate("document.querySelectorAll('.picture svg .pill').length") == 3  # the second's, of its loop
    assert browser.problems == []
