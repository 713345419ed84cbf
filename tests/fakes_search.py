"""A space of digit strings whose best member is known, and an evaluator that needs no network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from spikenas.errors import GenotypeError, NothingFits, SpikenasError
from spikenas.graph import Add, Edge, Flatten, Graph, Input, Lif, Linear, Mean, Node, Output, Shape
from spikenas.model import Model
from spikenas.run.evaluator import Job, Outcome
from spikenas.search.trial import TRAIN, Trial, TrialState

Digits = tuple[int, ...]


@dataclass(frozen=True)
class DigitSpace:
    """Strings of ``length`` digits below ``base``."""

    length: int = 6
    base: int = 4
    name: str = "digits"
    summary: str = "strings of digits"
    operations: tuple[str, ...] = ()

    def count(self) -> int:
        return self.base**self.length

    def enumerate(self) -> Iterator[Digits]:
        for index in range(self.count()):
            yield tuple(index // self.base**place % self.base for place in range(self.length))

    def sample(self, rng: np.random.Generator) -> Digits:
        return self.decode(rng.integers(0, self.base, self.length))

    def mutate(self, genotype: Digits, rng: np.random.Generator) -> Digits:
        digits = list(genotype)
        place = int(rng.integers(self.length))
        digits[place] = (digits[place] + int(rng.integers(1, self.base))) % self.base
        return tuple(digits)

    def crossover(self, first: Digits, second: Digits, rng: np.random.Generator) -> Digits:
        return tuple(a if rng.random() < 0.5 else b for a, b in zip(first, second, strict=True))

    def canonical(self, genotype: Digits) -> Digits:
        return genotype

    def parse(self, text: str) -> Digits:
        if len(text) != self.length or not text.isdigit():
            raise GenotypeError(f"'{text}' is not {self.length} digits")
        return tuple(int(digit) for digit in text)

    def format(self, genotype: Digits) -> str:
        return "".join(map(str, genotype))

    def lower(self, genotype: Digits, input_shape: Shape, classes: int) -> Graph:
        raise NotImplementedError

    def smallest(self, input_shape: Shape, classes: int) -> Digits:
        return (0,) * self.length

    def bounds(self) -> npt.NDArray[np.int64]:
        return np.full(self.length, self.base)

    def encode(self, genotype: Digits) -> npt.NDArray[np.int64]:
        return np.array(genotype)

    def decode(self, genes: npt.NDArray[np.int64]) -> Digits:
        return tuple(int(gene) for gene in genes)


def digit_score(genotype: str) -> float:
    """Every digit counts, those further right for more."""
    return sum(int(digit) * (1 + place / 7) for place, digit in enumerate(genotype))


def digit_bytes(genotype: str) -> int:
    return 100 + 100 * sum(map(int, genotype))


@dataclass(frozen=True)
class DigitEvaluator:
    """Score and bytes of a string; a training's model carries the sum over everything trained before."""

    limit_bytes: int = 1_000
    failing: str = "?"
    pause: float = 0.0

    def __call__(self, job: Job) -> Outcome:
        genotype, measure = job.proposal.genotype, job.proposal.measure
        time.sleep(self.pause)
        size = digit_bytes(genotype)
        trial = Trial(job.number, genotype, measure, job.proposal.epochs, flash_bytes=size)
        use = size / self.limit_bytes
        if self.failing in genotype:
            return Outcome(replace(trial, state=TrialState.FAILED, reason="asked to fail"))
        if use > 1:
            return Outcome(replace(trial, state=TrialState.REJECTED, budget_use=use, reason="too large"))
        if measure != TRAIN:
            return Outcome(replace(trial, budget_use=use, score=digit_score(genotype)))
        before = 0.0 if job.start is None else float(job.start.weights["fc.bias"][0])
        learned = before + digit_score(genotype) * (job.proposal.epochs - job.proposal.start)
        curve = [{"accuracy": learned / 1e3, "epoch_of_round": float(e)} for e in range(job.proposal.epochs)]
        return Outcome(replace(trial, budget_use=use, accuracy=learned / 1e3), curve, tiny_model(learned))

    def nothing_fits(self, trials: Sequence[Trial]) -> SpikenasError:
        return NothingFits(f"{len(trials)} tried")


def tiny_graph(timesteps: int = 2) -> Graph:
    nodes = (
        Node("image", Input((1, 2, 2))),
        Node("sum", Add()),
        Node("lif", Lif()),
        Node("flat", Flatten()),
        Node("fc", Linear(3)),
        Node("mean", Mean()),
        Node("out", Output()),
    )
    names = [node.name for node in nodes]
    return Graph(timesteps, nodes, tuple(Edge(a, b) for a, b in pairwise(names)))


def tiny_model(value: float) -> Model:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4) / 16
    return Model(tiny_graph(), {"fc.weight": weight, "fc.bias": np.full(3, value, np.float32)})


any_trial = st.builds(
    Trial,
    number=st.integers(0, 10**9),
    genotype=st.text(),
    measure=st.sampled_from(["structure", TRAIN]),
    epochs=st.integers(0, 100),
    state=st.sampled_from(TrialState),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    accuracy=st.none() | st.floats(0, 1),
    budget_use=st.none() | st.floats(0, 1e9),
    flash_bytes=st.none() | st.integers(0, 2**40),
    ram_bytes=st.none() | st.integers(0, 2**40),
    macs=st.none() | st.integers(0, 2**50),
    synops=st.none() | st.floats(0, 1e30),
    energy_nj=st.none() | st.floats(0, 1e30),
    latency_ms=st.none() | st.floats(0, 1e30),
    seconds=st.floats(0, 1e6),
    reason=st.text(),
)
