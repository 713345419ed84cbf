"""spikenas doctor: what is installed beside spikenas."""

from __future__ import annotations

import platform

from spikenas import __version__
from spikenas.cli.output import JsonOption, print_json, print_table


def doctor(as_json: JsonOption = False) -> None:
    """Which optional tools are there, in which version, and what to type for those that are not.

    Example: `spikenas doctor`
    """
    from spikenas.run.doctor import examine

    tools = examine()
    if as_json:
        return print_json({"spikenas": __version__, "python": platform.python_version(), "tools": tools})
    there = [[tool.name, tool.version, tool.serves] for tool in tools if tool.version is not None]
    missing = [[tool.name, tool.serves, tool.install] for tool in tools if tool.version is None]
    print_table(f"spikenas {__version__}, Python {platform.python_version()}", ["tool", "version", "for"], there)
    if missing:
        print_table("Missing, and only needed for what stands beside it", ["tool", "for", "to have it"], missing)
