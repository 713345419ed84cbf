"""What is shipped: the wheel holds every file of the package and works from there; the citation is well formed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import spikenas

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "spikenas"
HEAVY = Path(pytest.__file__).parent.parent
"""Where torch and the other dependencies are installed."""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, started without this checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist, made from a copy of the checkout."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("package")
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "site")
    shutil.copytree(ROOT, folder / "copy", ignore=ignore)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=folder / "copy")
    return next((folder / "dist").glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    there = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("spikenas/")}
    assert shipped == {name for name in there if "__pycache__" not in name}
    assert {"spikenas/deploy/runtime/steps.c", "spikenas/snn/kernels/junction.c"} < shipped


@pytest.mark.slow
def test_an_installed_wheel_runs_the_whole_road(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "heavy.pth").write_text(f"{HEAVY}\n", encoding="utf-8")  # the dependencies, not downloaded once more
    assert run(python, "-c", "import spikenas; print(spikenas.__file__)", cwd=tmp_path).startswith(str(site))
    command = tmp_path / "venv" / "bin" / "spikenas"
    assert run(command, "--version", cwd=tmp_path) == f"spikenas {spikenas.__version__}\n"
    few = ("--limit", "100", "--epochs", "1", "--samples", "50", "--finalists", "0", "--flash", "32KB", "--ram", "16KB")
    summary = json.loads(run(command, "run", "--data", "digits", *few, "--out", "first", "--json", cwd=tmp_path))
    assert summary["fits"]
    assert (tmp_path / "first" / "report.html").stat().st_size > 10_000
    run(command, "export", "first", "--to", "c", "--out", "firmware", cwd=tmp_path)
    assert (tmp_path / "firmware" / "network.c").is_file()


def test_the_citation_names_this_version_and_the_works_it_builds_on() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"  # whose schema requires these:
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == spikenas.__version__
    cited = citation["references"]
    assert [work["title"].split(":")[0] for work in cited] == [
        "SpikeNAS",
        "Neural Architecture Search for Spiking Neural Networks",
        "SpikeNAS-Bench",
    ]
    for work in cited:
        assert {"type", "title", "authors", "year"} <= set(work)
        assert all(author["family-names"] and author["given-names"] for author in work["authors"])
        assert work.get("doi") or work["url"].startswith("https://arxiv.org/abs/")
