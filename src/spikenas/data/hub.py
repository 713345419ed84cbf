"""Datasets of the Hugging Face Hub by name: the one place that uses the network, and only for ``hf:`` names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spikenas.data.images import Progress
from spikenas.errors import DatasetError, MissingTool

NAME = re.compile(r"([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")
EXAMPLE = "hf:uoft-cs/cifar10"


def hub_folder(name: str, progress: Progress | None = None) -> Path:
    """The local folder of ``OWNER/NAME[/FOLDER][@REVISION]``, its parquet files downloaded unless they are there.

    Files lie in the Hub's own cache (HF_HOME); HF_HUB_OFFLINE=1 allows no others. Raises MissingTool without the
    package, and DatasetError for a name that makes no sense and when files cannot be had.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise DatasetError(f"hf:{name}: write hf:OWNER/NAME[/FOLDER][@REVISION], such as {EXAMPLE}")
    repository, folder, revision = match[1], match[2].strip("/"), match[3]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingTool(f"hf:{name} needs a package: pip install 'spikenas[hub]'") from error
    if progress is not None:
        progress(f"fetching {repository} from the Hugging Face Hub, unless it is here")
    pattern = f"{folder}/*.parquet" if folder else "*.parquet"
    try:
        found = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=[pattern])
    except Exception as error:  # which ones there are depends on the HTTP library of its version
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DatasetError(
            f"hf:{name}: cannot be fetched ({reason}); check the name and the connection, or give the path of a copy"
        ) from error
    return Path(found) / folder
