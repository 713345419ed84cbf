"""What a report shows, as plain values: whoever has them can write one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spikenas.cost.budget import Budget
from spikenas.cost.cost import Cost
from spikenas.graph import Graph

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReportData:
    """One finished run.

    Args:
        title: the page's heading, such as "digits on cortex-m4".
        genotype, space, data, target: names, as the command line spells them.
        budget: the limits; a figure that is None is shown without one.
        cost: the cost of the integer network at its measured spike rates, with layers and memory plan.
        graph: the network, with or without its BatchNorm2d nodes.
        float_accuracy, integer_accuracy: on the test images, 0 to 1.
        spike_rate: mean spikes per neuron and step, 0 to 1.
        spike_rates: the same of each Lif, by name.
        seconds: by stage, in the order they ran.
        seed, command: what repeats the run; the command is shown as it is.
        minutes: how long the run was told to train, where the command says how many epochs that were; else None.
        curve: a row per epoch with ``epoch``, ``train_loss``, ``train_accuracy``, ``val_accuracy``, ``spike_rate``
            (and ``val_loss`` and ``on_rates`` where known).
        trials: a row per trial, as :func:`spikenas.search.trial.trial_to_dict` makes them; read are ``number``,
            ``genotype``, ``measure``, ``state``, ``epochs``, ``score``, ``accuracy``, ``flash_bytes``, ``ram_bytes``,
            ``energy_nj``, ``latency_ms`` and ``reason``, each of which may be missing or None.
        train_command: what would train another genotype alike, with "GENOTYPE" and "OUT" where its text and the folder
            belong; empty where nothing was searched.
        answers: what the integer network answered to the test images, as :func:`spikenas.run.answers.look_at_answers`
            tells it; None where nobody looked.
        quantized: a row per setting, as ``spikenas quantize`` writes them (:mod:`spikenas.run.quantization`).
        certificates: those of ``spikenas verify`` (:class:`spikenas.deploy.certificate.Certificate`).
    """

    title: str
    genotype: str
    space: str
    data: str
    target: str
    budget: Budget
    cost: Cost
    graph: Graph
    float_accuracy: float
    integer_accuracy: float
    spike_rate: float
    seconds: Mapping[str, float]
    seed: int
    command: str
    curve: Sequence[Row] = ()
    trials: Sequence[Row] = ()
    spike_rates: Mapping[str, float] = field(default_factory=dict)
    train_command: str = ""
    answers: Row | None = None
    quantized: Sequence[Row] = ()
    minutes: float | None = None
    certificates: Sequence[Row] = ()
