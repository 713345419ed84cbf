"""The report's sections on answers: who is taken for whom, with the images, and the spikes of some images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikenas.run.report_data import ReportData, Row
from spikenas.run.report_text import percent

LABELLED = 20  # so many classes have room for names and counts in the matrix
MOST_CONFUSED = 5


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often ``true`` was answered with ``answered``; ``share`` of the colour, in percent."""

    true: int
    answered: int
    count: int
    share: float
    title: str

    @property
    def right(self) -> bool:
        return self.true == self.answered


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail with its classes, as numbers and in words."""

    true: int
    answered: int
    png: str
    words: str
    title: str


@dataclass(frozen=True, slots=True)
class LayerRate:
    """A Lif in the raster: what is shown of it, and its rate over all test images, in words and as ``share``."""

    name: str
    neurons: str
    mean: str
    share: float


@dataclass(frozen=True, slots=True)
class AnswersSection:
    """All that the sections show; ``script`` is what the page's script works on."""

    classes: tuple[str, ...]
    labelled: bool
    images: int
    wrong_images: int
    matrix: list[Confusion]
    most: str
    mistakes: list[Picture]
    samples: list[Picture]
    layers: list[LayerRate]
    steps: int
    script: dict[str, Any]


def answers_section(data: ReportData) -> AnswersSection | None:
    """The sections, None where nobody looked at the answers."""
    found = data.answers
    if found is None:
        return None
    classes = tuple(found["class_names"])
    wrong = [row for row in found["confusion"] if row[0] != row[1]]
    samples, layers = found["samples"], found["layers"]
    highest = max([1e-9, *data.spike_rates.values(), *(rate for one in samples for rate in one["rates"].values())])
    return AnswersSection(
        classes=classes,
        labelled=len(classes) <= LABELLED,
        images=found["images"],
        wrong_images=sum(count for _, _, count in wrong),
        matrix=_matrix(found["confusion"], classes),
        most=", ".join(
            f"{classes[true]} for {classes[answered]} ({count:,})"
            for true, answered, count in sorted(wrong, key=lambda row: -row[2])[:MOST_CONFUSED]
        ),
        mistakes=[_picture(one, classes) for one in found["wrong"]],
        samples=[_picture(one, classes) for one in samples],
        layers=[_layer(name, shown, found["neurons"][name], data, highest) for name, shown in layers.items()],
        steps=data.graph.timesteps,
        script={
            "classes": classes,
            "steps": data.graph.timesteps,
            "highest": highest,
            "layers": layers,
            "samples": [
                {key: one[key] for key in ("image", "true", "answered", "outputs", "rates", "spikes")}
                for one in samples
            ],
        },
    )


def _matrix(rows: list[list[int]], classes: tuple[str, ...]) -> list[Confusion]:
    """Right answers as a share of their class, wrong ones beside the most frequent mistake."""
    totals = [0] * len(classes)
    for true, _, count in rows:
        totals[true] += count
    most = max([1, *(count for true, answered, count in rows if true != answered)])
    return [
        Confusion(
            true,
            answered,
            count,
            100 * count / (totals[true] if true == answered else most),
            f"{_taken(classes, true, answered)}: {count:,} of {totals[true]:,} images",
        )
        for true, answered, count in rows
    ]


def _taken(classes: tuple[str, ...], true: int, answered: int) -> str:
    return f"{classes[true]} taken for {classes[answered]}" if true != answered else f"{classes[true]} recognized"


def _picture(one: Row, classes: tuple[str, ...]) -> Picture:
    true, answered = one["true"], one["answered"]
    words = classes[true] if true == answered else f"{classes[true]} → {classes[answered]}"
    title = f"test image {one['image']}: {_taken(classes, true, answered)}"
    return Picture(true, answered, one["png"], words, title)


def _layer(name: str, shown: int, neurons: int, data: ReportData, highest: float) -> LayerRate:
    words = f"{neurons:,} neurons" if shown == neurons else f"{shown:,} of {neurons:,} neurons"
    rate = data.spike_rates.get(name, 0.0)
    return LayerRate(name, words, percent(rate), 100 * rate / highest)
