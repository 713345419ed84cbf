"""What torchrun tells the processes that it starts, in their environment."""

from __future__ import annotations

import os


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the one that writes."""
    return os.environ.get("RANK", "0") == "0"
