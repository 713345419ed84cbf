"""The report's section on bits: accuracy against bytes, sensitivity by layer, ranges of weights and membranes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter

from spikenas.cost.words import spanned
from spikenas.run.report_charts import BLUE, GREY, ORANGE, Chart, chart, plain_figure, share_range
from spikenas.run.report_data import ReportData, Row

BAR_HEIGHT, BAR_WIDTH = 28, 4  # of a histogram's bars, in pixels


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    label: str
    bits: str
    membranes: str
    flash_bytes: int
    ram_bytes: int
    accuracy: float
    points_lost: float
    flips: float
    latency: str
    energy: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """A small picture of shares, and words about it; ``path``: an SVG path of ``width`` x BAR_HEIGHT."""

    name: str
    words: str
    path: str
    width: int
    saturated: str = ""


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """How much one layer's bits disturb the outputs: (bits, noise in words, points lost in words)."""

    name: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BitsSection:
    """All that the section shows; histograms are those of the setting ``shown``."""

    settings: list[Setting]
    chart: Chart
    noise_bits: tuple[int, ...]
    noises: list[LayerNoise]
    shown: str
    weights: list[Histogram]
    membranes: list[Histogram]


def bits_section(data: ReportData) -> BitsSection | None:
    """The section, None where ``spikenas quantize`` has left nothing."""
    if not data.quantized:
        return None
    measured = next((row for row in data.quantized if row["sensitivity"]), None)
    shown = measured or data.quantized[0]
    bits = tuple(sorted({one["bits"] for one in measured["sensitivity"]})) if measured else ()
    return BitsSection(
        settings=[_setting(row) for row in data.quantized],
        chart=_chart(data.quantized),
        noise_bits=bits,
        noises=_noises(measured["sensitivity"], bits) if measured else [],
        shown=shown["label"],
        weights=[_weights(one) for one in shown["weights"]],
        membranes=[_membranes(one) for one in shown["membrane_ranges"]],
    )


def _setting(row: Row) -> Setting:
    return Setting(
        label=row["label"],
        bits=_listed(row["bits"].values()),
        membranes=_listed(row["membranes"].values()),
        flash_bytes=row["flash_bytes"],
        ram_bytes=row["ram_bytes"],
        accuracy=row["integer_accuracy"],
        points_lost=row["points_lost"],
        flips=sum(row["flips"].values()) / max(1, len(row["flips"])),
        latency=_spanned(row.get("latency_ms_low"), row.get("latency_ms")),
        energy=_spanned(row.get("energy_core_uj_low"), row.get("energy_core_uj_high")),
    )


def _spanned(low: float | None, high: float | None) -> str:
    """Both ends; empty where a figure is not known, or of a setting of before."""
    return "" if low is None or high is None else spanned(low, high)


def _listed(bits: Sequence[int]) -> str:
    """One number where all are equal."""
    bits = list(bits)
    return str(bits[0]) if len(set(bits)) == 1 else ", ".join(map(str, bits))


def _chart(rows: Sequence[Row]) -> Chart:
    """Accuracy against flash: settings after training and with fine-tuning."""
    plot = plain_figure("accuracy_by_bits", 260, toolbar_location=None, x_axis_label="flash, KB")
    plot.yaxis.formatter = NumeralTickFormatter(format="0.0%")
    plot.xaxis.ticker.desired_num_ticks = 5
    plot.x_range.range_padding = 0.2  # room for the labels
    plot.y_range = share_range([row["integer_accuracy"] for row in rows])
    legend = []
    for tuned, words, color in ((False, "after training", BLUE), (True, "trained on with rounded weights", ORANGE)):
        chosen = [row for row in rows if bool(row["qat_epochs"]) is tuned]
        source = ColumnDataSource(
            {
                "flash": [row["flash_bytes"] / 1024 for row in chosen],
                "accuracy": [row["integer_accuracy"] for row in chosen],
                "label": [row["label"] for row in chosen],
            }
        )
        if chosen:
            drawn = plot.scatter("flash", "accuracy", source=source, color=color, size=9)
            tip = "<b>@label</b><br>@flash{0.0} KB, @accuracy{0.0%}"
            style = {"text_color": GREY, "text_font_size": "11px", "y_offset": -6, "text_align": "center"}
            plot.text("flash", "accuracy", text="label", source=source, **style)
            plot.add_tools(HoverTool(tooltips=tip, renderers=[drawn], show_arrow=False))
            legend.append((words, color))
    return chart("accuracy_by_bits", "Test accuracy of the integer network", plot, legend)


def _noises(rows: Sequence[Row], bits: tuple[int, ...]) -> list[LayerNoise]:
    names = list(dict.fromkeys(row["layer"] for row in rows))
    table = {(row["layer"], row["bits"]): row for row in rows}
    return [
        LayerNoise(
            name,
            tuple(
                (f"{table[name, b]['noise']:.2g}", f"{100 * table[name, b]['accuracy_lost']:.1f}")
                for b in bits
                if (name, b) in table
            ),
        )
        for name in names
    ]


def _weights(one: Row) -> Histogram:
    shift = f", shifted by {-one['shift']} to the left" if one["shift"] < 0 else ""
    words = f"{one['bits']} bits{shift}"
    return Histogram(
        one["name"], words, *_bars(one["histogram"]), saturated=f"{100 * one['clipped']:.2f}% at the limit"
    )


def _membranes(one: Row) -> Histogram:
    why = "no image can saturate them" if one["proven"] else f"{one['needs']} would do in calibration"
    words = f"{one['bits']} bits, {one['low']:,} to {one['high']:,}, threshold {one['threshold']:,}; {why}"
    return Histogram(one["name"], words, *_bars(one["histogram"]), saturated=f"{100 * one['saturated']:.3f}% saturate")


def _bars(shares: Sequence[float]) -> tuple[str, int]:
    """An SVG path of bars, the highest as high as the picture."""
    most = max([*shares, 1e-9])
    parts = [
        f"M{i * BAR_WIDTH} {BAR_HEIGHT}v{-BAR_HEIGHT * share / most:.1f}h{BAR_WIDTH - 1}V{BAR_HEIGHT}Z"
        for i, share in enumerate(shares)
        if share
    ]
    return "".join(parts), BAR_WIDTH * len(shares)
