"""The report's verdict and figures in words, numbers rounded for people."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from spikenas.cost.budget import format_bytes
from spikenas.cost.cost import Cost
from spikenas.cost.words import spanned
from spikenas.graph import Conv2d, Graph, Linear
from spikenas.run.report_data import ReportData

KB, MB = 1024, 1024**2
ENERGIES, TIMES = ("nJ", "µJ", "mJ"), ("ms", "s")
FITS, EXCEEDS, NEEDS = "Fits", "Does not fit", "Needs"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number under the verdict."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def verdict(data: ReportData) -> tuple[str, str]:
    """Whether it fits, and by how much: ("Fits", "21.3 of 32 KB flash, 9.1 of 16 KB RAM; 97.2% test accuracy ...")."""
    cost, budget = data.cost, data.budget
    parts = [
        f"{bytes_of(cost.flash_bytes, budget.flash_bytes)} flash{_excess(cost.flash_bytes, budget.flash_bytes)}",
        f"{bytes_of(cost.ram_bytes, budget.ram_bytes)} RAM{_excess(cost.ram_bytes, budget.ram_bytes)}",
    ]
    parts += [words for words in budget.violations(cost) if words.startswith(("energy", "latency"))]
    accuracy = f"{percent(data.integer_accuracy)} test accuracy {precision(data.graph)}"
    limited = any(limit is not None for limit in astuple(budget))
    word = EXCEEDS if budget.violations(cost) else FITS if limited else NEEDS
    return word, f"{', '.join(parts)}; {accuracy}"


def bytes_of(used: int, limit: int | None) -> str:
    """Bytes against a limit in one unit.

    >>> bytes_of(21_800, 32 * 1024), bytes_of(700_000, 1024**2), bytes_of(700, None)
    ('21.3 of 32 KB', '0.67 of 1 MB', '700 B')
    """
    if limit is None:
        return format_bytes(used)
    if limit < KB:
        return f"{used} of {limit} B"
    size, unit, digits = (MB, "MB", 2) if limit >= MB else (KB, "KB", 1)
    return f"{used / size:.{digits}f} of {round(limit / size, 2):g} {unit}"


def _excess(used: int, limit: int | None) -> str:
    return f" ({format_bytes(used - limit)} over)" if limit is not None and used > limit else ""


def percent(share: float) -> str:
    """A share as people read it.

    >>> percent(0.97222)
    '97.2%'
    """
    return f"{100 * share:.1f}%"


def precision(graph: Graph) -> str:
    """What the weights are made of: "as int8", or the bits where they differ."""
    bits = sorted({n.layer.weight_bits for n in graph.nodes if isinstance(n.layer, Conv2d | Linear)})
    if bits in ([], [8]):
        return "as int8"
    return f"as integers ({'- and '.join(map(str, bits))}-bit weights)"


def figures(data: ReportData) -> list[Figure]:
    """The numbers that follow the verdict, most wanted first."""
    cost, budget = data.cost, data.budget
    lost = 100 * (data.float_accuracy - data.integer_accuracy)
    return [
        Figure(
            "Test accuracy",
            f"{100 * data.integer_accuracy:.1f}",
            "%",
            f"{percent(data.float_accuracy)} in floating "
            f"point, {abs(lost):.1f} points {'lost' if lost >= 0 else 'won'} as integers",
        ),
        _memory("Flash", cost.flash_bytes, budget.flash_bytes),
        _memory("RAM", cost.ram_bytes, budget.ram_bytes),
        _chip_energy(cost),
        Figure("Energy at 45 nm", *energy_of(cost.energy_nj), _limited("of operations alone", budget.energy_nj, "nJ")),
        Figure(
            "Latency",
            *_span(cost.latency_ms_low, cost.latency_ms, TIMES),
            _limited(f"per inference, estimated for {data.target}", budget.latency_ms, "ms"),
        ),
        Figure(
            "Synaptic operations", *count_of(cost.synops), "caused by spikes; some percent high, as if without borders"
        ),
        Figure("MACs", *count_of(cost.macs), "multiply-accumulates on real values"),
        Figure(
            "Spike rate", f"{100 * data.spike_rate:.1f}", "%", f"of neurons at a step, {data.graph.timesteps} steps"
        ),
    ]


UNKNOWN = "unknown"
"""a value that a run's own page leaves out, and a comparison shows beside the other's"""


def _chip_energy(cost: Cost) -> Figure:
    if cost.energy_core_uj_low is None or cost.energy_core_uj_high is None:
        return Figure("Energy", UNKNOWN, "", f"no data-sheet current of {cost.target} here")
    span = _span(1000 * cost.energy_core_uj_low, 1000 * cost.energy_core_uj_high, ENERGIES)
    return Figure("Energy", *span, f"per inference on {cost.target}, estimated: cycles at its data-sheet current")


def _limited(note: str, limit: float | None, unit: str) -> str:
    """The note, and the limit that was set on this figure."""
    return note if limit is None else f"{note}; limit {limit:,g} {unit}"


def _memory(label: str, used: int, limit: int | None) -> Figure:
    value, unit = format_bytes(used).split()
    note = "no limit" if limit is None else f"{100 * used / limit:.0f}% of {format_bytes(limit)}"
    return Figure(label, value, unit, note)


def energy_of(energy_nj: float) -> tuple[str, str]:
    """Value and unit.

    >>> energy_of(312.4), energy_of(4563), energy_of(5.11e7)
    (('312', 'nJ'), ('4.56', 'µJ'), ('51.1', 'mJ'))
    """
    return _scaled(energy_nj, ENERGIES)


def count_of(number: float) -> tuple[str, str]:
    """Value and unit of a count.

    >>> count_of(812.0), count_of(43_210), count_of(4_029_000_000)
    (('812', ''), ('43.2', 'thousand'), ('4,030', 'million'))
    """
    return _scaled(number, ("", "thousand", "million"))


def _span(low: float, high: float, units: tuple[str, ...]) -> tuple[str, str]:
    """Both ends in the unit that suits the higher one."""
    unit = _scaled(high, units)[1]
    scale = 1000 ** units.index(unit)
    return spanned(low / scale, high / scale), unit


def _scaled(value: float, units: tuple[str, ...]) -> tuple[str, str]:
    """Three significant digits in the unit that keeps them short; units are a factor of 1000 apart."""
    scale = 0
    while value >= 999.5 and scale < len(units) - 1:
        value, scale = value / 1000, scale + 1
    return f"{float(f'{value:.3g}'):,g}", units[scale]


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.42), duration(75.3), duration(4030)
    ('0.4 s', '1 min 15 s', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
