"""What every test gets: a cache folder of its own, so that nothing is written to the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SPIKENAS_CACHE in a temporary folder, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("SPIKENAS_CACHE", str(folder))
    yield folder
    patch.undo()
