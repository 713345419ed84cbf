"""A finished run's integer network proven on its device, and the certificate of that in the run's folder."""

from __future__ import annotations

from pathlib import Path

from spikenas.cost.target import load_target
from spikenas.data.datasets import dataset_of
from spikenas.deploy.certificate import Certificate
from spikenas.deploy.ladder import Progress, silent
from spikenas.deploy.verify import verify
from spikenas.run.artifacts import load_integer_model, plain, write_json
from spikenas.run.folder import read_run
from spikenas.snn.integer_network import predict

IMAGES = 100


def verify_run(
    path: Path,
    target: str | None = None,
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    images: int = IMAGES,
    setting: str | None = None,
    progress: Progress = silent,
) -> tuple[Certificate, Path]:
    """The certificate of the run in ``path`` and its file; target and budgets for the linker are by default the run's.

    ``images`` of the test set run on the emulated chip and are held against the reference, the host library's answers
    to all others against torch's, which tests hold against the reference; ``setting``: of `spikenas quantize`, instead
    of the run's own.
    Raises TargetError when the image does not fit, RunError for a setting that is not there, MissingTool.
    """
    folder = read_run(path)
    settings = folder.settings
    device = load_target(target or settings["target"])
    file = folder.integers(setting)
    test = dataset_of(settings).test.images
    certificate = verify(
        load_integer_model(file),
        device,
        test,
        flash_bytes=flash_bytes or settings["flash_bytes"],
        ram_bytes=ram_bytes or settings["ram_bytes"],
        count=images,
        answers=predict,
        progress=progress,
    )
    proof = file.parent / f"certificate-{Path(device.name).stem}.json"
    write_json(proof, plain(certificate))
    return certificate, proof
