"""NIR, the exchange format of spiking networks (neuroir.org; Pedersen et al., Nature Communications 2024).

NIR describes neurons in continuous time: ``tau dv/dt = (v_leak - v) + r x``, a spike when ``v > v_threshold``, then
``v = v_reset``. A simulator takes Euler steps of ``dt`` seconds, which gives our Lif ``decay = 1 - dt / tau`` and
``gain = r dt / tau`` (IF: ``decay = 1``, ``gain = r dt``). The format states neither ``dt``, which every common
simulator takes to be 1e-4, nor how many steps there are, nor that a reset may subtract: files written here say all
that in metadata.

**Ties.** NIR fires above the threshold, this package at it. The threshold in a file is therefore the float32 just
below ours, and one that is read becomes the float32 just above the file's, so that no spike differs.
"""

from __future__ import annotations

from spikenas.deploy.nir_neuron import DT
from spikenas.deploy.nir_read import Imported, import_nir, read_nir
from spikenas.deploy.nir_write import write_nir

__all__ = ["DT", "Imported", "import_nir", "read_nir", "write_nir"]
