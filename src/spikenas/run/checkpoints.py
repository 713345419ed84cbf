"""The weights of short trainings, so that the next round of a race goes on where the last one stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path

from spikenas.errors import ModelError, RunError
from spikenas.model import Model
from spikenas.run.artifacts import load_model, save_model
from spikenas.search.trial import Proposal


class Checkpoints:
    """One safetensors file per genotype and number of epochs, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, proposal: Proposal, model: Model) -> None:
        """Keep ``model`` as what ``proposal`` left. Raises RunError when the disk refuses."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be made ({error.strerror}); choose another --out") from error
        save_model(self.path(proposal.genotype, proposal.epochs), model)

    def load(self, proposal: Proposal) -> Model:
        """The weights ``proposal`` starts from. Raises RunError when they are gone or damaged."""
        try:
            return load_model(self.path(proposal.genotype, proposal.start))
        except ModelError as error:
            raise RunError(f"{error}; the race cannot go on without it: start in another folder") from error

    def path(self, genotype: str, epochs: int) -> Path:
        """Where the weights of ``genotype`` after ``epochs`` epochs lie; genotypes may hold any character."""
        key = hashlib.sha256(genotype.encode()).hexdigest()[:16]
        return self.folder / f"{key}-epoch{epochs}.safetensors"
