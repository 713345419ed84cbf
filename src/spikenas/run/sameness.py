"""Whether the settings of a folder are those of a command, and how they differ, as one types them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikenas.data.datasets import same_source

OPTIONS = {
    "flash_bytes": "--flash",
    "ram_bytes": "--ram",
    "energy_nj": "--energy",
    "latency_ms": "--latency",
    "input_shape": "--input",
    "genotype": "NETWORK",
    "processes": "--nproc-per-node",
}
"""Settings that are not called as their option is."""
BEFORE = {"processes": 1, "teacher": 0}
"""Settings that older runs do not name, and what these had."""


def option(name: str) -> str:
    """What sets a setting.

    >>> option("ram_bytes"), option("search.shortlist_measure")
    ('--ram', '--shortlist-measure')
    """
    last = name.rpartition(".")[2]
    return OPTIONS.get(last) or f"--{last.replace('_', '-')}"


def typed(name: str, value: Any) -> str:
    """A setting's value as one types it.

    >>> typed("ram_bytes", 1024), typed("ram_bytes", 1500), typed("minutes", 2.0), typed("minutes", None)
    ('1KB', '1500', '2', 'not given')
    """
    if value is None:
        return "not given"
    if name.endswith("_bytes"):
        sizes = {"MB": 1024**2, "KB": 1024}
        return next((f"{value // size}{unit}" for unit, size in sizes.items() if value % size == 0), str(value))
    if isinstance(value, list | tuple):
        return ("x" if name == "input_shape" else ",").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """How the settings ``there`` differ from those ``here``, a phrase each; a source of images that moved does not.

    >>> differences({"seed": 0, "ram_bytes": 1024}, {"seed": 1, "ram_bytes": None})
    ['--seed was 0, now 1', '--ram was 1KB, now not given']
    """
    old, new = flat(there), flat(here)
    old = {name: value for name, value in BEFORE.items() if name in new} | old
    return [
        f"{option(name)} was {typed(name, old.get(name))}, now {typed(name, new.get(name))}"
        for name in dict.fromkeys([*new, *old])
        if not _same(name, old.get(name), new.get(name))
    ]


def _same(name: str, old: Any, new: Any) -> bool:
    if name == "data" and isinstance(old, str) and isinstance(new, str):
        return same_source(old, new)
    return bool(old == new)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by their path.

    >>> flat({"seed": 1, "search": {"samples": 2}})
    {'seed': 1, 'search.samples': 2}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
