"""The report as a file: what it says, what it draws, and that nothing in it reaches out or breaks out."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_report import BUDGET, GENOTYPE, curve_rows, report_data, searched_rows, small_graph, trial_rows
from hypothesis import given
from hypothesis import strategies as st
from networks_deploy import random_weights

from spikenas.cost.budget import Budget
from spikenas.cost.cost import estimate
from spikenas.cost.target import load_target
from spikenas.errors import RunError
from spikenas.graph import Add, Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output
from spikenas.run.folder import open_run
from spikenas.run.report import render_report, write_report
from spikenas.run.report_again import PAGE_FILE, keep_page, read_page
from spikenas.run.report_budget import budget_bars
from spikenas.run.report_cells import Block, blocks, cell_block
from spikenas.run.report_drawing import assign_lanes, draw
from spikenas.run.report_memory import memory_map
from spikenas.run.report_text import figures, verdict
from spikenas.run.report_trial_details import trial_details
from spikenas.run.report_trials import trial_scatter
from spikenas.space.genotype import Cell
from spikenas.space.space import load_space

VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text people see, and the text of each script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def branched_graph(feedback: bool = False) -> Graph:
    """Image -> conv -> (LIF -> conv, LIF -> conv) -> sum, which may also get itself one step later."""
    g = GraphBuilder()
    stem = g.add(Conv2d(4), g.add(Input((1, 8, 8)), name="image"), name="stem")
    spikes = g.add(Lif(), stem, name="s1")
    total = g.add(Add(), g.add(Conv2d(4), spikes, name="a"), g.add(Conv2d(4), spikes, name="b"), name="total")
    if feedback:
        g.feedback(total, total)
    features = g.add(Flatten(), g.add(Lif(), total, name="s2"))
    g.add(Output(), g.add(Mean(), g.add(Linear(10), features, name="readout")), name="out")
    return g.build(2)


# --- the verdict ------------------------------------------------------------------------------------------


def test_verdict_says_by_how_much_it_fits() -> None:
    data = report_data()
    cost = data.cost
    assert cost.flash_bytes == sum(layer.flash_bytes for layer in cost.layers)
    flash, ram = f"{cost.flash_bytes / 1024:.1f}", f"{cost.ram_bytes / 1024:.1f}"
    words = f"Fits: {flash} of 32 KB flash, {ram} of 16 KB RAM; 97.2% test accuracy as int8"
    page = Page(render_report(data))
    assert words in page.text
    assert page.text.index(words) < 200  # first of all
    assert ("header", {"class": "good"}) in page.tags


def test_verdict_says_by_how_much_it_does_not_fit() -> None:
    data = report_data(budget=Budget(2048, 64 * 1024, energy_nj=0.5))
    excess = data.cost.flash_bytes - 2048
    word, sentence = verdict(data)
    assert word == "Does not fit"
    assert sentence.startswith(f"{data.cost.flash_bytes / 1024:.1f} of 2 KB flash ({excess / 1024:.1f} KB over), ")
    assert re.search(r"of 64 KB RAM, energy \S+ nJ is over 0.5 nJ; 97.2% test", sentence)
    assert ("header", {"class": "bad"}) in Page(render_report(data)).tags


def test_without_a_limit_there_is_a_need_and_no_verdict() -> None:
    word, sentence = verdict(report_data(budget=Budget()))
    assert word == "Needs"
    assert re.match(r"\d\.\d KB flash, \d\.\d KB RAM; ", sentence)


def test_verdict_names_the_bits_when_they_are_not_8() -> None:
    space = load_space("embedded")
    graph = space.lower(space.parse("t3-b4-k3s1-8:333.33.3-pool"), (1, 8, 8), 10)
    assert verdict(report_data(graph))[1].endswith("97.2% test accuracy as integers (4- and 8-bit weights)")


def test_page_holds_every_stage_layer_and_how_to_repeat_it() -> None:
    data = report_data()
    text = Page(render_report(data)).text
    for words in ("search 1 min 8 s", "train 41.3 s", "1 min 52 s in all", "Seed 0", data.command, GENOTYPE):
        assert words in text
    for layer in data.cost.layers:
        assert (layer.name in text) == bool(layer.flash_bytes or layer.ram_bytes or layer.energy_nj)


@pytest.mark.parametrize("missing", [{"trials": ()}, {"curve": ()}, {"seconds": {}}, {"trials": trial_rows(1)}])
def test_what_is_not_known_is_left_out(missing: dict[str, Any]) -> None:
    page = Page(render_report(report_data(**missing)))
    sections = {attributes["id"] for tag, attributes in page.tags if tag == "section"}
    everything = {"budget", "stages", "training", "network", "memory", "search", "layers", "again"}
    gone = {"trials": "search", "curve": "training", "seconds": "stages"}
    assert sections == everything - {gone[name] for name, value in missing.items() if not value}


def test_the_learning_curve_says_where_it_is_on_rates() -> None:
    rows = [{**row, "on_rates": row["epoch"] <= 2} for row in curve_rows(4)]
    assert "on rates" not in " ".join(Page(render_report(report_data())).words)
    assert "Accuracy, on rates up to epoch 2" in " ".join(Page(render_report(report_data(curve=rows))).words)


# --- alone and harmless -----------------------------------------------------------------------------------


def test_page_reaches_for_nothing() -> None:
    html = render_report(report_data())
    for tag, attributes in Page(html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    styles = " ".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "@import" not in styles
    assert "url(" not in styles
    assert "Content-Security-Policy" in html
    assert "default-src 'none'" in html


HOSTILE = """</script><script>window.harmed=1</script><img src=x onerror=window.harmed=1>"'&{{7*7}}<!--"""


def hostile_data() -> Any:
    trials = trial_rows(8)
    for row in trials:
        row |= {"genotype": HOSTILE, "measure": HOSTILE, "reason": HOSTILE}
    return report_data(
        genotype=HOSTILE,
        title=HOSTILE,
        data=HOSTILE,
        space=HOSTILE,
        target=HOSTILE,
        command=HOSTILE,
        seconds={HOSTILE: 1.0},
        trials=trials,
    )


def test_hostile_text_stays_text() -> None:
    harmless, hostile = Page(render_report(report_data(trials=trial_rows(8)))), Page(render_report(hostile_data()))
    assert "img" not in {tag for tag, _ in hostile.tags}
    assert len(hostile.scripts) == len(harmless.scripts) == 3
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert hostile.text.count(HOSTILE) >= 5
    assert hostile.data["trials"]["chosen"] == HOSTILE


def test_a_study_of_10_000_trials_stays_below_5_megabytes(big_page: Path) -> None:
    assert big_page.stat().st_size < 5_000_000
    text = Page(big_page.read_text(encoding="utf-8")).text
    assert "10,000 trials: 2,500 trained, 5,000 only scored, 2,500 refused" in text


def test_writing_replaces_the_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(report_data(), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RunError, match="cannot be written"):
        write_report(report_data(), tmp_path / "nowhere" / "report.html")


def test_what_is_kept_of_a_page_comes_back(tmp_path: Path) -> None:
    data = report_data(spike_rates={"lif1": 0.31}, answers={"class_names": ["a", "b"]}, quantized=[], certificates=[])
    integer = random_weights(data.graph, 0)
    integer.weights["conv2.shift"][...] = -2  # which costs time, so that a page without it would differ
    cost = estimate(data.graph, load_target(data.target), data.spike_rates, shifted=integer.shifted_left)
    data = replace(data, cost=cost)
    with open_run(tmp_path / "run", {}) as folder:
        with pytest.raises(RunError, match="has no report to write again"):
            read_page(folder.path)
        keep_page(folder.path, data, integer)
    assert read_page(folder.path) == data
    kept = json.loads((folder.path / PAGE_FILE).read_text())
    (folder.path / PAGE_FILE).write_text(json.dumps(kept | {"aura": 1}))
    with pytest.raises(RunError, match="'aura' is unknown: another version"):
        read_page(folder.path)


# --- bars and map -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [BUDGET, Budget(2048, 512), Budget()])
def test_bars_stack_up_to_the_cost(budget: Budget) -> None:
    data = report_data(budget=budget)
    for bar, used, limit in zip(
        budget_bars(data),
        (data.cost.flash_bytes, data.cost.ram_bytes),
        (budget.flash_bytes, budget.ram_bytes),
        strict=True,
    ):
        assert sum(part.size_bytes for part in bar.parts) == used
        scale = max(used, limit or 0)
        assert sum(part.share for part in bar.parts) == pytest.approx(100 * used / scale)
        assert bar.limit_share == (None if limit is None else pytest.approx(100 * limit / scale))
        assert bar.over == (limit is not None and used > limit)


@pytest.mark.parametrize("graph", [small_graph(), branched_graph(), branched_graph(feedback=True)])
def test_map_shows_the_plan(graph: Graph) -> None:
    data = report_data(graph)
    plan, picture = data.cost.plan, memory_map(data)
    live = [sum(b.size_bytes for b in plan.buffers if b.first <= i <= b.last) for i in range(len(plan.steps))]
    assert [row.peak for row in picture.rows].index(True) == live.index(max(live))
    assert sum(row.peak for row in picture.rows) == 1
    scale = picture.stack.width / plan.stack_bytes
    assert picture.stack.left + picture.stack.width == pytest.approx(scale * plan.ram_bytes)
    for box, buffer in zip(picture.boxes, plan.buffers, strict=True):
        assert (box.name, box.top, box.top + box.height - 1) == (buffer.name, buffer.first, buffer.last)
        assert (box.left, box.width) == (
            pytest.approx(scale * buffer.offset),
            pytest.approx(scale * buffer.size_bytes),
        )
    assert picture.limit is None  # 16 KB are far from what it needs
    near = memory_map(report_data(graph, Budget(ram_bytes=data.cost.ram_bytes - 1)))
    assert near.limit == pytest.approx(100 * (data.cost.ram_bytes - 1) / (1.02 * data.cost.ram_bytes))


# --- the network ------------------------------------------------------------------------------------------

WORDS = {
    "skip": (),
    "avgpool3x3": ("avg pool 3×3",),
    "lif_conv1x1": ("LIF", "conv 1×1"),
    "lif_conv3x3": ("LIF", "conv 3×3"),
    "lif_conv5x5": ("LIF", "conv 5×5"),
    "lif_dwconv1x1": ("LIF", "depthwise 1×1"),
    "lif_dwconv3x3": ("LIF", "depthwise 3×3"),
}


def connections_of(cell: Cell) -> list[tuple[str, str, tuple[str, ...], int]]:
    return sorted(
        (str(edge.source), str(edge.target), WORDS[edge.operation], int(edge.source > edge.target))
        for edge in cell.canonical.connections
    )


def connections_drawn(block: Block) -> list[tuple[str, str, tuple[str, ...], int]]:
    label = dict(zip(block.values, block.labels, strict=True))
    return sorted((label[wire.source], label[wire.target], wire.words, wire.delay) for wire in block.wires)


@pytest.mark.parametrize(
    "text", ["0303 0030 2002 0200/p4", "0302 0030 3003 0000/p2", "0303 0033 0002 0000/p4", "0333 0033 0003 0000/p2"]
)
def test_cells_of_snasnet_are_drawn_as_their_matrix_says(text: str) -> None:
    space = load_space("snasnet")
    genotype = space.parse(text)
    pieces = blocks(space.lower(genotype, (3, 32, 32), 10))
    assert [block.title for block in pieces] == ["Stem", "Cell 1", "Transition", "Cell 2", "Head"]
    expected = connections_of(genotype.cells[0])
    assert connections_drawn(pieces[1]) == connections_drawn(pieces[3]) == expected
    assert [wire.words for wire in pieces[2].wires] == [("norm", "LIF", "conv 3×3"), ("avg pool 2×2",)]


def test_cells_of_embedded_networks_are_drawn_as_their_genotypes_say() -> None:
    space, rng, drawn = load_space("embedded"), np.random.default_rng(0), 0
    for _ in range(60):
        genotype = space.sample(rng)
        cells = {b.title: b for b in blocks(space.lower(genotype, (3, 32, 32), 10)) if b.title.startswith("Cell")}
        for number, cell in enumerate(genotype.cells, start=1):
            block = cells.get(f"Cell {number}")
            # A pooling at a cell's end is named after what it reads, and may be drawn as part of the neighbour.
            if block is not None and "" not in block.labels and len(block.wires) == len(connections_of(cell)):
                assert connections_drawn(block) == connections_of(cell)
                drawn += 1
    assert drawn > 60


@pytest.mark.parametrize("name", ["embedded", "snasnet", "spikenas", "spikenas-bench"])
def test_a_cell_of_a_genotype_is_drawn_as_its_network_is(name: str) -> None:
    space, rng, compared = load_space(name), np.random.default_rng(1), 0
    for _ in range(20):
        genotype = space.sample(rng)
        drawn = {block.title: block for block in blocks(space.lower(genotype, (3, 32, 32), 10))}
        for number, cell in enumerate(genotype.cells, start=1):
            network, alone = drawn.get(f"Cell {number}"), cell_block(cell)
            if network is not None and "" not in network.labels and len(network.wires) == len(alone.wires):
                assert connections_drawn(alone) == connections_drawn(network)
                assert sorted(wire.spiking for wire in alone.wires) == sorted(wire.spiking for wire in network.wires)
                compared += 1
    assert compared >= 6


def test_a_chain_is_one_block() -> None:
    (block,) = blocks(small_graph())
    assert block.title == "Network"
    assert not block.branched
    assert [wire.words for wire in block.wires] == [
        ("conv 3×3",),
        ("LIF", "conv 3×3 / 2"),
        ("LIF", "linear 10", "mean"),
    ]
    assert block.shapes == ("1×8×8", "8×8×8", "8×4×4", "10")


def test_a_sum_that_feeds_itself_is_a_loop() -> None:
    block = blocks(branched_graph(feedback=True))[1]
    assert block.title == "Branches"
    assert sorted((wire.source, wire.target, wire.delay) for wire in block.wires) == [
        ("stem", "total", 0),
        ("stem", "total", 0),
        ("total", "total", 1),
    ]
    picture = draw(block)
    assert [line.kind for line in picture.lines].count("delayed") == 1


spans = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()).map(lambda s: (min(s[:2]), max(s[:2]), s[2])),
    min_size=1,
    max_size=14,
)


@given(spans)
def test_wires_in_a_lane_do_not_overlap(wanted: list[tuple[int, int, bool]]) -> None:
    lanes = assign_lanes(wanted)
    for (a, lane_a), (b, lane_b) in itertools.combinations(zip(wanted, lanes, strict=True), 2):
        if lane_a == lane_b:
            assert set(_rows(a)).isdisjoint(_rows(b))
    for (low, high, forward), lane in zip(wanted, lanes, strict=True):
        assert lane != 0 or (high - low == 1 and forward)  # nothing runs through a dot


def _rows(span: tuple[int, int, bool]) -> Sequence[int]:
    """Gaps between dots that a span covers; a loop takes the one below its dot."""
    return range(span[0], max(span[1], span[0] + 1))


@pytest.mark.parametrize("text", ["0333 0033 0003 0000/p2", "0303 0030 2002 0200/p4"])
def test_pills_lie_inside_the_picture_and_apart(text: str) -> None:
    space = load_space("snasnet")
    for block in blocks(space.lower(space.parse(text), (3, 32, 32), 10)):
        if not block.branched:
            continue
        picture = draw(block)
        boxes = [(p.x - p.width / 2, p.y - p.height / 2, p.x + p.width / 2, p.y + p.height / 2) for p in picture.lines]
        boxes += [(d.x - 13, d.y - 13, d.x + 13, d.y + 13) for d in picture.dots]
        for left, top, right, bottom in boxes:
            assert left >= 0
            assert top >= 0
            assert right <= picture.width
            assert bottom <= picture.height
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


# --- trials -----------------------------------------------------------------------------------------------


def test_fronts_are_those_of_brute_force() -> None:
    rows = trial_rows(60)
    scatter = trial_scatter(report_data(trials=rows))
    assert scatter is not None
    done = [row for row in rows if row["state"] == "done" and row["score"] is not None]
    best = [
        (a["flash_bytes"] / 1024, a["score"])
        for a in done
        if not any(
            b["flash_bytes"] <= a["flash_bytes"]
            and b["score"] >= a["score"]
            and (b["flash_bytes"] < a["flash_bytes"] or b["score"] > a["score"])
            for b in done
        )
    ]
    xs, ys = scatter.fronts["flash_bytes|score"]
    np.testing.assert_allclose(np.array([xs, ys]).T, sorted(best), rtol=1e-5)
    assert (scatter.x, scatter.y) == ("flash_bytes", "score")
    assert scatter.budget == {"flash_bytes": 32.0, "ram_bytes": 16.0}


def test_a_training_has_the_score_of_its_network() -> None:
    scored, trained = trial_rows(1)[0], trial_rows(4)[3]
    trained["genotype"] = scored["genotype"]
    scatter = trial_scatter(report_data(trials=[scored, trained]))
    assert scatter is not None
    assert scatter.fronts["score|accuracy"] == [
        [pytest.approx(scored["score"], rel=1e-5)],
        [pytest.approx(100 * trained["accuracy"], rel=1e-5)],
    ]


def test_without_two_figures_there_is_nothing_to_scatter() -> None:
    assert trial_scatter(report_data(trials=[{"number": 0, "genotype": "a", "score": 1.0}])) is None


def test_details_have_every_cell_and_what_the_network_costs() -> None:
    rows = searched_rows(40)
    data = report_data(trials=rows)
    details = json.loads(gzip.decompress(base64.b64decode(trial_details(data, best=[]))))
    space, target = load_space("embedded"), load_target(data.target)
    assert set(details["cells"]) == set(details["layers"]) == {row["genotype"] for row in rows}
    for text, layers in details["layers"].items():
        genotype = space.parse(text)
        for number, cell in zip(details["cells"][text], genotype.cells, strict=True):
            assert len(details["pictures"][number]["lines"]) == len(cell.canonical.connections)
        limits = {"flash_bytes": BUDGET.flash_bytes, "ram_bytes": BUDGET.ram_bytes}
        cost = estimate(space.lower(genotype, (1, 8, 8), 10), target, **limits)  # type: ignore[arg-type]
        assert sum(flash for _, _, flash, *_ in layers) == cost.flash_bytes
        assert sum(energy for *_, energy in layers) == pytest.approx(cost.energy_nj, abs=0.05 * len(layers))


def test_the_most_interesting_trials_have_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikenas.run.report_trial_details.LAYERED", 12)
    rows = searched_rows(40)
    details = json.loads(gzip.decompress(base64.b64decode(trial_details(report_data(trials=rows), best=[0]))))
    trained = {row["genotype"] for row in rows if row["accuracy"] is not None}
    assert trained | {rows[0]["genotype"]} < set(details["layers"])
    assert (len(trained), len(details["layers"])) == (10, 12)
    assert len(details["cells"]) == 40


def test_a_certificate_in_the_folder_is_shown() -> None:
    row = {
        **{f"{rung}_{what}": 5 for rung in ("host", "chip") for what in ("images", "identical")},
        **{"target": "nrf52840", "difference": None, "qemu_images": 0, "qemu_identical": 0},
        **{"flash_bytes": 8 * 1024, "flash_budget_bytes": 32 * 1024, "ram_bytes": 512, "ram_budget_bytes": 16 * 1024},
        **{
            "latency_ms_low": 298.2,
            "latency_ms_high": 423.6,
            "energy_core_uj_low": 3198.4,
            "energy_core_uj_high": 4440.0,
        },
    }
    text = Page(render_report(report_data(certificates=[row]))).text
    shown = "fits, all bits equal 5 of 5 5 of 5 not run 8.0 of 32 KB 0.5 of 16 KB 298 to 424 3,200 to 4,440"
    assert shown in text
    assert "Verification" not in Page(render_report(report_data())).text


def test_the_energy_of_the_chip_comes_first_where_it_is_known() -> None:
    graph = small_graph()
    cost = estimate(graph, load_target("nrf52840"), {})
    known = figures(report_data(cost=cost, budget=Budget(energy_nj=900)))
    assert [one.label for one in known[3:6]] == ["Energy", "Energy at 45 nm", "Latency"]
    cycles = 1.45 * cost.instructions
    assert known[3].value.endswith(f" to {float(f'{cycles * 156e-6:.3g}'):g}")
    assert known[3].unit == "µJ"
    assert known[4].note == "of operations alone; limit 900 nJ"
    assert figures(report_data())[3].value == "unknown"
    assert "unknown" not in Page(render_report(report_data())).text
