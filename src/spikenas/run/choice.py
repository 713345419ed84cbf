"""The network that a search chose, kept in its folder once the search has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikenas.errors import RunError
from spikenas.run.artifacts import read_json, write_json
from spikenas.run.folder import RunFolder, read_run


def keep_choice(folder: RunFolder, genotype: str) -> None:
    """Write it down, for a run whose training does not come to its end. Raises RunError when the disk refuses."""
    write_json(folder.choice, {"genotype": genotype})


def choice_of_search(path: Path) -> tuple[Mapping[str, Any], str]:
    """The settings of the study or run in a folder, and the genotype that its search chose, or that it was given.

    Raises RunError when it has chosen none yet.
    """
    folder = read_run(path)
    if given := folder.settings.get("genotype"):
        return folder.settings, str(given)
    for file in (folder.choice, folder.summary):
        if file.exists():
            return folder.settings, str(read_json(file)["genotype"])
    raise RunError(f"{path}: its search has not ended; go on with it first, or give a genotype")
