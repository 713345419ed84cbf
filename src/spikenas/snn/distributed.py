"""Several processes that train one network together, by torch's DistributedDataParallel.

``torchrun --nproc-per-node 2 -m spikenas train ...`` starts them. Every process draws the same random numbers and takes
its share of each batch; gradients are averaged, so a batch is as large as with one process. Norms use the statistics
of their own share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from spikenas.snn.torchrun import processes

Floats = npt.NDArray[np.float64]


@contextmanager
def worker_group() -> Iterator[bool]:
    """Join the processes that torchrun has started, if it has; whether this one is the first, which alone writes."""
    if processes() == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


class Workers:
    """The processes of a training; one where none were joined."""

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if joined else 1
        self.rank = distributed.get_rank() if joined else 0

    def share(self, images: int) -> slice:
        """Which of a batch's images are this process's."""
        return slice(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """``module`` with gradients averaged over the processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, [device] if device.type == "cuda" else None)

    def summed(self, values: Floats) -> Floats:
        """The sum over all processes."""
        if self.count == 1:
            return values
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.from_numpy(values).to(device)
        distributed.all_reduce(tensor)
        return tensor.cpu().numpy()

    def summed_dict(self, values: Mapping[str, float]) -> dict[str, float]:
        """The same of each value."""
        return dict(zip(values, self.summed(np.array(list(values.values()), np.float64)).tolist(), strict=True))
