"""Every score by name. Importing this loads torch; :mod:`spikenas.score.structure_scores` does not."""

from __future__ import annotations

from spikenas.score.grad_norm import grad_norm
from spikenas.score.hamming import naswot, naswot_of_all, sahd, sahd_of_all
from spikenas.score.jacob_cov import jacob_cov
from spikenas.score.score import Needs, ProbeScore, Score
from spikenas.score.snip import snip
from spikenas.score.structure_scores import STRUCTURE_SCORES
from spikenas.score.synflow import synflow

PROBE_SCORES: dict[str, ProbeScore] = {
    "sahd": ProbeScore("sahd", sahd, Needs.ACTIVATIONS, sahd_of_all),
    "naswot": ProbeScore("naswot", naswot, Needs.ACTIVATIONS, naswot_of_all),
    "synflow": ProbeScore("synflow", synflow, Needs.GRADIENTS),
    "snip": ProbeScore("snip", snip, Needs.GRADIENTS),
    "grad_norm": ProbeScore("grad_norm", grad_norm, Needs.GRADIENTS),
    "jacob_cov": ProbeScore("jacob_cov", jacob_cov, Needs.GRADIENTS),
}
SCORES: dict[str, Score] = {**STRUCTURE_SCORES, **PROBE_SCORES}
