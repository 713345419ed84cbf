"""Figures of the C kernels on emulated cores: ``python benchmarks/firmware.py``, and of a run: ``--run runs/demo``.

Needs spikenas[mcu]. Instructions are those that the emulator executed. The dense baseline is CMSIS-NN's
arm_convolve_s8, see :mod:`spikenas.cost.dense`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.cost.cost import estimate
from spikenas.cost.dense import PER_MAC_DSP, dense_macs
from spikenas.cost.flash import CODE, code_parts, constant_bytes
from spikenas.cost.latency import Work, core_kind, image_work, instructions, step_work
from spikenas.cost.memory import Kernels, MemoryPlan, Schedule, plan_schedule
from spikenas.cost.steps import groups, stored_nodes
from spikenas.cost.target import TARGETS, Target, load_target
from spikenas.data.datasets import load_dataset
from spikenas.deploy.c_writer import write_firmware
from spikenas.deploy.emulator import Chip
from spikenas.deploy.host_library import host_library
from spikenas.deploy.toolchain import Image, build_image
from spikenas.deploy.verify import PROBE, verify
from spikenas.graph import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Graph,
    GraphBuilder,
    Input,
    Kind,
    Lif,
    Linear,
    Mean,
    Output,
    Vote,
)
from spikenas.model import IntegerModel, fold_norms, integer_shapes
from spikenas.reference import run
from spikenas.run.artifacts import load_integer_model
from spikenas.run.folder import read_run
from spikenas.space.embedded import EmbeddedSpace

RATES = (0.05, 0.15, 0.30)
LEFTS = 0.25  # share of layers shifted to the left, among those that the cost model is fitted to
CORES = ("stm32f405", "rp2040", "rv32")
Images = npt.NDArray[np.uint8]


# --- networks ---------------------------------------------------------------------------------------------


def reference_network(timesteps: int = 4) -> Graph:
    """Conv 16, pooling, conv 32, conv 32 with a spiking skip, pooling, linear, on 32x32x3: 34.7 KB of weights."""
    g = GraphBuilder()
    image = g.add(Input((3, 32, 32)), name="image")
    s1 = g.add(Lif(), g.add(BatchNorm2d(), g.add(Conv2d(16), image)), name="s1")
    p1 = g.add(AvgPool2d((2, 2), (2, 2)), s1)
    s2 = g.add(Lif(), g.add(BatchNorm2d(), g.add(Conv2d(32), p1)), name="s2")
    skip = g.add(Conv2d(32, (1, 1), padding=(0, 0), groups=32), s2)
    s3 = g.add(Lif(), g.add(Add(), g.add(BatchNorm2d(), g.add(Conv2d(32), s2)), skip), name="s3")
    p2 = g.add(AvgPool2d((2, 2), (2, 2)), s3)
    g.add(Output(), g.add(Mean(), g.add(Linear(10), g.add(Flatten(), p2))))
    return g.build(timesteps)


def kernel_network(bits: int, inputs: int = 32, outputs: int = 32, size: int = 16, *, fire: bool) -> Graph:
    """One 3x3 convolution of given spikes, its currents stored or fed to neurons."""
    g = GraphBuilder()
    spikes = g.add(Lif(decay=1.0), g.add(Input((inputs, size, size)), name="image"), name="spikes")
    value = g.add(Conv2d(outputs, weight_bits=bits), spikes, name="conv")
    value = g.add(Lif(), value, name="lif") if fire else value
    pooled = g.add(AvgPool2d((size, size), (size, size)), value)
    g.add(Output(), g.add(Mean(), g.add(Linear(4), g.add(Flatten(), pooled))))
    return g.build(1)


def odd_networks() -> Iterator[Graph]:
    """What space 'embedded' does not have: an odd number of channels, small membranes, votes."""
    for lif, channels, group in ((Lif(), 9, 1), (Lif(membrane_bits=8), 8, 1), (Lif(), 8, 2), (Lif(), 9, 2)):
        g = GraphBuilder()
        image = g.add(Input((1, 8, 8)), name="image")
        spikes = g.add(lif, g.add(BatchNorm2d(), g.add(Conv2d(channels), image)), name="spikes")
        spikes = g.add(lif, g.add(BatchNorm2d(), g.add(Conv2d(channels, stride=(2, 2)), spikes)), name="more")
        voices = g.add(Linear(10 * group), g.add(Flatten(), spikes))
        g.add(Output(), g.add(Mean(), g.add(Vote(group), voices) if group > 1 else voices))
        yield g.build(2)


def random_model(graph: Graph, seed: int, *, scale: float = 0.3, lefts: float = 0.0) -> IntegerModel:
    """Random weights over ``scale`` of their range; the sums of images are shifted, and a share ``lefts`` of others."""
    rng, graph = np.random.default_rng(seed), fold_norms(graph)
    weights = {}
    for name, shape in integer_shapes(graph).items():
        node, _, parameter = name.rpartition(".")
        layer = graph[node]
        if isinstance(layer, Conv2d | Linear) and parameter == "weight":
            limit = 2 ** (layer.weight_bits - 1) - 1
            values = np.rint(rng.integers(-limit, limit + 1, shape) * max(scale, 1 / limit))
        elif parameter == "shift":
            real = graph.kinds[graph.sources[node][0].source] not in (Kind.SPIKES, Kind.COUNTS)
            values = np.array(6 if real else -rng.integers(1, 5) if rng.random() < lefts else 0)
        elif parameter == "sign":
            values = rng.choice([-1, 1], shape)
        else:
            values = rng.integers(-20, 21, shape) if parameter == "bias" else np.ones(shape)
        weights[name] = values.astype(np.int32)
    return IntegerModel(graph, weights, 1.0)


def with_rate(model: IntegerModel, images: Images, rate: float) -> IntegerModel:
    """Thresholds at which each layer's membranes exceed them about that often."""
    weights = dict(model.weights)
    for name, layer in model.graph.layers.items():
        if isinstance(layer, Lif):
            source = model.graph.sources[name][0].source
            trace = run(IntegerModel(model.graph, weights, 1.0), images)
            axes = tuple(axis for axis in range(trace.values[source].ndim) if axis != 2)
            thresholds = np.quantile(trace.values[source], 1 - rate * 0.75, axis=axes)
            limit = 2 ** (layer.membrane_bits - 1) - 1
            weights[f"{name}.threshold"] = np.clip(thresholds, 1, limit).astype(np.int32)
    return IntegerModel(model.graph, weights, 1.0)


def random_images(graph: Graph, count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, *graph.shapes[graph.input]), dtype=np.uint8)


# --- measuring --------------------------------------------------------------------------------------------


@contextmanager
def linked(
    model: IntegerModel, target: Target, *flags: str, kernels: Kernels = Kernels.FAST
) -> Iterator[tuple[MemoryPlan, Image]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "firmware"
        plan = write_firmware(model, folder, kernels=kernels)
        yield plan, build_image(folder, Path(name) / "chip.elf", target, plan, flags=flags)


def step_instructions(
    model: IntegerModel,
    target: Target,
    image: npt.NDArray[np.uint8],
    *flags: str,
    kernels: Kernels = Kernels.FAST,
) -> list[int]:
    """Instructions of each step of one inference (of the first one, the image's loading included)."""
    with linked(model, target, PROBE, *flags, kernels=kernels) as (plan, program):
        marks: list[tuple[int, int]] = []
        chip = Chip(program, target, probe=lambda step, first, last, arena: marks.append((step, chip.counts.total)))
        chip.classify(image, model.graph.shapes[model.graph.output][0])
        totals, before = [0] * len(plan.steps), 0
        for step, count in marks:
            totals[step] += count - before
            before = count
        return totals


def kernel_instructions(target: Target, bits: int, *flags: str, fire: bool) -> list[int]:
    """Thousand instructions of the convolution at each rate."""
    model = random_model(kernel_network(bits, fire=fire), 0, scale=0.3 if bits == 8 else 1.0)
    if fire:
        model.weights["lif.threshold"][...] = 100
    counts = []
    for rate in RATES:
        spikes = np.random.default_rng(1).random((32, 16, 16)) < rate
        counts.append(step_instructions(model, target, np.where(spikes, 255, 0).astype(np.uint8), *flags)[1])
    return counts


# --- tables -----------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def kernel_table() -> str:
    rows = []
    for name, flags in (("stm32f405", ()), ("stm32f405", ("-DSPK_PORTABLE",)), ("rp2040", ()), ("rv32", ())):
        for bits in (8, 4, 2):
            cells = []
            for fire in (False, True):
                counts = kernel_instructions(TARGETS[name], bits, *flags, fire=fire)
                cells.append(" / ".join(f"{count / 1000:,.0f}" for count in counts))
            core = TARGETS[name].core + (", portable C" if flags else "")
            rows.append([core, str(bits), *cells])
    return table(["core", "weight bits", "convolution", "with neurons"], rows)


def network_table() -> str:
    target, rows = TARGETS["stm32f405"], []
    graph = fold_norms(reference_network())
    images = random_images(graph, 10)
    dense = PER_MAC_DSP * dense_macs(graph)
    for rate in (0.05, 0.10, 0.15, 0.30):
        model = with_rate(random_model(graph, 0), images[:4], rate)
        certificate = verify(model, target, images, count=len(images))
        if not certificate.passed:
            raise SystemExit(certificate.difference)
        cost = estimate(graph, target, certificate.spike_rates)
        rows.append(
            [
                f"{np.mean(list(certificate.spike_rates.values())):.0%}",
                f"{certificate.instructions / 1e6:.2f}",
                f"{certificate.instructions / dense:.2f}",
                f"{certificate.latency_ms_low:.0f} to {certificate.latency_ms_high:.0f}",
                f"{cost.instructions / certificate.instructions - 1:+.1%}",
                f"{cost.flash_bytes / certificate.flash_bytes - 1:+.1%}",
                f"{certificate.code_bytes:,}",
                f"{certificate.stack_used_bytes}",
                f"{certificate.chip_identical} of {certificate.chip_images}",
            ]
        )
    head = ["spikes", "M instr.", "of dense", "ms", "instr. predicted", "flash predicted", "code", "stack", "identical"]
    return table(head, rows)


def memory_table() -> str:
    rows = []
    for timesteps in (1, 2, 4, 8, 16):
        plans = [plan_schedule(reference_network(timesteps), schedule) for schedule in Schedule]
        ratio = plans[1].arena_bytes / plans[0].arena_bytes
        rows.append([str(timesteps), *(f"{plan.arena_bytes:,}" for plan in plans), f"{ratio:.1f}"])
    return table(["timesteps", *(schedule.value for schedule in Schedule), "ratio"], rows)


def run_tables(path: Path, images: int) -> str:
    """What `spikenas run` left in a folder, on its device: sizes and instructions as predicted and as they are."""
    folder = read_run(path)
    told = folder.settings
    target, model = load_target(told["target"]), load_integer_model(folder.integer_model)
    test = load_dataset(told["data"], seed=told["seed"], limit=told["limit"]).test.images
    chosen = np.random.default_rng(0).permutation(len(test))[:images]
    budget = {name: told[name] or getattr(target, name) for name in ("flash_bytes", "ram_bytes")}
    certificate = verify(model, target, test[chosen], count=images, **budget)
    if not certificate.passed:
        raise SystemExit(certificate.difference)
    cost = estimate(model.graph, target, certificate.spike_rates, **budget)
    arenas = [plan_schedule(model.graph, schedule).arena_bytes for schedule in Schedule]
    dense = certificate.against_dense(model.graph, target)
    steps = {row.timesteps: row.of_dense for row in dense.by_timesteps}
    with host_library(model) as library:
        start = time.perf_counter()
        library.predict(test)
        seconds = time.perf_counter() - start
    rows = [
        ["images on the emulated core, identical", f"{certificate.chip_identical} of {certificate.chip_images}"],
        ["compilers that agree", ", ".join(certificate.agreeing_compilers)],
        ["flash, linked and predicted", _pair(certificate.flash_bytes, cost.flash_bytes)],
        ["arena, linked and predicted", _pair(certificate.arena_bytes, cost.plan.arena_bytes)],
        ["arena step by step, and how much smaller", f"{arenas[1]:,} / {arenas[1] / certificate.arena_bytes:.1f}"],
        ["instructions, executed and predicted", _pair(certificate.instructions, cost.instructions)],
        [f"of a dense int8 pass, {dense.timesteps} timesteps", f"{dense.of_dense:.2f}"],
        *([["modelled at 1, 2, 4", ", ".join(f"{steps[t]:.2f}" for t in (1, 2, 4))]] if len(steps) > 1 else []),
        ["spikes", f"{np.mean(list(certificate.spike_rates.values())):.1%}"],
        ["latency", f"{certificate.latency_ms_low:.0f} to {certificate.latency_ms_high:.0f} ms"],
        ["host library, whole test set", f"{len(test):,} images in {seconds:.1f} s"],
    ]
    return table([f"{path.name} on {target.name}", ""], rows)


def _pair(real: float, predicted: float) -> str:
    return f"{real:,.0f} / {predicted:,.0f} ({predicted / real - 1:+.1%})"


def host_rate() -> str:
    graph = fold_norms(reference_network())
    images = random_images(graph, 200)
    model = with_rate(random_model(graph, 0), images[:4], 0.15)
    with host_library(model) as library:
        library.predict(images[:10])
        start = time.process_time()
        library.predict(images)
        return (
            f"host library: {len(images) / (time.process_time() - start):,.0f} inferences per second of processor time"
        )


# --- fitting the cost model -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One network on one core: the work and instructions of its steps, its parts and bytes of code."""

    core: str
    work: list[Work]
    executed: list[int]
    parts: list[str]
    code_bytes: int
    flash_bytes: int


SPACE = EmbeddedSpace(
    timesteps=(1, 2, 4), widths=(4, 8, 12, 16, 24, 32, 40, 48), heads=("pool", "hidden32", "hidden64"), max_stages=3
)


def sampled_graphs(count: int, kernels: Kernels, seed: int) -> Iterator[Graph]:
    """Random networks; small ones for the compact kernels, which nobody needs for others."""
    rng = np.random.default_rng(seed)
    shape, most = ((3, 16, 16), 120_000) if kernels is Kernels.FAST else ((1, 8, 8), 12_000)
    while count:
        graph = SPACE.lower(SPACE.sample(rng), shape, 10)
        if graph.parameter_count < most:
            count -= 1
            yield graph


def fitted_graphs(count: int, kernels: Kernels) -> Iterator[Graph]:
    sizes = ((16, 64), (64, 32)) if kernels is Kernels.FAST else ((8, 8), (12, 16))
    fixed = [kernel_network(bits, a, b, 10, fire=True) for bits in (8, 4, 2) for a, b in sizes]
    smallest = SPACE.lower(SPACE.smallest((1, 8, 8), 10), (1, 8, 8), 10)
    yield from (smallest, *fixed, *odd_networks(), *sampled_graphs(count, kernels, 0))


def collect(graphs: Iterator[Graph], kernels: Kernels) -> list[Sample]:
    samples = []
    for seed, graph in enumerate(graphs):
        images = random_images(graph, 2, seed)
        rate = float(np.random.default_rng(seed).uniform(0.05, 0.4))
        model = with_rate(random_model(graph, seed, lefts=LEFTS), images, rate)
        trace = run(model, images[:1])
        rates = {n: float(trace.values[n].mean()) for n, lif in model.graph.layers.items() if isinstance(lif, Lif)}
        for name in CORES:
            target = TARGETS[name]
            with linked(model, target, kernels=kernels) as (plan, image):
                pass
            stored = stored_nodes(model.graph)
            work = [groups(model.graph, step, stored) for step in plan.steps]
            pairs = zip(plan.steps, work, strict=True)
            done = [step_work(model.graph, *pair, plan, rates, model.shifted_left) for pair in pairs]
            done[0] += image_work(model.graph)
            executed = step_instructions(model, target, images[0], kernels=kernels)
            constants = sum(constant_bytes(model.graph, plan, work).values())
            code = image.flash_bytes - constants  # compilers add a few constants of their own
            print(f"{seed:3} {name:10} flash {image.flash_bytes:7} of it constants {constants:7}", flush=True)
            parts = code_parts(model.graph, plan, work)
            samples.append(Sample(name, done, executed, parts, code, image.flash_bytes))
    return samples


def fit(count: int) -> None:
    """Print prices of work that explain random networks best, and sizes of code that no network exceeds."""
    for kernels in Kernels:
        print(f"kernels: {kernels.value}")
        _fit(collect(fitted_graphs(count, kernels), kernels))


def _fit(samples: list[Sample]) -> None:
    from scipy.optimize import linprog
    from sklearn.linear_model import LinearRegression

    for core in CORES:
        mine = [sample for sample in samples if sample.core == core]
        pairs = [(astuple(w), n) for s in mine for w, n in zip(s.work, s.executed, strict=True) if n > 2000]
        work, executed = np.array([w for w, _ in pairs]), np.array([n for _, n in pairs])
        relative = LinearRegression(positive=True, fit_intercept=False).fit(
            work / executed[:, None], np.ones(len(work))
        )
        print(
            core_kind(TARGETS[core]),
            {f.name: round(float(c), 2) for f, c in zip(fields(Work), relative.coef_, strict=True)},
        )
        errors = np.abs(work @ relative.coef_ / executed - 1)
        print("  error of steps: median {:.1%}, 90% of them below {:.1%}".format(*np.quantile(errors, [0.5, 0.9])))
        parts = sorted({part for sample in mine for part in sample.parts})
        needed = np.array([[part in sample.parts for part in parts] for sample in mine], float)
        code = np.array([sample.code_bytes for sample in mine])
        sizes = linprog(needed.sum(axis=0), A_ub=-needed, b_ub=-code).x  # the least that is enough for all
        print("  ", {part: ceil(size) for part, size in zip(parts, sizes, strict=True)})
        spare = needed @ sizes - code
        print(f"  spare code: median {np.median(spare):.0f} bytes, at most {spare.max():.0f}")


def predict(count: int) -> None:
    """How far the cost model is off on random networks that it was not fitted to."""
    rows = []
    for kernels in Kernels:
        samples = collect(sampled_graphs(count, kernels, 1), kernels)
        for core in CORES:
            mine = [sample for sample in samples if sample.core == core]
            parts = CODE[kernels][core_kind(TARGETS[core])]
            flash = [sum(parts.get(part, 0) for part in s.parts) - s.code_bytes for s in mine]
            shares = np.abs([wrong / s.flash_bytes for wrong, s in zip(flash, mine, strict=True)])
            counted = [sum(instructions(work, TARGETS[core], kernels) for work in s.work) for s in mine]
            errors = np.abs([found / sum(s.executed) - 1 for found, s in zip(counted, mine, strict=True)])
            smallest = min(s.flash_bytes for s in mine)
            rows.append(
                [
                    kernels.value,
                    TARGETS[core].core,
                    f"{np.median(shares):.1%} / {shares.max():.1%}",
                    f"{smallest:,}",
                    f"{np.median(errors):.1%} / {errors.max():.1%}",
                    f"{(errors < 0.15).sum()} of {len(mine)}",
                ]
            )
    head = ["kernels", "core", "flash off, median / most", "smallest", "instructions off", "within 15%"]
    print(table(head, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true", help="fit the cost model instead (a quarter of an hour)")
    parser.add_argument("--predict", action="store_true", help="predict other random networks (ten minutes)")
    parser.add_argument("--networks", type=int, default=24, help="random networks to fit to")
    parser.add_argument("--run", type=Path, help="folder of a finished run: its network on its device instead")
    parser.add_argument("--images", type=int, default=100, help="test images of that run that the emulator sees")
    arguments = parser.parse_args()
    if arguments.run:
        print(run_tables(arguments.run, arguments.images))
        return
    if arguments.fit:
        fit(arguments.networks)
        return
    if arguments.predict:
        predict(arguments.networks)
        return
    print("conv 3x3, 32 to 32 channels, 16x16, one step: thousand instructions at 5 / 15 / 30% spikes\n")
    print(kernel_table(), "\n\nreference network, T=4, Cortex-M4\n")
    print(network_table(), "\n\nits arena in bytes\n")
    print(memory_table(), "\n")
    print(host_rate())


if __name__ == "__main__":
    main()
