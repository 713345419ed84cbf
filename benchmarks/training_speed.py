"""Training steps per second against spikingjelly's multi-step neurons, on the same network in the same run.

``python benchmarks/training_speed.py``: six convolutions of 32, 32, 64, 64, 128 and 128 channels with BatchNorm and
LIF neurons on CIFAR-10's shapes, T = 4, batches of 128, AdamW; "on rates" is the same network in the epochs in which it
exchanges rates instead of spikes (docs/training.md). Each row is a process of its own, so that memory is
its own; rates are medians over steps. The share is of the rate at which the same network's convolutions alone, forward
and backward, run in bfloat16.

``--network snasnet`` is one of SNASNet's CIFAR-10 widths, 256 and 512 channels at T = 5. ``--device cuda`` measures a
GPU, where spikingjelly chooses its own kernels (Triton's where it can).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from spikenas.graph import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Layer,
    Lif,
    Linear,
    Mean,
    Node,
    Output,
)
from spikenas.snn.allocator import keep_freed_memory
from spikenas.snn.hardware import autocast
from spikenas.snn.network import Network, normalize
from spikenas.space.snasnet import SnasnetSpace

WIDTHS, TIMESTEPS, BATCH = (32, 32, 64, 64, 128, 128), 4, 128
ON_RATES = "rates"


def reference_network() -> Graph:
    layers: list[Layer] = [Input((3, 32, 32))]
    for place, width in enumerate(WIDTHS):
        if place in (2, 4):
            layers.append(AvgPool2d((2, 2), (2, 2)))
        layers += [Conv2d(width), BatchNorm2d(), Lif()]
    layers += [AvgPool2d((8, 8), (8, 8)), Flatten(), Linear(10), Mean(), Output()]
    names = [f"{type(layer).__name__.lower()}_{place}" for place, layer in enumerate(layers)]
    edges = tuple(Edge(one, other) for one, other in pairwise(names))
    return Graph(TIMESTEPS, tuple(map(Node, names, layers)), edges)


def snasnet() -> Graph:
    space = SnasnetSpace(backward=False)
    return space.lower(space.parse(space.example), (3, 32, 32), 10)


NETWORKS = {"plain": reference_network, "snasnet": snasnet}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_each(step: Callable[[], object], count: int, device: torch.device) -> float:
    """The median over ``count`` steps."""
    times = []
    for _ in range(count):
        wait(device)
        begun = time.perf_counter()
        step()
        wait(device)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def memory(device: torch.device) -> int:
    """Bytes at most: of the process, or of tensors on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_training(graph: Graph, neuron: str, precision: str, steps: int, device: torch.device) -> dict[str, float]:
    """One process's row: samples per second, seconds to the end of the first step, peak memory in MB."""
    begun = time.perf_counter()
    if neuron != "spikingjelly":
        keep_freed_memory()
    if neuron == ON_RATES:
        network = Network(graph, seed=0).to(device).on_rates()
    else:
        network = Network(graph, neuron=neuron, seed=0).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    images = normalize(torch.randint(0, 256, (BATCH, 3, 32, 32), generator=generator).byte()).to(device)
    labels = torch.randint(0, 10, (BATCH,), generator=generator).to(device)

    def step() -> None:
        with autocast(device, precision == "bfloat16"):
            outputs, _ = network.steps_with_spikes(images)
        loss = functional.cross_entropy(outputs.float().mean(0), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step()
    wait(device)
    first = time.perf_counter() - begun
    step()
    rate = BATCH / seconds_each(step, steps, device)
    return {"rate": rate, "first_s": first, "memory_mb": memory(device) / 2**20}


def measure_convolutions(graph: Graph, steps: int, device: torch.device) -> float:
    """Images a second of the network's convolutions alone, forward and backward in bfloat16, channels last."""
    keep_freed_memory()
    total = 0.0
    for node in graph.nodes:
        layer = node.layer
        if not isinstance(layer, Conv2d):
            continue
        channels, height, width = graph.in_shape(node.name)
        images = BATCH * (1 if node.name in graph.static else TIMESTEPS)
        sizes = (layer.kernel_size, layer.stride, layer.padding)
        conv = nn.Conv2d(channels, layer.out_channels, *sizes, bias=False, device=device).bfloat16()
        conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(images, channels, height, width, device=device).bfloat16().to(memory_format=torch.channels_last)
        x.requires_grad_(channels > 3)
        grad = torch.randn(images, *graph.shapes[node.name], device=device).bfloat16()
        grad = grad.to(memory_format=torch.channels_last)

        def step(conv: nn.Conv2d = conv, x: torch.Tensor = x, grad: torch.Tensor = grad) -> None:
            x.grad = conv.weight.grad = None
            conv(x).backward(grad)

        step()
        total += seconds_each(step, steps, device)
    return BATCH / total


ROWS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("spikingjelly", "spikingjelly", "float32", {}),
    ("spikingjelly", "spikingjelly", "bfloat16", {}),
    ("spikenas, torch's operations", "fused", "float32", {"SPIKENAS_KERNELS": "0"}),
    ("spikenas, torch's operations", "fused", "bfloat16", {"SPIKENAS_KERNELS": "0"}),
    ("spikenas", "fused", "float32", {}),
    ("spikenas", "fused", "bfloat16", {}),
    ("spikenas, on rates", ON_RATES, "float32", {}),
    ("spikenas, on rates", ON_RATES, "bfloat16", {}),
)


def in_process(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}, timeout=1200
    )
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="plain")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="only the rows of one")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--convolutions", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    graph, device = NETWORKS[options.network](), torch.device(options.device)
    if options.row:
        neuron, precision = options.row
        print(json.dumps(measure_training(graph, neuron, precision, options.steps, device)))
        return
    if options.convolutions:
        print(json.dumps({"rate": measure_convolutions(graph, options.steps, device)}))
        return
    same = ["--device", options.device, "--network", options.network, "--steps"]
    steps = [*same, str(options.steps)]
    convolutions = in_process(["--convolutions", *steps], {})["rate"]
    with tempfile.TemporaryDirectory() as empty:
        caches = {"SPIKENAS_CACHE": empty, "TRITON_CACHE_DIR": empty}
        cold = in_process(["--row", "fused", "bfloat16", *same, "1"], caches)["first_s"]
    asked = [row for row in ROWS if options.precision in (None, row[2])]
    rows = [(name, p, in_process(["--row", neuron, p, *steps], env)) for name, neuron, p, env in asked]
    base = {precision: found["rate"] for name, precision, found in rows if name == "spikingjelly"}
    print(
        "| neurons | precision | images/s | of spikingjelly's | of its float32 | of convolutions | first step, s | MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, precision, found in rows:
        rate = found["rate"]
        of_float = f"{rate / base['float32']:.1f}x" if "float32" in base else ""
        ratios = f"{rate / base[precision]:.1f}x | {of_float} | {100 * rate / convolutions:.0f}%"
        print(f"| {name} | {precision} | {rate:,.0f} | {ratios} | {found['first_s']:.1f} | {found['memory_mb']:,.0f} |")
    print(f"\nConvolutions alone in bfloat16: {convolutions:,.0f} images/s. With an empty cache of kernels the first")
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    print(f"step ends after {cold:.1f} s. {where}.")


if __name__ == "__main__":
    main()
