"""One layer at a time through a network with random weights, as training-free scores run it.

Batch statistics are taken per step, as a network does that is run step by step (SNASNet's code). Everything is exact
or in float32, in the order that moves least memory:

* maps are cut into blocks of images that fit the cache; a block is [b, H, W, C], a vector [b, C];
* a current is a sum of terms ``scale * x + shift`` per channel that is never written down: BatchNorm2d changes two
  vectors, Add joins two lists, and the neuron that reads them adds them up in the cache, all steps of a block at once;
* a convolution adds up its own mean and variance while its output is in the cache, and pools it there if a
  BatchNorm2d and an AvgPool2d are all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import prod, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from spikenas.graph import AvgPool2d, BatchNorm2d, Conv2d, Lif, Reset, Shape
from spikenas.score.integer_layers import LEVELS, convolution, float_convolution, multiply

ROW_CHUNK = 2**16
"""Values handled together: a few floats for each stay in the second-level cache."""
SUM_LIMIT = 2**15 - 1
"""What a sum of weights may reach to be kept in 16 bits: half the memory, half the traffic."""
LINEAR_STD = 1.81
"""Of a fully connected layer's weights, over the root of its inputs: SNASNet's 0.01 at its 32,768 inputs."""
LINEAR_REACH = 4.0
"""Standard deviations that the grid of 255 levels spans."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over ``count`` values per channel of x and of x squared, float64 [C]."""

    total: Tensor
    squares: Tensor
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """``scale * x + shift``, x in float32 or int16 blocks; ``moments`` of x, before it was pooled if ``pooled``."""

    blocks: tuple[Tensor, ...]
    scale: Tensor
    shift: Tensor
    moments: Moments | None = None
    pooled: bool = False


Current = tuple[Term, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Spikes:
    """``scale`` times uint8 counts in ``blocks``, which are slices of ``whole``; ``binary`` ones are 0 or 1."""

    whole: Tensor
    blocks: tuple[Tensor, ...]
    scale: float = 1.0
    binary: bool = False


Step = Current | Spikes


class Weights:
    """Random int8 weights, the same for the same seed, name and shape, whatever network they stand in."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self._drawn: dict[tuple[str, Shape], tuple[Tensor, float]] = {}

    def convolution(self, name: str, shape: Shape) -> tuple[Tensor, float]:
        """int8 weights and the size of their step; uniform with SNASNet's bound (Kaiming's with slope 2).

        The grid is as fine as lets the sum of all positive, or all negative, weights of a channel stay in 16 bits.
        """
        if (name, shape) not in self._drawn:
            inputs = prod(shape[1:])
            levels = max(1, min(LEVELS, 7 * SUM_LIMIT // (2 * inputs)))
            drawn = torch.randint(-levels, levels + 1, shape, generator=self._generator(name, shape), dtype=torch.int8)
            self._drawn[name, shape] = drawn.to(self.device), sqrt(6 / (5 * inputs)) / levels
        return self._drawn[name, shape]

    def linear(self, name: str, shape: Shape, maps: Shape) -> tuple[Tensor, float]:
        """The same for a fully connected layer, normal, with columns in the order of [H, W, C] ``maps``."""
        if (name, shape) not in self._drawn:
            drawn = torch.randn(shape, generator=self._generator(name, shape))
            grid = drawn.mul_(LEVELS / LINEAR_REACH).round_().clamp_(-LEVELS, LEVELS).to(torch.int8)
            if len(maps) == 3:
                height, width, channels = maps
                grid = grid.view(shape[0], channels, height, width).permute(0, 2, 3, 1).reshape(shape).contiguous()
            step = LINEAR_STD / sqrt(shape[1]) * LINEAR_REACH / LEVELS
            self._drawn[name, shape] = grid.to(self.device), step
        return self._drawn[name, shape]

    def _generator(self, name: str, shape: Shape) -> torch.Generator:
        digest = blake2b(f"{self.seed} {name} {shape}".encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


# --- layers -----------------------------------------------------------------------------------------------


def image_step(images: Tensor, block: int) -> Current:
    """Images [B, C, H, W] or vectors [B, N] as a current."""
    values = images.permute(0, 2, 3, 1).contiguous() if images.dim() == 4 else images
    return (_term(torch.split(values.to(torch.float32), block), 1.0),)


def convolve(step: Step, layer: Conv2d, weight: Tensor, grid: float, pool: AvgPool2d | None) -> Current:
    """The convolution of one step, pooled at once if ``pool`` is given."""
    source = step if isinstance(step, Spikes) else materialized(step)
    if isinstance(source, Spikes):
        apply, grid = convolution(weight, layer, _maps(source.blocks[0])), grid * source.scale
    else:
        apply = float_convolution(weight, layer)
    small = isinstance(source, Spikes) and source.binary and _sums_fit(weight)
    blocks, sums = [], Sums()
    for block in source.blocks:
        result = apply(block)
        sums.add(result)
        if pool is not None:
            result = _pool_map(result, pool)
        blocks.append(result.to(torch.int16) if small and pool is None else result)
    return (_term(tuple(blocks), grid, sums.moments(), pooled=pool is not None),)


def connect(step: Step, weight: Tensor, grid: float) -> Current:
    """A fully connected layer on one step."""
    source = step if isinstance(step, Spikes) else materialized(step)
    features = torch.cat([block.flatten(1) for block in source.blocks])
    if isinstance(source, Spikes):
        result, grid = multiply(features, weight), grid * source.scale
    else:
        result = features @ weight.to(torch.float32).T
    return (_term(torch.split(result, [len(block) for block in source.blocks]), grid),)


def normalize(current: Current, layer: BatchNorm2d) -> Current:
    """BatchNorm2d with the statistics of this step's batch and its initial weights, 1 and 0."""
    if len(current) == 1 and current[0].moments is not None:
        term, moments = current[0], current[0].moments
        mean, variance = _mean_and_variance(moments)
        mean, variance = term.scale * mean + term.shift, term.scale**2 * variance
    else:
        mean, variance = _mean_and_variance(_moments(current))
    factor = (variance + layer.eps).rsqrt()
    terms = [
        replace(term, scale=(term.scale * factor).float(), shift=(term.shift * factor).float()) for term in current
    ]
    terms[0] = replace(terms[0], shift=(terms[0].shift - mean * factor).float())
    return tuple(term if len(terms) == 1 else replace(term, moments=None) for term in terms)


def pool(step: Step, layer: AvgPool2d) -> Step:
    """AvgPool2d: spikes become counts; a current without padding is pooled term by term."""
    if isinstance(step, Spikes):
        return _pool_spikes(step, layer)
    if all(term.pooled for term in step):
        return tuple(replace(term, pooled=False, moments=None) for term in step)
    if layer.padding != (0, 0):  # shifts do not pass the border's zeros
        step = (materialized(step),)
    pooled = (tuple(_pool_map(block, layer) for block in term.blocks) for term in step)
    return tuple(replace(term, blocks=blocks, moments=None) for term, blocks in zip(step, pooled, strict=True))


def add(steps: Sequence[Step]) -> Step:
    """The sum of currents, a longer list; of spikes, counts."""
    spikes = [step for step in steps if isinstance(step, Spikes) and step.scale == 1.0]
    if len(spikes) == len(steps):
        whole = torch.stack([step.whole for step in spikes]).sum(0, dtype=torch.uint8)
        return _sliced(whole, [len(block) for block in spikes[0].blocks])
    return tuple(term for step in steps for term in as_current(step))


def as_current(step: Step) -> Current:
    """Counts as a current of one term."""
    if not isinstance(step, Spikes):
        return step
    return (_term(tuple(block.to(torch.float32) for block in step.blocks), step.scale),)


def materialized(current: Current) -> Term:
    """The sum of all terms, written down."""
    only = current[0]
    if len(current) == 1 and bool((only.scale == 1).all()) and not bool(only.shift.any()):
        return only if only.blocks[0].dtype == torch.float32 else _term(tuple(b.float() for b in only.blocks), 1.0)
    blocks = []
    scratch = Scratch(only.blocks[0])
    for parts in zip(*(term.blocks for term in current), strict=True):
        total = torch.empty_like(parts[0], dtype=torch.float32)
        for rows in _row_slices(total):
            _sum_rows(current, [_rows(part)[rows] for part in parts], _rows(total)[rows], scratch)
        blocks.append(total)
    return _term(tuple(blocks), 1.0)


def fire(
    lif: Lif, currents: Sequence[Current], steps: int, membranes: list[Tensor] | None = None
) -> tuple[list[Spikes], list[Tensor]]:
    """Spikes of ``steps`` steps; one current for all, or one each. Membranes, over gain, by block, if carried.

    ``membranes`` is None when nothing follows, empty before a first step and else what the last call returned.
    """
    first = currents[0][0].blocks
    sizes = [len(block) for block in first]
    shape = (sum(sizes), *first[0].shape[1:])
    fired = [_sliced(first[0].new_empty(shape, dtype=torch.uint8), sizes, binary=True) for _ in range(steps)]
    kept = None if membranes is None else membranes or [torch.zeros_like(b, dtype=torch.float32) for b in first]
    scratch = Scratch(first[0])
    for index, block in enumerate(first):
        for rows in _row_slices(block):
            inputs = [[_rows(term.blocks[index])[rows] for term in current] for current in currents]
            outputs = [_rows(spikes.blocks[index])[rows] for spikes in fired]
            state = None if kept is None else _rows(kept[index])[rows]
            _fire_rows(lif, currents, inputs, outputs, state, scratch)
    return fired, kept or []


def _fire_rows(
    lif: Lif,
    currents: Sequence[Current],
    inputs: list[list[Tensor]],
    outputs: list[Tensor],
    state: Tensor | None,
    scratch: Scratch,
) -> None:
    """All steps of a few rows [r, C]: ``u = decay v + x``, in units of the gain.

    Comparing into float and converting is three times faster than comparing into bool.
    """
    threshold = lif.threshold / lif.gain
    x, u, s, v = (scratch[number][: len(outputs[0])] for number in range(1, 5))
    v = v.zero_() if state is None else state
    for t, spikes in enumerate(outputs):
        if t < len(currents):
            _sum_rows(currents[t], inputs[t], x, scratch)
        torch.add(x, v, alpha=lif.decay, out=u)
        torch.ge(u, threshold, out=s)
        spikes.view(torch.int8).copy_(s)
        if lif.reset is Reset.ZERO:
            torch.addcmul(u, u, s, value=-1.0, out=v)
        else:
            torch.add(u, s, alpha=-threshold, out=v)


# --- pieces -----------------------------------------------------------------------------------------------


def _term(blocks: tuple[Tensor, ...], scale: float, moments: Moments | None = None, *, pooled: bool = False) -> Term:
    ones = torch.full((blocks[0].shape[-1],), scale, device=blocks[0].device)
    return Term(blocks, ones, torch.zeros_like(ones), moments, pooled)


def _sliced(whole: Tensor, sizes: list[int], scale: float = 1.0, *, binary: bool = False) -> Spikes:
    return Spikes(whole, torch.split(whole, sizes), scale, binary)


def _rows(block: Tensor) -> Tensor:
    return block.view(-1, block.shape[-1])


def _row_slices(block: Tensor) -> list[slice]:
    rows = block.numel() // block.shape[-1]
    size = max(1, ROW_CHUNK // block.shape[-1])
    return [slice(start, start + size) for start in range(0, rows, size)]


class Scratch:
    """Float buffers [r, C] for a few rows of a block, number 0 for :func:`_sum_rows`; made once, not for every row."""

    def __init__(self, block: Tensor) -> None:
        channels = block.shape[-1]
        rows = min(block.numel() // channels, max(1, ROW_CHUNK // channels))
        self._shape, self._device = (rows, channels), block.device
        self._made: dict[int, Tensor] = {}

    def __getitem__(self, number: int) -> Tensor:
        if number not in self._made:
            self._made[number] = torch.empty(self._shape, device=self._device)
        return self._made[number]


def _sum_rows(current: Current, parts: list[Tensor], out: Tensor, scratch: Scratch) -> Tensor:
    """The sum of all terms of a few rows."""
    shift = current[0].shift if len(current) == 1 else torch.stack([term.shift for term in current]).sum(0)
    for number, (term, part) in enumerate(zip(current, parts, strict=True)):
        values = part if part.dtype == torch.float32 else scratch[0][: len(part)].copy_(part)
        torch.addcmul(out if number else shift, values, term.scale, out=out)
    return out


class Sums:
    """Adds up x and x squared per channel."""

    def __init__(self) -> None:
        self._totals: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._count = 0
        self._buffer = torch.empty(0)

    def add(self, block: Tensor) -> None:
        rows = _rows(block)
        if self._buffer.shape != rows.shape:
            self._buffer = torch.empty_like(rows)
        self._totals.append(rows.sum(0))
        self._squares.append(torch.mul(rows, rows, out=self._buffer).sum(0))
        self._count += len(rows)

    def moments(self) -> Moments:
        total, squares = (torch.stack(parts).sum(0, dtype=torch.float64) for parts in (self._totals, self._squares))
        return Moments(total, squares, self._count)


def _moments(current: Current) -> Moments:
    sums, scratch = Sums(), Scratch(current[0].blocks[0])
    for parts in zip(*(term.blocks for term in current), strict=True):
        for rows in _row_slices(parts[0]):
            pieces = [_rows(part)[rows] for part in parts]
            sums.add(_sum_rows(current, pieces, scratch[1][: len(pieces[0])], scratch))
    return sums.moments()


def _sums_fit(weight: Tensor) -> bool:
    """Whether any sum of a channel's weights stays in 16 bits."""
    flat = weight.flatten(1).to(torch.int32)
    return bool(torch.maximum(flat.clamp(min=0).sum(1), -flat.clamp(max=0).sum(1)).max() <= SUM_LIMIT)


def _mean_and_variance(moments: Moments) -> tuple[Tensor, Tensor]:
    mean = moments.total / moments.count
    return mean, (moments.squares / moments.count - mean**2).clamp_(min=0.0)


def _pool_map(block: Tensor, layer: AvgPool2d) -> Tensor:
    images = block.permute(0, 3, 1, 2).to(torch.float32)
    pooled = functional.avg_pool2d(images, layer.kernel_size, layer.stride, layer.padding)
    return pooled.permute(0, 2, 3, 1).contiguous()


def _pool_spikes(spikes: Spikes, layer: AvgPool2d) -> Step:
    size = prod(layer.kernel_size)
    if size > LEVELS or spikes.scale != 1.0:
        return pool(as_current(spikes), layer)
    images = spikes.whole.permute(0, 3, 1, 2).to(torch.float32)
    counts = functional.avg_pool2d(images, layer.kernel_size, layer.stride, layer.padding, divisor_override=1)
    whole = counts.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
    return _sliced(whole, [len(block) for block in spikes.blocks], 1.0 / size)


def _maps(block: Tensor) -> tuple[int, int, int, int]:
    batch, height, width, channels = block.shape
    return batch, height, width, channels
