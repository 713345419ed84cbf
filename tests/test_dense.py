"""Spiking against dense: multiplications by hand, and break-even rates put back into the cost model."""

from __future__ import annotations

import pytest
from test_cost import measured_network

from spikenas.cost.cost import estimate
from spikenas.cost.dense import PER_MAC_DSP, compare_dense, dense_macs, mean_rate, replace_timesteps
from spikenas.cost.target import TARGETS
from spikenas.errors import TargetError
from spikenas.graph import Conv2d, Flatten, Graph, GraphBuilder, Input, Lif, Linear, Mean, Output

RATES = {"s1": 0.09, "s2": 0.06, "s3": 0.05}


def single(channels: int) -> Graph:
    """A 3x3 convolution of 4x4 spikes."""
    g = GraphBuilder()
    spikes = g.add(Lif(), g.add(Input((32, 4, 4)), name="image"))
    lif = g.add(Lif(), g.add(Conv2d(channels), spikes))
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), lif))))
    return g.build(2)


def test_multiplications_by_hand() -> None:
    # along a side of 4 the windows of 3 see 2 + 3 + 3 + 2 pixels
    assert dense_macs(single(8)) == 10 * 10 * 32 * 8 + 10 * 8 * 16


def test_the_dense_baseline_is_what_was_measured() -> None:
    """CMSIS-NN took 4,536 thousand instructions for this convolution on 16x16 (docs/integer.md has the network)."""
    side = 3 * 16 - 2
    assert pytest.approx(4_536_000, rel=0.01) == PER_MAC_DSP * side * side * 32 * 32


def test_the_break_even_rate_breaks_even() -> None:
    graph, target = measured_network(), TARGETS["stm32f405"]
    result = compare_dense(graph, target, RATES)
    assert result.executed is None
    assert result.spike_rate == pytest.approx((0.09 * 16 * 1024 + 0.06 * 32 * 256 + 0.05 * 32 * 256) / (2 * 16 * 1024))
    for row in result.by_timesteps:
        if 0 < row.break_even_rate < 1:
            factor = row.break_even_rate / result.spike_rate
            scaled = {name: rate * factor for name, rate in RATES.items()}
            then = estimate(replace_timesteps(graph, row.timesteps), target, scaled).instructions
            assert then == pytest.approx(result.dense_instructions, rel=0.001)
            assert mean_rate(graph, scaled) == pytest.approx(row.break_even_rate)
    rates = [row.break_even_rate for row in result.by_timesteps]
    assert rates == sorted(rates, reverse=True)  # the more timesteps, the fewer spikes are affordable
    assert rates[3] > 0 == rates[-1]  # with 16 timesteps even a silent network costs more


def test_what_was_executed_corrects_the_model() -> None:
    graph, target = measured_network(), TARGETS["stm32f405"]
    predicted = compare_dense(graph, target, RATES)
    twice = compare_dense(graph, target, RATES, executed=2 * predicted.predicted)
    assert twice.instructions == pytest.approx(2 * predicted.instructions)
    assert twice.predicted == predicted.predicted
    assert twice.break_even_rate < predicted.break_even_rate
    assert twice.timesteps_max < predicted.timesteps_max


def test_a_chip_without_instructions_is_refused() -> None:
    with pytest.raises(TargetError, match="target 'speck' executes no instructions"):
        compare_dense(single(8), TARGETS["speck"], {})
