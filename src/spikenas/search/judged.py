"""What a plan knows: each genotype it had judged, with the trial that came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from spikenas.search.screening import merit
from spikenas.search.settings import SearchSettings
from spikenas.search.strategy import Plan
from spikenas.search.trial import Proposal, Trial


class Judged:
    """Asks for the score of a genotype once, however often a plan comes back to it.

    Args:
        settings: the measure, the size of a batch, and ``samples``, after which nothing more is asked.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._trials: dict[str, Trial] = {}

    @property
    def trials(self) -> Mapping[str, Trial]:
        """By canonical genotype."""
        return MappingProxyType(self._trials)

    @property
    def room(self) -> int:
        """Genotypes that may still be asked for."""
        return max(0, self._settings.samples - len(self._trials))

    def judge(self, genotypes: Iterable[str]) -> Plan[None]:
        """Ask for those not judged yet, in batches, as far as there is room."""
        fresh = [genotype for genotype in dict.fromkeys(genotypes) if genotype not in self._trials][: self.room]
        size = self._settings.batch
        for start in range(0, len(fresh), size):
            batch = fresh[start : start + size]
            trials = yield [Proposal(genotype, self._settings.measure) for genotype in batch]
            self._trials.update(zip(batch, trials, strict=True))

    def best(self, genotypes: Iterable[str]) -> Trial | None:
        """The trial of highest :func:`merit` among those of ``genotypes`` that were judged."""
        found = [self._trials[genotype] for genotype in genotypes if genotype in self._trials]
        return max(found, key=merit, default=None)

    def ranked(self) -> list[Trial]:
        """All trials, best first."""
        return sorted(self._trials.values(), key=merit, reverse=True)
