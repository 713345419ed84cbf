"""The compiled junction against torch's BatchNorm2d, autograd and the neuron, and the networks that use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, random_images, random_model
from torch import Tensor, nn

from spikenas.graph import Add, AvgPool2d, BatchNorm2d, Conv2d, Flatten, GraphBuilder, Input, Lif, Linear, Mean, Reset
from spikenas.graph import Output as Out
from spikenas.snn import junction, junction_cpu, junction_gpu, kernels
from spikenas.snn.junction import Current, join
from spikenas.snn.junction_kernels import kernels_for
from spikenas.snn.network import Network, from_model, normalize, to_model
from spikenas.snn.neuron import fused, step

STEPS, CHANNELS = 4, 12
CPU = torch.device("cpu")
NORMED = (True, True, False)

pytestmark = pytest.mark.skipif(kernels.library("float") is None, reason="needs a C compiler: apt-get install gcc")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # its kernels then run on a CPU, as Python


@pytest.fixture(params=["c", "triton"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where junctions are computed by the kernels of the name: on a GPU for Triton's, without one interpreted."""
    if request.param == "triton":
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            return torch.device("cuda")
        monkeypatch.setattr(junction, "kernels_for", lambda x: junction_gpu)
    return torch.device("cpu")


def parts(
    static: Sequence[bool], device: torch.device = CPU, seed: int = 0
) -> tuple[list[Tensor], list[nn.BatchNorm2d | None]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1 if s else STEPS, 3, CHANNELS, 5, 6) for s in static]
    xs = [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]
    norms: list[nn.BatchNorm2d | None] = []
    for normed in NORMED[: len(static)]:
        norm = nn.BatchNorm2d(CHANNELS) if normed else None
        if norm is not None:
            with torch.no_grad():
                norm.weight.uniform_(-1, 2, generator=generator)
                norm.bias.normal_(generator=generator)
                norm.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            norm.to(device)
        norms.append(norm)
    return xs, norms


def one_by_one(xs: Sequence[Tensor], norms: Sequence[nn.BatchNorm2d | None], lif: Lif) -> tuple[Tensor, Tensor]:
    """The same by torch's own operations: sum and spikes."""
    terms = [x if n is None else n(x.flatten(0, 1)).view(x.shape) for x, n in zip(xs, norms, strict=True)]
    total = sum(terms[1:], start=terms[0])
    return total, fused(total, lif, STEPS)


def gradients(
    xs: Sequence[Tensor], norms: Sequence[nn.BatchNorm2d | None], total: Tensor | None, spikes: Tensor
) -> list[Tensor]:
    """Of a fixed weighting of all that comes out."""
    generator = torch.Generator().manual_seed(9)
    loss = (spikes * torch.randn(spikes.shape, generator=generator).to(spikes.device)).sum()
    if total is not None:
        loss = loss + (total * torch.randn(total.shape, generator=generator).to(total.device)).sum()
    return list(torch.autograd.grad(loss, [*xs, *(p for n in norms if n is not None for p in n.parameters())]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("keeps_total", [True, False])
@pytest.mark.parametrize("static", [[False], [True], [True, False], [False, False, True], [True, True, True]])
@pytest.mark.parametrize("reset", list(Reset))
def test_junction_equals_torch(
    reset: Reset, static: list[bool], keeps_total: bool, training: bool, device: torch.device
) -> None:
    lif = Lif(0.6, 0.8, 0.7, reset)
    xs, norms = parts(static, device)
    _, others = parts(static, device)
    for norm in (*norms, *others):
        if norm is not None:
            norm.train(training)
    made = join([Current(x, n) for x, n in zip(xs, norms, strict=True)], STEPS, lif, total=keeps_total)
    total, spikes = one_by_one(xs, others, lif)
    assert made.spikes is not None
    assert made.count is not None
    assert torch.equal(made.spikes, spikes)
    assert 0.05 < spikes.mean() < 0.95
    assert int(made.count) == int(spikes.sum())
    if keeps_total:
        torch.testing.assert_close(made.total, total, rtol=1e-5, atol=1e-5)
    found = gradients(xs, norms, made.total, made.spikes)
    expected = gradients(xs, others, total if keeps_total else None, spikes)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for norm, other in zip(norms, others, strict=True):
        if norm is not None:
            torch.testing.assert_close(norm.running_mean, other.running_mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(norm.running_var, other.running_var, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("static", [[True], [True, True, True]])
@pytest.mark.parametrize("reset", list(Reset))
def test_rates_are_the_mean_of_the_spikes(reset: Reset, static: list[bool], device: torch.device) -> None:
    lif = Lif(0.6, 0.8, 0.7, reset)
    xs, norms = parts(static, device)
    _, others = parts(static, device)
    currents = [Current(x, n) for x, n in zip(xs, norms, strict=True)]
    made = join(currents, STEPS, lif, total=True, as_rates=True)
    total, spikes = one_by_one(xs, others, lif)
    rates = spikes.mean(0, keepdim=True)
    assert made.spikes is not None
    assert made.count is not None
    torch.testing.assert_close(made.spikes, rates)
    assert 2 < len(made.spikes.unique()) <= STEPS + 1
    assert int(made.count) == int(spikes.sum())
    found = gradients(xs, norms, made.total, made.spikes + 0.01 * made.count)
    expected = gradients(xs, others, total, rates + 0.01 * spikes.sum())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_the_float_result_rounded(device: torch.device) -> None:
    lif = Lif(0.5)
    xs, norms = parts([False], device)
    _, others = parts([False], device)
    half = xs[0].detach().bfloat16().requires_grad_()
    made = join([Current(half, norms[0])], STEPS, lif, total=True)
    exact = join([Current(half.float(), others[0])], STEPS, lif, total=True)
    assert made.total is not None
    assert made.spikes is not None
    assert exact.total is not None
    assert made.total.dtype is made.spikes.dtype is torch.bfloat16
    if device.type == "cpu" and junction.kernels_for is not kernels_for:  # Triton's interpreter truncates
        torch.testing.assert_close(made.total, exact.total.bfloat16(), rtol=2.0**-7, atol=0)
    else:
        assert torch.equal(made.total, exact.total.bfloat16())
    assert torch.equal(made.spikes.float(), exact.spikes)
    found = gradients([half], norms[:1], None, made.spikes.float())[0]
    expected = gradients([half], others[:1], None, exact.spikes)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("reset", list(Reset))
def test_the_gradient_of_a_learned_decay_and_of_the_count(reset: Reset, device: torch.device) -> None:
    lif = Lif(0.6, 1.0, 0.7, reset)
    (x,), (norm,) = parts([False], device)
    decay = torch.tensor(0.6, device=device, requires_grad=True)
    made = join([Current(x, norm)], STEPS, lif, decay=decay)
    assert made.spikes is not None
    assert made.count is not None
    (got,) = torch.autograd.grad(made.spikes.square().sum() + 3.0 * made.count, [decay])
    _, (other,) = parts([False], device)
    assert other is not None
    currents, v, spikes = other(x.flatten(0, 1)).view(x.shape), None, []
    for t in range(STEPS):
        s, v = step(currents[t], v, lif, decay)
        spikes.append(s)
    stacked = torch.stack(spikes)
    assert torch.equal(made.spikes, stacked)
    (expected,) = torch.autograd.grad(stacked.square().sum() + 3.0 * stacked.sum(), [decay])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_threads_and_blocks_change_no_spike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junction_cpu, "SMALL", 0)
    x = torch.randn(STEPS, 7, 33, 9, 9, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(join([Current(x, nn.BatchNorm2d(33))], STEPS, Lif(0.5)))
    finally:
        torch.set_num_threads(before)
    expected = fused(nn.BatchNorm2d(33)(x.flatten(0, 1)).view(x.shape), Lif(0.5), STEPS)
    assert all(torch.equal(made.spikes, expected) for made in results)  # type: ignore[arg-type]


def run(network: Network, images: Tensor) -> tuple[Tensor, dict[str, int], list[Tensor]]:
    outputs, counts = network.steps_with_spikes(images)
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(3)).to(outputs.device)
    loss = (outputs * weights).sum()
    grads = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True) if loss.requires_grad else []
    return outputs.detach(), {n: int(c) for n, c in counts.items()}, [g for g in grads if g is not None]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_networks_with_junctions_equal_networks_without(seed: int, training: bool) -> None:
    graph = random_graph(seed)
    images = normalize(torch.from_numpy(random_images(graph, 3, seed)))
    results: list[Any] = []
    for joins in (True, False):
        network = from_model(random_model(graph, seed)).train(training)
        network.joins = joins
        results.append((*run(network, images), to_model(network).weights))
    (outputs, counts, grads, weights), (outputs_1, counts_1, grads_1, weights_1) = results
    torch.testing.assert_close(outputs, outputs_1, rtol=1e-3, atol=1e-3)
    assert counts == counts_1
    if not training:  # norms of a few values that hardly differ turn rounding into gradients
        for grad, other in zip(grads, grads_1, strict=True):
            torch.testing.assert_close(grad, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()) + 1e-5)
    for name, array in weights.items():
        assert array == pytest.approx(weights_1[name], rel=1e-4, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_networks_on_a_gpu_are_the_same_with_junctions(seed: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    graph = random_graph(seed)
    images = normalize(torch.from_numpy(random_images(graph, 3, seed))).cuda()
    (outputs, counts, grads), (outputs_1, counts_1, grads_1) = (
        run(with_joins(from_model(random_model(graph, seed)).cuda().eval(), joins), images) for joins in (True, False)
    )
    torch.testing.assert_close(outputs, outputs_1, rtol=1e-3, atol=1e-3)
    assert counts == counts_1
    for grad, other in zip(grads, grads_1, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()) + 1e-5)


def with_joins(network: Network, joins: bool) -> Network:
    network.joins = joins
    return network


def test_a_sum_that_others_read_is_kept() -> None:
    """Two norms meet in a sum which a neuron, a pool and a skip read: nothing of it may be lost in the joint."""
    builder = GraphBuilder()
    add = builder.add
    image = add(Input((2, 6, 6)), name="image")
    left = add(BatchNorm2d(), add(Conv2d(4), image, name="a"), name="an")
    right = add(BatchNorm2d(), add(Conv2d(4), image, name="b"), name="bn")
    total = add(Add(), left, right, name="sum")
    deeper = add(BatchNorm2d(), add(Conv2d(4), add(Lif(0.5), total, name="lif"), name="c"), name="cn")
    again = add(Add(), deeper, total, add(AvgPool2d((3, 3), (1, 1), (1, 1)), total, name="pool"), name="again")
    flat = add(Flatten(), add(Lif(0.5), again, name="last"), name="flat")
    add(Out(), add(Mean(), add(Linear(3), flat, name="fc"), name="mean"), name="out")
    graph = builder.build(3)
    stages = {stage.joint.total: stage for stage in Network(graph).execution.joined if stage.joint}
    assert set(stages["sum"].nodes) == {"an", "bn", "sum", "lif"}
    assert set(stages["again"].nodes) == {"cn", "again", "last"}
    assert stages["sum"].joint.keeps_total  # type: ignore[union-attr]
    assert not stages["again"].joint.keeps_total  # type: ignore[union-attr]
    images = normalize(torch.randint(0, 256, (4, 2, 6, 6), generator=torch.Generator().manual_seed(0)).byte())
    joined, plain = Network(graph, seed=1), Network(graph, seed=1)
    plain.joins = False
    one, other = run(joined, images), run(plain, images)
    assert one[1] == other[1]
    torch.testing.assert_close(one[0], other[0])
    for a, b in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.OFF, "0")
    kernels.library.cache_clear()
    try:
        assert kernels.library("float") is None
        x = torch.zeros(2, 1, 8, 8)
        assert kernels_for(x) is None
        graph = random_graph(0)
        network = from_model(random_model(graph, 0)).eval()
        outputs, counts, _ = run(network, normalize(torch.from_numpy(random_images(graph, 2, 0))))
        assert len(outputs) == graph.timesteps
        assert counts.keys() == {node.name for node in graph.nodes if isinstance(node.layer, Lif)}
    finally:
        kernels.library.cache_clear()


def test_a_compiler_that_fails_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "host_compiler", lambda: ["false"])
    kernels.library.cache_clear()
    try:
        assert kernels.library("bf16") is None
    finally:
        kernels.library.cache_clear()
