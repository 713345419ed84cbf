"""spikenas train: the road without its search; spikenas evaluate: a finished run on images of one's choice."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikenas.cli.output import JsonOption, print_json, print_table
from spikenas.cli.run_verbs import tell
from spikenas.cli.search_options import (
    DATA_HELP,
    DEVICE,
    SOURCE,
    SPACE_NAMES,
    EnergyOption,
    FramesOption,
    LatencyOption,
    LimitOption,
    MinutesOption,
    TeacherOption,
    bytes_or_none,
)
from spikenas.cost.words import chip_uj, latency_ms

if TYPE_CHECKING:
    from spikenas.run.evaluation import RunEvaluation, TargetCost

SHARE: dict[str, Any] = {"min": 0.0, "max": 1.0}


def train(
    network: Annotated[
        str, typer.Argument(help="A genotype, or the folder of a search or run whose choice is to be trained.")
    ],
    data: Annotated[str | None, typer.Option("--data", help=f"{DATA_HELP} Default: the search's.", **SOURCE)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default FOLDER/trained.")] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Default: the search's, or embedded.", autocompletion=SPACE_NAMES)
    ] = None,
    flash: Annotated[
        str | None, typer.Option("--flash", help="Flash budget, such as 32KB. Default: the search's, or the target's.")
    ] = None,
    ram: Annotated[
        str | None, typer.Option("--ram", help="RAM budget, such as 16KB. Default: the search's, or the target's.")
    ] = None,
    energy: EnergyOption = None,
    latency: LatencyOption = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Default: the search's, or any Cortex-M4.", **DEVICE),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Default: what suits the data.")] = None,
    minutes: MinutesOption = None,
    teacher: TeacherOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images a step; 0: what suits their number.")] = 0,
    optimizer: Annotated[str, typer.Option("--optimizer", help="muon, adamw or sgd.")] = "muon",
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest.")] = 2e-2,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Of weights. Default: what suits the length of an epoch.")
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="cosine or one-cycle.")] = "cosine",
    warmup: Annotated[float, typer.Option("--warmup", **SHARE, help="Share of all steps.")] = 0.1,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing")] = 0.1,
    augment: Annotated[str, typer.Option("--augment", help="auto, none, or such as shift4+flip+cutout8.")] = "auto",
    mixup: Annotated[float, typer.Option("--mixup", help="Alpha of mixup's Beta distribution; 0: none.")] = 0.0,
    temporal_loss: Annotated[float, typer.Option("--temporal-loss", **SHARE, help="Weight of TET's loss.")] = 0.0,
    learn_decay: Annotated[bool, typer.Option("--learn-decay", help="Learn the neurons' leaks (PLIF).")] = False,
    rate_coded: Annotated[
        float,
        typer.Option("--rate-coded", min=0.0, max=0.99, help="Share of the epochs, the first, on rates, not spikes."),
    ] = 0.85,
    average: Annotated[float, typer.Option("--average", help="Decay of averaged weights, such as 0.999.")] = 0.0,
    patience: Annotated[int, typer.Option("--patience", help="Stop after so many epochs without progress.")] = 0,
    dropout: Annotated[float, typer.Option("--dropout", help="Of what enters fully connected layers.")] = 0.0,
    rate_penalty: Annotated[float, typer.Option("--rate-penalty", help="Weight of the mean spike rate.")] = 0.0,
    clip: Annotated[float, typer.Option("--clip", help="Largest norm of the gradient; 0: any.")] = 1.0,
    precision: Annotated[str, typer.Option("--precision", help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", help="0: what suits the work.")] = 0,
    limit: LimitOption = None,
    encode: Annotated[str | None, typer.Option("--encode", help="Default: the search's, or direct.")] = None,
    frames: FramesOption = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Default: the search's, or 0.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write its event files to OUT/tensorboard.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network of your choice, then quantize, evaluate and report, as `spikenas run` does after its search.

    The same command again goes on where it stopped. On several GPUs, or in several processes:
    `torchrun --nproc-per-node 2 -m spikenas train ...`.

    Example: `spikenas train t4-b8-k3s1-16:30s.01.0-pool --data digits --epochs 20 --out runs/trained`
    """
    given = dict(locals())
    memories = {"flash_bytes": bytes_or_none(flash), "ram_bytes": bytes_or_none(ram)}
    from spikenas.run.folder import check_run
    from spikenas.run.run_settings import settings_to_train
    from spikenas.snn.torchrun import is_first
    from spikenas.snn.train_config import TrainConfig

    own = {"epochs", "seed", "neuron"}
    training = TrainConfig(**{f.name: given[f.name] for f in fields(TrainConfig) if f.name not in own})
    named: dict[str, Any] = {"data": data, "space": space, "target": target, **memories, "limit": limit, "seed": seed}
    named |= {"encode": encode, "frames": frames, "teacher": teacher}
    named |= {"energy_nj": energy, "latency_ms": latency, "epochs": epochs, "minutes": minutes}
    settings, folder = settings_to_train(network, out, training, named)
    if is_first():
        check_run(folder, asdict(settings))  # torch takes its time
    from spikenas.cli.progress import RunProgress
    from spikenas.pipeline import follow
    from spikenas.pipeline import run as run_pipeline
    from spikenas.snn.distributed import worker_group

    with worker_group() as first:
        if not first:
            return follow(settings, folder)
        with RunProgress() as progress:
            summary = run_pipeline(settings, folder, progress, tensorboard=tensorboard)
    tell(summary, folder, as_json=as_json)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[str | None, typer.Option("--data", help=f"{DATA_HELP} Default: the run's.", **SOURCE)] = None,
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "test",
    as_json: JsonOption = False,
) -> None:
    """Accuracy, confusions, spike rates, exact operations and energy of a run's networks on images of your choice.

    Example: `spikenas evaluate runs/demo --split val`
    """
    from spikenas.cli.progress import RunProgress
    from spikenas.run.evaluation import evaluate_run

    with RunProgress() as progress:
        found = evaluate_run(run, data, split, progress.message, progress.rung)
    if as_json:
        return print_json(found)
    _print_evaluation(found)


def _print_evaluation(found: RunEvaluation) -> None:
    title = f"{found.genotype} on {found.images:,} {found.split} images of {found.data}"
    rows = [
        ["accuracy, float", f"{100 * found.float_accuracy:.2f}%"],
        ["accuracy, integer", f"{100 * found.integer_accuracy:.2f}%"],
        ["loss, float", f"{found.loss:.4f}"],
        ["spikes", f"{found.spikes:,.0f} per image, {100 * found.spike_rate:.2f}% of neurons and steps"],
        ["synops", f"{found.synops:,.0f} per image, exact"],
        ["MACs", f"{found.macs:,.0f} per image"],
    ]
    print_table(title, ["", ""], rows)
    layers = [
        [
            row.name,
            "" if row.spike_rate is None else f"{100 * row.spike_rate:.2f}%",
            "" if row.spikes is None else f"{row.spikes:,}",
            "" if row.synops is None else f"{row.synops:,}",
        ]
        for row in found.layers
    ]
    print_table("By layer, over all images", ["layer", "spike rate", "spikes", "synops"], layers)
    names = found.class_names
    confusion = [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, found.confusion, strict=True)]
    print_table("Integer network: true class by row, answer by column", ["", *names], confusion)
    targets = [[name, *_on_target(cost), cost.refusal] for name, cost in found.targets.items()]
    columns = ["target", "uJ on the chip", "ms", "nJ, 45 nm operations", "refused"]
    print_table("Per inference, estimated", columns, targets)


def _on_target(cost: TargetCost) -> list[str]:
    if cost.refusal:
        return ["", "", ""]
    latency = latency_ms(cost) if cost.latency_ms else ""
    return [chip_uj(cost), latency, f"{cost.energy_nj:,.0f}"]
