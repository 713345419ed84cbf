"""What a search may be told."""

from __future__ import annotations

from dataclasses import dataclass, fields

from spikenas.errors import InputError
from spikenas.search.pareto import OBJECTIVES


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How much to try. Raises InputError for a number out of range.

    ``samples`` genotypes are judged by the score ``measure``, in batches of ``batch``; the best ``parents`` of them
    have children. Before a race the best tenth may be halved by a second, dearer score, ``shortlist_measure``. The
    best ``finalists`` are trained for ``first_epochs`` epochs, the better half of them until they have twice as many,
    and so on for ``rounds`` rounds. Evolution keeps ``population`` genotypes and trades ``objectives``, keys of
    :data:`spikenas.search.pareto.OBJECTIVES`.
    """

    samples: int = 2000
    measure: str = "structure"
    shortlist_measure: str | None = None
    batch: int = 50
    parents: int = 16
    finalists: int = 8
    first_epochs: int = 2
    rounds: int = 3
    population: int = 50
    objectives: tuple[str, ...] = ("score", "flash_bytes")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("measure", "shortlist_measure", "objectives"):
                continue
            least = 0 if item.name in ("finalists", "rounds") else 1
            if not isinstance(value, int) or value < least:
                raise InputError(f"search setting {item.name} {value!r}: it must be a whole number, at least {least}")
        known = [name for name in OBJECTIVES if name != "accuracy"]  # nothing is trained while evolution goes on
        for name in self.objectives or ("",):
            if name not in known:
                raise InputError(f"search setting objectives {name!r}: choose from {', '.join(known)}")
