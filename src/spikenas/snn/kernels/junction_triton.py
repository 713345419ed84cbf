"""A junction's passes in Triton; :mod:`spikenas.snn.junction_gpu` starts them, ``junction.c`` has the same for a CPU.

A program handles tiles of BR rows by BC channels, each for all timesteps, whose membranes stay in registers. Steps
are ``stride`` values apart. Where a current has its own value at every step a bit of MOVING says so, a bit of NORMED
that it has a scale and a shift.
"""

import triton
import triton.language as tl


@triton.jit
def _affine(scales, shifts, column, within, TERMS: tl.constexpr, NORMED: tl.constexpr):
    """The scales and shifts of a tile's channels, [1, BC] each; ones and zeros for a current without."""
    found_scales = ()
    found_shifts = ()
    for k in tl.static_range(TERMS):
        if (NORMED >> k) & 1:
            found_scales = found_scales + (tl.load(scales[k] + column, within, other=0.0)[None, :],)
            found_shifts = found_shifts + (tl.load(shifts[k] + column, within, other=0.0)[None, :],)
        else:
            found_scales = found_scales + (1.0,)
            found_shifts = found_shifts + (0.0,)
    return found_scales, found_shifts


@triton.jit
def _load(x, at, inside):
    return tl.load(x + at, inside, other=0.0).to(tl.float32)


@triton.jit
def _current(xs, at, here, inside, k: tl.constexpr, MOVING: tl.constexpr):
    """The k-th current at one step: ``at`` where it stays the same, ``here`` where it has many."""
    if (MOVING >> k) & 1:
        x = _load(xs[k], here, inside)
    else:
        x = _load(xs[k], at, inside)
    return x


@triton.jit
def _total(xs, scales, shifts, at, here, inside, TERMS: tl.constexpr, MOVING: tl.constexpr):
    """The sum at one step."""
    total = tl.zeros(inside.shape, tl.float32)
    for k in tl.static_range(TERMS):
        total += scales[k] * _current(xs, at, here, inside, k, MOVING) + shifts[k]
    return total


@triton.jit
def _left(u, threshold, TO_ZERO: tl.constexpr):
    """What is left of a membrane after its reset."""
    if TO_ZERO:
        v = tl.where(u >= threshold, 0.0, u)
    else:
        v = tl.where(u >= threshold, u - threshold, u)
    return v


@triton.jit
def forward(
    xs,
    scales,
    shifts,
    total_out,
    spikes,
    counts,
    decay,
    threshold,
    rows,
    channels,
    stride,
    TERMS: tl.constexpr,
    MOVING: tl.constexpr,
    NORMED: tl.constexpr,
    STEPS: tl.constexpr,
    SUM_STEPS: tl.constexpr,
    FIRES: tl.constexpr,
    TO_ZERO: tl.constexpr,
    AS_RATES: tl.constexpr,
    KEEPS_TOTAL: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    within = column < channels
    inside = (row < rows)[:, None] & within[None, :]
    at = row[:, None] * channels + column[None, :]
    scale, shift = _affine(scales, shifts, column, within, TERMS, NORMED)
    kind = spikes.dtype.element_ty
    v = tl.zeros([BR, BC], tl.float32)
    rate = tl.zeros([BR, BC], tl.float32)
    here = at
    for t in tl.static_range(STEPS):
        if t < SUM_STEPS:
            total = _total(xs, scale, shift, at, here, inside, TERMS, MOVING)
            if KEEPS_TOTAL:
                tl.store(total_out + here, total.to(kind), inside)
        if FIRES:
            u = total + decay * v
            spike = tl.where((u >= threshold) & inside, 1.0, 0.0)
            rate += spike
            v = _left(u, threshold, TO_ZERO)
            if not AS_RATES:
                tl.store(spikes + here, spike.to(kind), inside)
        here += stride
    if AS_RATES:
        tl.store(spikes + at, (rate / STEPS).to(kind), inside)
    count = tl.sum(tl.sum(rate, 1), 0).to(tl.int32)
    tl.store(counts + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), count)


@triton.jit
def _with_products(
    products, g, xs, means, at, here, inside, TERMS: tl.constexpr, MOVING: tl.constexpr, NORMED: tl.constexpr
):
    """``products`` and what a step's gradient ``g`` adds to them."""
    found = ()
    for k in tl.static_range(TERMS):
        if (NORMED >> k) & 1:
            x = _current(xs, at, here, inside, k, MOVING)
            found = found + (products[k] + g * (x - means[k]),)
        else:
            found = found + (products[k],)
    return found


@triton.jit
def backward(
    xs,
    scales,
    shifts,
    means,
    grad_total,
    grad_spikes,
    grad,
    partial,
    decays,
    decay,
    threshold,
    slope_a,
    slope_b,
    grad_count,
    rows,
    channels,
    stride,
    TERMS: tl.constexpr,
    MOVING: tl.constexpr,
    NORMED: tl.constexpr,
    STEPS: tl.constexpr,
    SUM_STEPS: tl.constexpr,
    FIRES: tl.constexpr,
    TO_ZERO: tl.constexpr,
    AS_RATES: tl.constexpr,
    HAS_GRAD_TOTAL: tl.constexpr,
    LEARNS_DECAY: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    within = column < channels
    scale, shift = _affine(scales, shifts, column, within, TERMS, NORMED)
    mean, _ = _affine(means, means, column, within, TERMS, NORMED)
    kind = grad.dtype.element_ty
    sums = tl.zeros([BR, BC], tl.float32)
    decay_sum = tl.zeros([BR, BC], tl.float32)
    products = ()
    for _ in tl.static_range(TERMS):
        products = products + (tl.zeros([BR, BC], tl.float32),)
    for block in range(tl.program_id(0), tl.cdiv(rows, BR), tl.num_programs(0)):
        row = tl.cast(block, tl.int64) * BR + tl.arange(0, BR)
        inside = (row < rows)[:, None] & within[None, :]
        at = row[:, None] * channels + column[None, :]
        us = ()
        v = tl.zeros([BR, BC], tl.float32)
        here = at
        for t in tl.static_range(STEPS):
            if FIRES:
                if t < SUM_STEPS:
                    total = _total(xs, scale, shift, at, here, inside, TERMS, MOVING)
                u = total + decay * v
                us = us + (u,)
                v = _left(u, threshold, TO_ZERO)
            here += stride
        back = tl.zeros([BR, BC], tl.float32)
        static = tl.zeros([BR, BC], tl.float32)
        for s in tl.static_range(STEPS):
            here -= stride
            if FIRES:
                if AS_RATES:
                    given = _load(grad_spikes, at, inside) / STEPS + grad_count
                else:
                    given = _load(grad_spikes, here, inside) + grad_count
                distance = us[STEPS - 1 - s] - threshold
                if TO_ZERO:
                    through = tl.where(distance >= 0.0, 0.0, back)
                else:
                    through = back
                back = given / (slope_a + slope_b * distance * distance) + decay * through
                back = tl.where(inside, back, 0.0)
                if LEARNS_DECAY and s < STEPS - 1:
                    decay_sum += back * _left(us[STEPS - 2 - s], threshold, TO_ZERO)
            static += back
            if s >= STEPS - SUM_STEPS:
                if SUM_STEPS == 1:
                    g = static
                else:
                    g = back
                if HAS_GRAD_TOTAL:
                    g += _load(grad_total, here, inside)
                tl.store(grad + here, g.to(kind), inside)
                sums += g
                products = _with_products(products, g, xs, mean, at, here, inside, TERMS, MOVING, NORMED)
    at = tl.program_id(0) * (TERMS + 1) * channels + column
    tl.store(partial + at, tl.sum(sums, 0), within)
    for k in tl.static_range(TERMS):
        at += channels
        tl.store(partial + at, tl.sum(products[k], 0), within)
    if LEARNS_DECAY:
        tl.store(decays + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.sum(tl.sum(decay_sum, 1), 0))


@triton.jit
def moments(x, centre, partial, rows, channels, BR: tl.constexpr, BC: tl.constexpr):
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    within = column < channels
    middle = tl.load(centre + column, within, other=0.0)[None, :]
    sums = tl.zeros([BR, BC], tl.float32)
    squares = tl.zeros([BR, BC], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(rows, BR), tl.num_programs(0)):
        row = tl.cast(block, tl.int64) * BR + tl.arange(0, BR)
        inside = (row < rows)[:, None] & within[None, :]
        value = _load(x, row[:, None] * channels + column[None, :], inside)
        value = tl.where(inside, value - middle, 0.0)
        sums += value
        squares += value * value
    at = tl.program_id(0) * 2 * channels + column
    tl.store(partial + at, tl.sum(sums, 0), within)
    tl.store(partial + at + channels, tl.sum(squares, 0), within)


@triton.jit
def term_gradient(
    grad,
    x,
    dx,
    scale,
    shift,
    slope,
    rows,
    channels,
    stride,
    ADDED: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    within = column < channels
    inside = (row < rows)[:, None] & within[None, :]
    at = row[:, None] * channels + column[None, :]
    here = at
    g = tl.zeros([BR, BC], tl.float32)
    for _ in tl.static_range(ADDED):
        g += _load(grad, here, inside)
        here += stride
    a = tl.load(scale + column, within, other=0.0)[None, :]
    b = tl.load(shift + column, within, other=0.0)[None, :]
    c = tl.load(slope + column, within, other=0.0)[None, :]
    tl.store(dx + at, (a * g + b + c * _load(x, at, inside)).to(dx.dtype.element_ty), inside)
