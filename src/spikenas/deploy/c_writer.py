"""Writes an integer model as C99: hand-written kernels, generated tables, one static arena, a Makefile.

The kernels in ``runtime/`` hold all logic; what is generated is data: the tables of :mod:`spikenas.deploy.tables`,
the sizes in ``network.h``, the names of classes, and, if asked for, sample images with the logits that they must give.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenas.cost.memory import Kernels, MemoryPlan, Schedule, plan_memory, plan_schedule
from spikenas.cost.steps import Reading, Window
from spikenas.deploy.table_rows import Constant, GroupRow, NeuronRow, StepRow, Tables, TermRow
from spikenas.deploy.tables import build_tables
from spikenas.errors import RunError
from spikenas.graph import Input
from spikenas.model import IntegerModel
from spikenas.reference import run

SOURCES = {
    Kernels.FAST: ("steps.c", "sums.c", "rows.c", "events.c", "dense.c", "currents.c", "neurons.c", "classify.c"),
    Kernels.COMPACT: ("compact.c", "sums.c", "currents.c", "classify.c"),
}
HEADERS = ("spikenas.h", "spikenas_runtime.h", "lanes.h")
EXTRAS = ("main.c", "Makefile", "README.md")
SAMPLES_MAX = 16


def write_firmware(
    model: IntegerModel,
    folder: Path,
    *,
    samples: npt.NDArray[np.uint8] | None = None,
    class_names: Sequence[str] = (),
    schedule: Schedule | None = None,
    kernels: Kernels = Kernels.FAST,
) -> MemoryPlan:
    """Write the C sources of ``model`` into ``folder``, which must be new or empty; returns the plan they follow.

    ``samples``: uint8 images as :func:`spikenas.reference.run` takes them; the first 16 are embedded, with the logits
    that the reference gives. ``class_names``: by default their numbers. ``schedule`` overrides the planner's choice;
    ``kernels``: see :func:`spikenas.cost.cost.choose_kernels`.
    Raises QuantizeError when the kernels cannot compute a layer, RunError when the folder holds something else.
    """
    plan = plan_memory(model.graph, kernels) if schedule is None else plan_schedule(model.graph, schedule, kernels)
    tables = build_tables(model, plan)
    _make_folder(folder)
    runtime = files("spikenas.deploy") / "runtime"
    for name in (*SOURCES[kernels], *HEADERS, *EXTRAS):
        (folder / name).write_text((runtime / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "network.h").write_text(_header(model, plan, tables), encoding="utf-8")
    (folder / "network.c").write_text(_network(tables, model, plan), encoding="utf-8")
    images = _no_images(model) if samples is None else samples[:SAMPLES_MAX]
    (folder / "samples.h").write_text(_samples(model, images), encoding="utf-8")
    (folder / "class_names.h").write_text(_class_names(class_names or class_numbers(model)), encoding="utf-8")
    return plan


def _make_folder(folder: Path) -> None:
    """An empty folder; one that holds firmware of an earlier export is emptied."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "spikenas_runtime.h").is_file():
            raise RunError(f"folder '{folder}' holds other files: name a new folder for the firmware")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _no_images(model: IntegerModel) -> npt.NDArray[np.uint8]:
    return np.zeros((0, *model.graph.sample_shape), np.uint8)


# --- network.h --------------------------------------------------------------------------------------------


def _header(model: IntegerModel, plan: MemoryPlan, tables: Tables) -> str:
    layer = model.graph[model.graph.input]
    assert isinstance(layer, Input)
    pixels = layer.shape[1] * layer.shape[2]
    numbers: dict[str, object] = {
        "SPIKENAS_CLASSES": model.graph.shapes[model.graph.output][0],
        "SPIKENAS_TIMESTEPS": model.graph.timesteps,
        "SPIKENAS_INPUT_BYTES": prod(model.graph.sample_shape),
        "SPIKENAS_ARENA_BYTES": plan.arena_bytes,
        "SPIKENAS_OUTPUT_SCALE": f"{model.output_scale!r} /* the only real number, for the user */",
        "SPK_ARENA_WORDS": plan.arena_bytes // 4,
        "SPK_STEP_COUNT": len(tables.steps),
        "SPK_LAYER_MAJOR": int(plan.schedule is Schedule.LAYER_MAJOR),
        "SPK_STREAMED": int(not layer.static),
        "SPK_INPUT_OFFSET": tables.input_offset,
        "SPK_INPUT_SLOT_MASK": tables.input_slot_mask,
        "SPK_MIRRORED": int(layer.mirrored),
        "SPK_INPUT_PIXELS": pixels,
        "SPK_INPUT_WIDTH": layer.shape[2],
        "SPK_INPUT_CHANNELS": layer.shape[0],
        "SPK_LOGITS_OFFSET": tables.logits_offset,
        "SPK_PATCH_MAX": 128,
        "SPK_COMPACT": int(plan.kernels is Kernels.COMPACT),
        **features(tables),
    }
    lines = "\n".join(f"#define {name} {value}" for name, value in numbers.items())
    return f"{_GENERATED}#ifndef SPIKENAS_NETWORK_H\n#define SPIKENAS_NETWORK_H\n\n{lines}\n\n#endif\n"


def features(tables: Tables) -> dict[str, int]:
    """Which parts of the kernels the network needs; the rest is not compiled."""
    terms, steps = tables.terms, tables.steps
    rows = [term for term in terms if term.reading is Reading.ROWS]
    neurons = [neuron for step in steps for neuron in step.neurons]
    present = {
        "ROWS": any(term.reading is Reading.ROWS for term in terms),
        "UNITS": any(term.reading is Reading.UNITS for term in terms),
        "DENSE": any(term.reading is Reading.DENSE for term in terms),
        "LINES": any(term.one_patch for term in terms),
        "PATCHES": any(term.reading is Reading.DENSE and not term.one_patch for term in terms),
        "SKIP": any(term.reading is Reading.SKIP for term in terms),
        "POOL": any(term.reading is Reading.POOL for term in terms),
        "POOLED": any(term.pool is not None if term.pixel_bytes else term.across * term.down > 1 for term in terms),
        "OVERLAP": any(term.tap_by_tap and term.pool is not None for term in rows),
        "RAGGED": any(term.tap_by_tap and term.pool is None for term in rows),
        **{f"UNIT_{size}": any(term.unit_bytes == size for term in rows) for size in (1, 2, 4)},
        "BITS_8": any(term.bits == 8 for term in terms),
        "BITS_4": any(term.bits == 4 or term.packing == 1 for term in terms),
        "BITS_2": any(term.bits == 2 or term.packing == 2 for term in terms),
        "LEFT": any(term.left for term in terms),
        "PARTIAL": any(not group.direct for step in steps for group in step.groups),
        "FIXED": any(0 < step.static_count < len(step.groups) for step in steps),
        "PLAIN": any(step.plain for step in steps),
        "IN_PLACE": any(step.in_place for step in steps),
        "NEURONS": bool(neurons),
        "UNPACKED": any(not neuron.packed for neuron in neurons),
        "CALM": any(neuron.calm for neuron in neurons),
        "NORMS": any(neuron.norm_bias != "0" for neuron in neurons),
        "MEMBRANES": any(neuron.membrane_bytes for neuron in neurons),
        "SMALL_MEMBRANES": any(neuron.membrane_bytes == 1 for neuron in neurons),
    }
    return {f"SPK_HAS_{name}": int(value) for name, value in present.items()}


# --- network.c --------------------------------------------------------------------------------------------

_GENERATED = "/* Generated by spikenas; do not edit. */\n"


def _network(tables: Tables, model: IntegerModel, plan: MemoryPlan) -> str:
    parts = [_GENERATED, _memory_map(plan), '#include "spikenas_runtime.h"\n']
    parts += [_constant(constant) for constant in tables.constants]
    for index, step in enumerate(tables.steps):
        parts.append(_step_tables(index, step))
    rows = ",\n".join(_step(index, step) for index, step in enumerate(tables.steps))
    parts.append(f"const spk_step spk_steps[SPK_STEP_COUNT] = {{\n{rows}\n}};\n")
    return "\n".join(parts)


def _memory_map(plan: MemoryPlan) -> str:
    rows = "\n".join(
        f" * {buffer.offset:8} {buffer.size_bytes:8}  {_comment(buffer.name)}, steps {buffer.first} to {buffer.last}"
        for buffer in sorted(plan.buffers, key=lambda b: (b.offset, b.first))
    )
    return f"/* The arena, {plan.schedule.value}: {plan.arena_bytes} bytes\n *   offset     size\n{rows}\n */"


def _constant(constant: Constant) -> str:
    numbers = constant.values.reshape(-1).tolist()
    words = [f"0x{n:08x}u" for n in numbers] if constant.type == "uint32_t" else [_signed(n) for n in numbers]
    per_line = 8 if constant.type == "uint32_t" else 16
    lines = ",\n    ".join(", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line))
    align = " __attribute__((aligned(4)))" if constant.type == "int8_t" else ""
    return f"static const {constant.type} {_name(constant.name)}[{len(words)}]{align} = {{\n    {lines}}};\n"


def _signed(number: int) -> str:
    return "(-2147483647 - 1)" if number == -(2**31) else str(number)


def _step_tables(index: int, step: StepRow) -> str:
    parts = []
    for number, group in enumerate(step.groups):
        terms = ",\n".join(_term(term) for term in group.terms)
        parts.append(f"static const spk_term terms_{index}_{number}[{len(group.terms)}] = {{\n{terms}\n}};\n")
    groups = ",\n".join(_group(f"terms_{index}_{number}", group) for number, group in enumerate(step.groups))
    parts.append(f"static const spk_group groups_{index}[{len(step.groups)}] = {{\n{groups}\n}};\n")
    if step.neurons:
        neurons = ",\n".join(_neuron(neuron) for neuron in step.neurons)
        parts.append(f"static const spk_neuron neurons_{index}[{len(step.neurons)}] = {{\n{neurons}\n}};\n")
    return "\n".join(parts)


def _step(index: int, step: StepRow) -> str:
    plain = ("sums", "fixed", "partial", "events", "height", "width", "channels", "blocked", "event_limit")
    flags = ("static_count", "plain", "in_place", "wide", "shift", "once")
    return _struct(
        [f"/* {index}: {_comment(step.name)} */"],
        groups=f"groups_{index}",
        neurons=f"neurons_{index}" if step.neurons else "0",
        bias=_name(step.bias),
        wide_bias=_name(step.wide_bias),
        store=_tuple(step.store),
        store_kind=f"SPK_STORE_{step.store_kind}",
        group_count=len(step.groups),
        neuron_count=len(step.neurons),
        **{name: int(getattr(step, name)) for name in (*plain, *flags)},
    )


def _group(terms: str, group: GroupRow) -> str:
    return _struct(
        terms=terms,
        bias=_name(group.bias),
        term_count=len(group.terms),
        channels=group.channels,
        vote=group.vote,
        shift=group.shift,
        direct=int(group.direct),
    )


def _term(term: TermRow) -> str:
    plain = ("height", "width", "channels", "delay", "unit_bytes", "units", "bits", "pool_shift", "left", "row_words")
    runs = (
        "tap_by_tap",
        "whole_blocks",
        "across",
        "down",
        "tap_bytes",
        "line_bytes",
        "tap_words",
        "line_words",
        "one_patch",
    )
    more = ("group_in", "group_out", "reciprocal", "first", "pixel_bytes", "packing")
    via = f", weights of {term.layer}" if term.layer else ""
    return _struct(
        [f"/* {_comment(term.source + via)} */"],
        place=_tuple(term.place),
        map_h=term.map[0],
        map_w=term.map[1],
        reading=f"SPK_{term.reading.name}",
        form=f"SPK_{term.form}",
        weights=_name(term.weights),
        window=_window(term.window),
        pool="{0, 0, 0, 0, 0, 0}" if term.pool is None else _window(term.pool),
        **{name: int(getattr(term, name)) for name in (*plain, *runs, *more)},
    )


def _neuron(neuron: NeuronRow) -> str:
    plain = ("membrane", "scratch", "decay", "limit", "subtract", "pixel_bytes", "membrane_bytes", "calm", "packed")
    return _struct(
        [f"/* {_comment(neuron.name)} */"],
        spikes=_tuple(neuron.place),
        threshold=_name(neuron.threshold),
        norm_bias=_name(neuron.norm_bias),
        norm_sign=_name(neuron.norm_sign),
        **{name: int(getattr(neuron, name)) for name in plain},
    )


def _struct(comment: Iterable[str] = (), **fields: Any) -> str:
    values = ", ".join(f".{name} = {value}" for name, value in fields.items() if value not in (0, "0"))
    return "    " + " ".join([*comment, f"{{{values or '0'}}}"])


def _tuple(place: tuple[int, int, int]) -> str:
    return f"{{{place[0]}u, {place[1]}u, {place[2]}u}}"


def _window(window: Window) -> str:
    numbers = (*window.kernel, *window.padding, *window.stride)
    return "{" + ", ".join(str(n) for n in numbers) + "}"


def _name(name: str) -> str:
    """A node's name as a part of a C identifier."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in name)


def _comment(text: str) -> str:
    """Text that cannot end a comment."""
    return "".join(c if c.isascii() and c.isprintable() and c not in "*\\?" else "_" for c in text)


# --- class_names.h ----------------------------------------------------------------------------------------


def class_numbers(model: IntegerModel) -> list[str]:
    """What classes are called that have no names."""
    return [str(number) for number in range(model.graph.shapes[model.graph.output][0])]


def _class_names(names: Sequence[str]) -> str:
    """A table of its own: the network does not read it, so who does not include it has nothing of it in flash."""
    lines = ",\n".join(f"    {_literal(name)}" for name in names)
    table = f"static const char *const spikenas_class_names[{len(names)}] = {{\n{lines}}};\n"
    return f"{_GENERATED}#ifndef SPIKENAS_CLASS_NAMES_H\n#define SPIKENAS_CLASS_NAMES_H\n\n{table}\n#endif\n"


def _literal(text: str) -> str:
    """A C string of the text in UTF-8, in characters that every compiler takes."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return '"' + "".join(plain) + '"'


# --- samples.h --------------------------------------------------------------------------------------------


def _samples(model: IntegerModel, images: npt.NDArray[np.uint8]) -> str:
    logits = run(model, images).outputs if len(images) else np.zeros((0, 0), np.int64)
    parts = [_GENERATED, "#include <stdint.h>\n", f"#define SAMPLE_COUNT {len(images)}\n"]
    if len(images):
        rows = _braces(images.reshape(len(images), -1))
        parts.append(f"static const uint8_t sample_images[SAMPLE_COUNT][SPIKENAS_INPUT_BYTES] = {rows};\n")
        parts.append(f"static const int32_t sample_logits[SAMPLE_COUNT][SPIKENAS_CLASSES] = {_braces(logits)};\n")
    return "\n".join(parts)


def _braces(rows: npt.NDArray[Any]) -> str:
    lines = ",\n".join("    {" + ", ".join(map(str, row)) + "}" for row in rows.tolist())
    return f"{{\n{lines}\n}}"
