"""Where a training runs and how precisely: on a GPU if there is one, in bfloat16 where that is faster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from spikenas.errors import TrainError
from spikenas.graph import Graph
from spikenas.snn.train_config import AUTO_BATCH, TrainConfig

SMALL_WORK = 2**24
"""values per batch up to which a second thread gains little, and waits long when the machine is busy elsewhere"""
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""features of a CPU that make convolutions in bfloat16 faster than in float32"""


def device_of(config: TrainConfig) -> torch.device:
    """The device to train on. Raises TrainError when ``cuda`` is asked for and not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device 'cuda': torch sees no GPU; use device 'cpu', or install a build of torch with CUDA")
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(chosen if config.device == "auto" else config.device)


def fast_bfloat16() -> list[str]:
    """Which of FAST_BFLOAT16 this CPU has."""
    features = torch.cpu.get_capabilities()
    return [name for name in FAST_BFLOAT16 if features.get(name)]


def gpu() -> str | None:
    """The name of the GPU that a training would use."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def uses_bfloat16(graph: Graph, config: TrainConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16: as asked, else where it is fast and the work is not small."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(fast_bfloat16()) and work(graph, config) > SMALL_WORK


def autocast(device: torch.device, bfloat16: bool) -> AbstractContextManager[None]:
    """Within it convolutions and linear layers take and give bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def threads_for(graph: Graph, config: TrainConfig) -> int:
    return config.threads or (1 if work(graph, config) <= SMALL_WORK else torch.get_num_threads())


def work(graph: Graph, config: TrainConfig) -> int:
    """Values that a batch makes."""
    values = sum(math.prod(shape) for shape in graph.shapes.values())
    return values * graph.inference_steps * (config.batch_size or AUTO_BATCH)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's number of threads, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
