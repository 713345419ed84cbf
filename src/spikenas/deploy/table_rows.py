"""The tables that the C kernels execute, as values.

The dataclasses mirror the structs of ``runtime/spikenas_runtime.h`` field by field; arrays of constants are named
and collected in :attr:`Tables.constants`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from spikenas.cost.steps import POINT, Reading, Window

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Constant:
    """An array in flash."""

    name: str
    type: str
    values: Array


@dataclass(frozen=True, slots=True)
class TermRow:
    """``spk_term``; ``source`` and ``layer`` are for the reader, fields of the other kernels are 0."""

    source: str
    layer: str
    place: tuple[int, int, int]
    height: int
    width: int
    channels: int
    map: tuple[int, int]
    reading: Reading
    form: str
    delay: int
    unit_bytes: int = 0
    units: int = 0
    bits: int = 0
    pool_shift: int = 0
    left: int = 0
    tap_by_tap: bool = False
    whole_blocks: bool = False
    one_patch: bool = False
    across: int = 0
    down: int = 0
    tap_bytes: int = 0
    line_bytes: int = 0
    tap_words: int = 0
    line_words: int = 0
    row_words: int = 0
    group_in: int = 0
    group_out: int = 0
    reciprocal: int = 0
    first: int = 0
    pixel_bytes: int = 0
    packing: int = 0
    weights: str = "0"
    window: Window = POINT
    pool: Window | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """``spk_group``."""

    terms: tuple[TermRow, ...]
    bias: str
    channels: int
    vote: int
    shift: int
    direct: bool


@dataclass(frozen=True, slots=True)
class NeuronRow:
    """``spk_neuron``."""

    name: str
    place: tuple[int, int, int]
    membrane: int
    scratch: int
    threshold: str
    norm_bias: str
    norm_sign: str
    decay: int
    limit: int
    subtract: bool
    pixel_bytes: int
    membrane_bytes: int
    calm: bool
    packed: bool


@dataclass(frozen=True, slots=True)
class StepRow:
    """``spk_step``."""

    name: str
    groups: tuple[GroupRow, ...]
    neurons: tuple[NeuronRow, ...]
    bias: str
    wide_bias: str
    store: tuple[int, int, int]
    store_kind: str
    sums: int
    fixed: int
    partial: int
    events: int
    height: int
    width: int
    channels: int
    blocked: int
    event_limit: int
    static_count: int
    plain: bool
    in_place: bool
    wide: bool
    shift: int
    once: bool


@dataclass(frozen=True)
class Tables:
    """Everything that is generated."""

    steps: tuple[StepRow, ...]
    constants: tuple[Constant, ...]
    input_offset: int
    input_slot_mask: int
    logits_offset: int

    @property
    def terms(self) -> list[TermRow]:
        return [term for step in self.steps for group in step.groups for term in group.terms]
