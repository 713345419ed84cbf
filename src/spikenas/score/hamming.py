"""SAHD and NASWOT: networks whose untrained spikes tell images apart train well.

Both are log |det K| of a kernel over a batch of images, see :mod:`spikenas.score.spike_kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from spikenas.errors import InputError
from spikenas.graph import Graph
from spikenas.score.score import Probe
from spikenas.score.shared_forward import KEEP_BYTES, Kernel, spike_kernels
from spikenas.score.spike_kernel import hamming_kernel, log_determinant, sahd_kernel


def sahd(graph: Graph, probe: Probe) -> float:
    """Sparsity-aware Hamming distance (Kim et al., ECCV 2022, arXiv 2201.10355, section 4.2), on one batch."""
    return hamming_scores([graph], probe, sahd_kernel)[0]


def naswot(graph: Graph, probe: Probe) -> float:
    """NASWOT's score (Mellor et al., ICML 2021, arXiv 2006.04647) on spikes, on one batch."""
    return hamming_scores([graph], probe, hamming_kernel)[0]


def sahd_of_all(graphs: Sequence[Graph], probe: Probe) -> list[float]:
    """:func:`sahd` of each."""
    return hamming_scores(graphs, probe, sahd_kernel)


def naswot_of_all(graphs: Sequence[Graph], probe: Probe) -> list[float]:
    """:func:`naswot` of each."""
    return hamming_scores(graphs, probe, hamming_kernel)


def hamming_scores(
    graphs: Sequence[Graph],
    probe: Probe,
    kernel: Kernel = sahd_kernel,
    *,
    repeats: int = 1,
    workers: int = 1,
    keep_bytes: int = KEEP_BYTES,
) -> list[float]:
    """The scores of many networks at once, much faster than one by one: what they have in common is computed once.

    The images are cut into ``repeats`` batches (SNASNet: 2 of 256), each with weights of its own; the score is the
    mean. ``workers`` repeats run at a time, each on one core and each keeping up to ``keep_bytes``.
    Raises InputError when the images do not divide.
    """
    if repeats < 1 or len(probe.images) % repeats:
        raise InputError(f"{len(probe.images)} images, {repeats} repeats: give a multiple of the repeats")

    def one(number: int) -> list[float]:
        images, seed = batches[number], probe.seed * repeats + number
        kernels = spike_kernels(graphs, images, kernel, seed=seed, keep_bytes=keep_bytes)
        return [log_determinant(matrix) for matrix in kernels]

    batches = torch.chunk(probe.images, repeats)
    scores = [one(number) for number in range(repeats)] if workers == 1 else _in_threads(one, repeats, workers)
    return [float(mean) for mean in np.mean(scores, axis=0)]


def _in_threads(function: Callable[[int], list[float]], count: int, workers: int) -> list[list[float]]:
    """``function`` of 0..count-1, one torch thread each: cores that never wait for each other."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, range(count)))
    finally:
        torch.set_num_threads(threads)
