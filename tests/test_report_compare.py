"""Two runs on one page: what differs."""

from __future__ import annotations

from fakes_report import BUDGET, curve_rows, report_data, trial_rows
from test_report import HOSTILE, Page, branched_graph, hostile_data

from spikenas.cost.budget import Budget
from spikenas.run.report_compare import Compared, figure_lines, render_comparison


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
