"""From an integer model and its memory plan to the tables that the C kernels execute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikenas.cost.flash import is_one_patch, stored_bits
from spikenas.cost.memory import (
    CHANNEL_BLOCK,
    EVENT_LIST_MAX,
    PATCH_MAX,
    SCRATCH,
    Buffer,
    Kernels,
    MemoryPlan,
    Schedule,
    blocked,
    is_alone,
    max_events,
    packed_bytes,
    scratch,
    value_bytes,
)
from spikenas.cost.steps import POINT, Group, Reading, Step, Term, groups, map_size, stored_nodes
from spikenas.deploy.bounds import Bounds, StepBounds, layer_bias, moved_weights, stays_within, step_bounds
from spikenas.deploy.packing import pack_dense, pack_stream, pairs, unit_weights
from spikenas.deploy.reciprocals import mean_reciprocal, quotient_reciprocal
from spikenas.deploy.row_arrays import RowArrays
from spikenas.deploy.table_rows import Array, Constant, GroupRow, NeuronRow, StepRow, Tables, TermRow
from spikenas.errors import QuantizeError
from spikenas.graph import Conv2d, Input, Kind, Lif, Linear, Reset
from spikenas.model import CURRENT_MAX, CURRENT_MIN, IntegerModel, decay_q

UNIT_BITS = 32  # spikes that the event kernel reads at once
SIZE_MAX = 2**15 - 1
BYTE_MAX = 127
WEIGHT_PACKING = {8: 0, 4: 1, 2: 2}  # a byte holds 2**packing weights


def build_tables(model: IntegerModel, plan: MemoryPlan) -> Tables:
    """The tables of a model on a plan. Raises QuantizeError, naming the node, when the kernels cannot compute it."""
    graph = model.graph
    _check(model)
    stored = stored_nodes(graph)
    work = [groups(graph, step, stored) for step in plan.steps]
    bounds = step_bounds(model, plan.steps, work)
    writer = _Writer(model, plan)
    steps = tuple(writer.step(index, work[index], bounds[index]) for index in range(len(plan.steps)))
    input_offset, _, slot_mask = writer.place(graph.input)
    return Tables(steps, tuple(writer.constants), input_offset, slot_mask, writer.place(graph.output)[0])


def _check(model: IntegerModel) -> None:
    for node in model.graph.nodes:
        layer = node.layer
        if isinstance(layer, Conv2d | Linear) and not stored_bits(layer.weight_bits):
            raise QuantizeError(f"node '{node.name}' has {layer.weight_bits}-bit weights: the C kernels take at most 8")
        if isinstance(layer, Lif) and layer.membrane_bits > 16:
            raise QuantizeError(
                f"node '{node.name}' has {layer.membrane_bits}-bit membranes: the C kernels take at most 16"
            )
        for size in model.graph.shapes[node.name]:
            if size > SIZE_MAX and not isinstance(layer, Input):
                raise QuantizeError(f"node '{node.name}': {size} features are more than the C kernels' {SIZE_MAX}")


@dataclass
class _Writer:
    """Collects constants while it fills the rows of the tables."""

    model: IntegerModel
    plan: MemoryPlan
    constants: list[Constant] = field(default_factory=list)

    @property
    def layer_major(self) -> bool:
        return self.plan.schedule is Schedule.LAYER_MAJOR

    @property
    def fast(self) -> bool:
        return self.plan.kernels is Kernels.FAST

    @property
    def block(self) -> int:
        """Channels to which thresholds are padded."""
        return CHANNEL_BLOCK if self.fast else 2

    def step(self, index: int, work: tuple[Group, ...], bounds: StepBounds) -> StepRow:
        graph, step = self.model.graph, self.plan.steps[index]
        shape = graph.shapes[step.node]
        logits = step.node == graph.output
        alone = is_alone(work)
        _, shift = self.model.shifts(work[0].layer) if alone and work[0].layer else (0, 0)
        reads_real = any(term.reading is Reading.DENSE for group in work for term in group.terms)
        narrow = bounds.total.within(CURRENT_MIN, CURRENT_MAX)
        wide = not self.fast or logits or not narrow or shift > 0 or (alone and reads_real)
        rows = RowArrays(self.model, index, self.add)
        group_rows = tuple(self._group(rows, step, group, alone, wide) for group in work)
        rows.write()
        part = scratch(graph, step, work, self.plan.schedule, self.plan.kernels)
        sums = self._buffer(f"{step.node}.{SCRATCH}").offset
        fixed, partial = sums + part.sums, sums + part.sums + part.fixed
        events, membranes = partial + part.partial, partial + part.partial + part.events
        lifs = [name for name in step.writes if isinstance(graph[name], Lif)]
        in_scratch = 2 * blocked(shape[0]) if self.layer_major else 0
        neurons = tuple(self._neuron(name, membranes + i * in_scratch, bounds.total) for i, name in enumerate(lifs))
        stores = step.node in step.writes and not isinstance(graph[step.node], Lif)
        height, width = map_size(shape)
        possible = sum(max_events(graph, group) for group in work)
        static = sum(group.static for group in work)
        return StepRow(
            name=step.node,
            groups=group_rows,
            neurons=neurons,
            store=self.place(step.node) if stores else (0, 0, 0),
            store_kind="LOGITS" if logits else "CURRENT" if stores else "NOTHING",
            sums=sums,
            fixed=fixed if self.fast else 0,
            partial=partial,
            events=events if self.fast else 0,
            height=height,
            width=width,
            channels=shape[0],
            blocked=8 * -(-shape[0] // 8) if self.fast else 0,
            event_limit=_event_limit(possible) if self.fast else 0,
            static_count=static if self.layer_major or static == len(work) else 0,
            plain=not wide and _is_plain(group_rows),
            in_place=stores and not logits and not wide and shape[0] % 16 == 0 and static in (0, len(work)),
            wide=wide and self.fast,
            shift=shift,
            once=static == len(work) and not lifs and not logits,
            **self._step_bias(index, step, work, group_rows, wide, shift),
        )

    def _step_bias(
        self, index: int, step: Step, work: tuple[Group, ...], rows: tuple[GroupRow, ...], wide: bool, shift: int
    ) -> dict[str, str]:
        """What the sums start from: the biases of the groups that are added directly."""
        total = np.zeros(self.model.graph.shapes[step.node][0], np.int64)
        for group, row in zip(work, rows, strict=True):
            if row.direct and group.layer:
                total += (layer_bias(self.model, group.layer) << shift) + (1 << shift >> 1)
        if wide:
            needed = bool(total.any())
            return {"bias": "0", "wide_bias": self.add(f"bias_{index}", "int32_t", total) if needed else "0"}
        return {"bias": self.add(f"bias_{index}", "uint32_t", pairs(total)), "wide_bias": "0"}

    def _group(self, rows: RowArrays, step: Step, group: Group, alone: bool, wide: bool) -> GroupRow:
        graph, layer = self.model.graph, group.layer
        channels = graph.shapes[step.node][0] * group.vote
        _, shift = self.model.shifts(layer) if layer else (0, 0)
        real = any(term.reading is Reading.DENSE for term in group.terms)
        direct = alone or (shift == 0 and group.vote == 1 and (wide or not real))
        bias = "0"
        if layer and not direct and self.model.weights.get(f"{layer}.bias") is not None:
            bias = self.add(f"group_bias_{len(self.constants)}", "int32_t", layer_bias(self.model, layer))
        terms = tuple(row for term in group.terms for row in self._term(rows, group, term))
        return GroupRow(terms, bias, channels, group.vote, 0 if direct else shift, direct)

    def _term(self, rows: RowArrays, group: Group, term: Term) -> list[TermRow]:
        graph = self.model.graph
        shape = graph.shapes[term.source]
        height, width = map_size(shape)
        form, unit_bytes, units = self._form(term.source)
        per_pixel = {"unit_bytes": unit_bytes, "units": units} if self.fast else {"pixel_bytes": unit_bytes * units}
        base: dict[str, Any] = {
            "source": term.source,
            "layer": group.layer or "",
            "place": self.place(term.source),
            "height": height,
            "width": width,
            "channels": shape[0],
            "map": term.map,
            "reading": term.reading,
            "form": form,
            "delay": term.delay,
            **per_pixel,
            "window": term.window,
            "pool": None if term.pool == POINT else term.pool,
        }
        for window in (term.window, term.pool):
            if max(window.kernel) > SIZE_MAX or max(window.stride) > 255:
                raise QuantizeError(f"node '{group.layer or term.source}': strides beyond 255 are not in the C kernels")
        match term.reading:
            case Reading.ROWS | Reading.DENSE | Reading.UNITS if group.layer is not None and not self.fast:
                return [TermRow(**base, **self._packed(group.layer, term, shape[0]))]
            case Reading.ROWS:
                assert group.layer is not None
                runs = self._runs(term, shape, units)
                return [TermRow(**{**base, **runs, **part}) for part in rows.place(group.layer, term)]
            case Reading.DENSE:
                return [TermRow(**base, **self._dense(group, term, shape[0]))]
            case Reading.UNITS if group.layer is not None:
                return [TermRow(**base, **self._units(group.layer, shape[0]))]
            case Reading.POOL if graph.kinds[term.source] is Kind.CURRENT:
                reciprocal, shift = mean_reciprocal(term.window.taps)
                return [TermRow(**base, reciprocal=reciprocal, pool_shift=shift)]
            case _:
                return [TermRow(**base)]

    def _runs(self, term: Term, shape: tuple[int, ...], units: int) -> dict[str, Any]:
        """Whether the spikes of neighbouring taps can be read in one go, and how many pixels a tap has."""
        pool = term.pool
        height, width = map_size(shape)
        tiled = pool.stride == pool.kernel and pool.padding == (0, 0) and max(pool.kernel) <= 255
        ragged = units > 1 and (shape[0] % UNIT_BITS != 0 or pool != POINT)
        inside = term.map[0] * pool.kernel[0] <= height and term.map[1] * pool.kernel[1] <= width
        by_tap = ragged or not (tiled and inside)
        down, across = (1, 1) if by_tap else pool.kernel
        pixel_bytes = packed_bytes(shape[0])
        return {
            "tap_by_tap": by_tap,
            "across": across,
            "down": down,
            "tap_bytes": across * pixel_bytes,
            "line_bytes": width * pixel_bytes,
        }

    def _form(self, name: str) -> tuple[str, int, int]:
        """(form, bytes a load, loads a pixel)."""
        graph = self.model.graph
        if isinstance(graph[name], Lif):
            size = packed_bytes(graph.shapes[name][0])
            return ("SPIKES", min(size, 4), -(-size // 4))
        return ("PIXELS" if isinstance(graph[name], Input) else "CURRENTS", 0, 0)

    def _dense(self, group: Group, term: Term, channels: int) -> dict[str, Any]:
        layer = group.layer
        assert layer is not None
        node = self.model.graph[layer]
        conv_groups = node.groups if isinstance(node, Conv2d) else 1
        outputs = self.model.graph.shapes[layer][0]
        weight = self._window_weight(layer, term)
        packed = pack_dense(weight, conv_groups, PATCH_MAX)
        name = self.add(f"weights_{layer}_{len(self.constants)}", "uint32_t", packed)
        return {
            "weights": name,
            "group_in": channels // conv_groups,
            "group_out": outputs // conv_groups,
            "one_patch": is_one_patch(self.model.graph, group, term),
        }

    def _units(self, layer: str, channels: int) -> dict[str, Any]:
        conv = self.model.graph[layer]
        assert isinstance(conv, Conv2d)
        group_in = channels // conv.groups
        weight = unit_weights(self.model.weights[f"{layer}.weight"], conv.groups)
        left, _ = self.model.shifts(layer)
        padded = np.pad(weight.reshape(-1), (0, -weight.size % 4))
        return {
            "weights": self.add(f"weights_{layer}_{len(self.constants)}", "int8_t", padded),
            "group_in": group_in,
            "group_out": conv.out_channels // conv.groups,
            "left": left,
            "reciprocal": quotient_reciprocal(group_in, channels),
        }

    def _packed(self, layer: str, term: Term, channels: int) -> dict[str, Any]:
        """Weights as the compact kernels read them."""
        node = self.model.graph[layer]
        assert isinstance(node, Conv2d | Linear)
        conv_groups = node.groups if isinstance(node, Conv2d) else 1
        group_in, bits = channels // conv_groups, stored_bits(node.weight_bits)
        name = "weights_{}_{}x{}".format(layer, *term.window.kernel)
        if name not in (constant.name for constant in self.constants):
            stored = self.model.weights[f"{layer}.weight"]
            window = stored if stored.ndim == 4 else stored.reshape(len(stored), -1, *term.window.kernel)
            weight = unit_weights(window, conv_groups)
            self.add(name, "uint8_t", pack_stream(weight.reshape(-1), bits))
        return {
            "weights": name,
            "packing": WEIGHT_PACKING[bits],
            "left": self.model.shifts(layer)[0],
            "group_out": self.model.graph.shapes[layer][0] // conv_groups,
            "reciprocal": quotient_reciprocal(group_in, channels) if conv_groups > 1 else 0,
        }

    def _window_weight(self, layer: str, term: Term) -> Array:
        """[out, in / groups, h, w], of a Linear too; over real values weights are shifted where they are stored."""
        weight = moved_weights(self.model, layer)
        if np.abs(weight).max(initial=0) > BYTE_MAX:
            raise QuantizeError(
                f"node '{layer}': weights of up to {np.abs(weight).max()} after its shift to the left, the C kernels "
                f"store at most {BYTE_MAX} here: shift it less"
            )
        return weight if weight.ndim == 4 else weight.reshape(weight.shape[0], -1, *term.window.kernel)

    def _neuron(self, name: str, scratch_offset: int, current: Bounds) -> NeuronRow:
        graph, weights = self.model.graph, self.model.weights
        layer = graph[name]
        assert isinstance(layer, Lif)
        channels = graph.shapes[name][0]
        in_array = 0 if self.layer_major else -(-layer.membrane_bits // 8)
        norm_bias = norm_sign = "0"
        if layer.folded_norm:
            norm_bias = self.add(f"norm_bias_{name}", "int16_t", weights[f"{name}.bias"])
            signs = np.packbits(weights[f"{name}.sign"] < 0, bitorder="little")
            norm_sign = self.add(f"norm_sign_{name}", "uint8_t", signs)
        even = channels % 2 == 0
        return NeuronRow(
            name=name,
            place=self.place(name),
            membrane=self._buffer(f"{name}.membrane").offset if in_array else 0,
            scratch=scratch_offset,
            threshold=self.add(f"threshold_{name}", "uint32_t", pairs(weights[f"{name}.threshold"], self.block)),
            norm_bias=norm_bias,
            norm_sign=norm_sign,
            decay=decay_q(layer),
            limit=2 ** (layer.membrane_bits - 1) - 1,
            subtract=layer.reset is Reset.SUBTRACT,
            pixel_bytes=packed_bytes(channels),
            membrane_bytes=in_array,
            calm=self.fast and not layer.folded_norm and stays_within(layer, current, graph.timesteps),
            packed=self.fast and even and layer.membrane_bits == 16 and not layer.folded_norm,
        )

    def place(self, name: str) -> tuple[int, int, int]:
        """(offset, bytes of a slot, mask of slots)."""
        graph, buffer = self.model.graph, self._buffer(name)
        size = value_bytes(graph, name)
        if self.layer_major:
            return (buffer.offset, size, 0 if name in graph.static or name == graph.output else 0xFFFF)
        return (buffer.offset, size, 1 if buffer.size_bytes == 2 * size else 0)

    def _buffer(self, name: str) -> Buffer:
        return next(buffer for buffer in self.plan.buffers if buffer.name == name)

    def add(self, name: str, kind: str, values: Array) -> str:
        self.constants.append(Constant(name, kind, values))
        return name


def _event_limit(possible: int) -> int:
    """Entries beyond which the list of events is emptied; there is room for one more unit."""
    return possible if possible <= EVENT_LIST_MAX else EVENT_LIST_MAX - UNIT_BITS


def _is_plain(rows: tuple[GroupRow, ...]) -> bool:
    """Whether a step adds nothing but the rows of one term."""
    terms = [term for row in rows for term in row.terms]
    return len(terms) == 1 and terms[0].reading is Reading.ROWS and not terms[0].delay and not terms[0].tap_by_tap
