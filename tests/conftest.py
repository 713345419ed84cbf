"""What every test gets: a cache folder of its own, so that nothing is written to the user's. And what several share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
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


@pytest.fixture(scope="session")
def need_ray() -> None:
    """Without importing it, which the executor does when it has told Ray what to keep to itself."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'spikenas[ray]'")


@pytest.fixture(scope="session")
def big_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study of 10,000 trials."""
    from fakes_report import report_data, searched_rows

    from spikenas.run.report import write_report

    path = tmp_path_factory.mktemp("big") / "report.html"
    write_report(report_data(trials=searched_rows(10_000)), path)
    return path
