"""How fast SAHD is at SNASNet's own setting, against its code's way of computing it, in one run.

    python benchmarks/sahd_speed.py --data ../shared/data/cifar10

SNASNet's setting: CIFAR-10, channels 256 and 512, batches of 256 images, 5 steps, 2 repeats. The naive way is theirs:
step by step, a spikingjelly neuron for every edge, batch statistics of every step, and two Gram matrices after
every call of a neuron. Both use the same weights and images, and the difference of their kernels is printed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from spikenas.data.datasets import load_dataset
from spikenas.graph import Add, AvgPool2d, BatchNorm2d, Conv2d, Flatten, Graph, Input, Lif, Linear
from spikenas.score.hamming import hamming_scores
from spikenas.score.score import Probe
from spikenas.score.shared_forward import spike_kernels
from spikenas.score.spike_kernel import log_determinant, sahd_kernel
from spikenas.score.untrained import Weights
from spikenas.space.snasnet import SnasnetSpace

REPEATS = 2
PUBLISHED_SECONDS = 176.0
"""Per candidate, SNASNet's code on two cores of such a machine."""


class NaiveNetwork:
    """A graph run as SNASNet's code runs its network, with the kernel of every neuron call added up."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph = graph
        self.modules: dict[str, nn.Module] = {}
        self.kernel: npt.NDArray[np.float64] = np.zeros((0, 0))
        self.calls = 0
        weights = Weights(seed, torch.device("cpu"))
        for node in graph.nodes:
            self._build(node.name, weights)

    def _build(self, name: str, weights: Weights) -> None:
        graph, layer = self.graph, self.graph[name]
        match layer:
            case Conv2d():
                grid, step = weights.convolution(name, graph.parameter_shapes[f"{name}.weight"])
                channels = (graph.in_shape(name)[0], layer.out_channels)
                conv = nn.Conv2d(*channels, layer.kernel_size, layer.stride, layer.padding, bias=False)
                conv.weight = nn.Parameter(grid.float() * step, requires_grad=False)
                self.modules[name] = conv
            case BatchNorm2d():
                self.modules[name] = nn.BatchNorm2d(graph.shapes[name][0])
            case AvgPool2d():
                self.modules[name] = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
            case Linear() if not layer.bias:
                maps = graph.in_shape(graph.sources[name][0].source)
                grid, step = weights.linear(name, graph.parameter_shapes[f"{name}.weight"], (*maps[1:], maps[0]))
                matrix = grid.view(-1, *maps[1:], maps[0]).permute(0, 3, 1, 2).reshape(grid.shape)
                linear = nn.Linear(grid.shape[1], grid.shape[0], bias=False)
                linear.weight = nn.Parameter(matrix.float() * step, requires_grad=False)
                self.modules[name] = linear
            case Lif():
                for edge in graph.consumers[name]:
                    tau = 1.0 / (1.0 - layer.decay)
                    node: Any = neuron.LIFNode(tau=tau, v_threshold=layer.threshold, v_reset=0.0, detach_reset=True)
                    node.register_forward_hook(self._add_kernel)
                    self.modules[f"{name}>{edge.target}"] = node
            case _:
                pass

    def _add_kernel(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        spikes = (output.flatten(1) > 0).float()
        images, bits = spikes.shape
        rate = (spikes.sum(1) / bits)[:, None]
        norm = ((rate @ (1 - rate.T)) + ((1 - rate) @ rate.T)) * bits
        differ = spikes @ (1 - spikes).T + (1 - spikes) @ spikes.T
        kernel = torch.full((images, images), float(bits)) - 0.5 / (norm + 1e-3) * differ
        self.kernel = self.kernel + kernel.numpy() if self.calls else kernel.numpy().astype(np.float64)
        self.calls += 1

    @torch.no_grad()
    def run(self, images: Tensor) -> npt.NDArray[np.float64]:
        """The mean kernel over all neuron calls."""
        static: dict[str, Tensor] = {}
        before: dict[str, Tensor] = {}
        for t in range(self.graph.timesteps):
            now = dict(static)
            for node in self.graph.nodes:
                if node.name in now or (t and isinstance(node.layer, Input)):
                    continue
                if isinstance(node.layer, Input):
                    now[node.name] = images
                elif not self._step(node.name, now, before):
                    break
                if node.name.startswith(("image", "stem")) and node.name in self.graph.static:
                    static[node.name] = now[node.name]
            before = now
        return self.kernel / self.calls

    def _step(self, name: str, now: dict[str, Tensor], before: dict[str, Tensor]) -> bool:
        """One layer at one step; false where nothing that spikes follows."""
        graph, layer = self.graph, self.graph[name]
        edges = [edge for edge in graph.sources[name] if not edge.delay or edge.source in before]
        parts = [before[edge.source] if edge.delay else now[edge.source] for edge in edges]
        match layer:
            case Add():
                now[name] = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            case Flatten():
                now[name] = parts[0].flatten(1)
            case Lif():
                for edge in graph.consumers[name]:
                    now[name] = self.modules[f"{name}>{edge.target}"](parts[0])
            case _ if name in self.modules:
                now[name] = self.modules[name](parts[0])
            case _:
                return False
        return True


def images_of(source: str | None, count: int) -> Tensor:
    """CIFAR-10 training images with zero mean and unit deviation per channel; noise without a source."""
    if source is None:
        return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels = load_dataset(source).train.images
    chosen = np.random.default_rng(0).choice(len(pixels), count, replace=False)
    images = torch.from_numpy(pixels[chosen]).float() / 255
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a CIFAR-10 folder; noise without it")
    parser.add_argument("--space", choices=("snasnet", "snasnet-forward"), default="snasnet-forward")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--naive", type=int, default=1, help="candidates also run the naive way, one repeat each")
    parser.add_argument("--batch", type=int, default=256, help="SNASNet's is 256")
    parser.add_argument("--keep-gb", type=float, default=1.5, help="memory for shared values, per repeat")
    args = parser.parse_args()

    space, rng = SnasnetSpace(backward=args.space == "snasnet"), np.random.default_rng(1)
    genotypes = [space.sample(rng) for _ in range(args.candidates)]
    graphs = [space.lower(genotype, (3, 32, 32), 10) for genotype in genotypes]
    images = images_of(args.data, REPEATS * args.batch)
    print(f"{len(graphs)} random candidates of {args.space}, {REPEATS} x {args.batch} images, 5 steps")

    probe = Probe(images, torch.zeros(len(images), dtype=torch.int64))
    begun, used = time.perf_counter(), time.process_time()
    hamming_scores(graphs, probe, repeats=REPEATS, workers=REPEATS, keep_bytes=int(args.keep_gb * 2**30))
    fast, used = (time.perf_counter() - begun) / len(graphs), (time.process_time() - used) / len(graphs)
    ratio = PUBLISHED_SECONDS / fast
    print(
        f"together: {fast:.2f} s per candidate ({used:.2f} s of a processor), {ratio:.0f} times faster than "
        f"{PUBLISHED_SECONDS:.0f} s; on two processors of its own {2 * PUBLISHED_SECONDS / used:.0f} times",
        flush=True,
    )

    for genotype, graph in list(zip(genotypes, graphs, strict=True))[: args.naive]:
        begun = time.perf_counter()
        naive = NaiveNetwork(graph, seed=0).run(images[: args.batch])
        slow = REPEATS * (time.perf_counter() - begun)
        begun = time.perf_counter()
        hamming_scores([graph], probe, repeats=REPEATS, workers=REPEATS)
        alone = time.perf_counter() - begun
        kernel = spike_kernels([graph], images[: args.batch], sahd_kernel, seed=0)[0]
        difference = np.abs(kernel - naive).max() / np.abs(naive).max()
        print(
            f"{genotype}: naive {slow:.1f} s (twice one repeat), alone {alone:.2f} s, {slow / alone:.0f} times faster; "
            f"together {slow / fast:.0f} times\n  largest relative difference of the kernels {difference:.1e}, "
            f"log determinants {log_determinant(naive):.3f} and {log_determinant(kernel):.3f}"
        )


if __name__ == "__main__":
    main()
