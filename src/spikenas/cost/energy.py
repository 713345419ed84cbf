"""Energy of arithmetic and memory at 45 nm, the field's common yardstick.

Figures: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9.
They price operations of an ideal accelerator. A microcontroller spends hundreds of times more on fetching and
decoding instructions, so this ranks networks; it does not predict a battery's life.
"""

from __future__ import annotations

from bisect import bisect_left

INT8_ADD_PJ = 0.03
INT8_MAC_PJ = 0.23  # an 8-bit multiplication (0.2) and an addition
INT16_ADD_PJ = 0.05
FLOAT_ADD_PJ = 0.9
FLOAT_MAC_PJ = 4.6
# A 64-bit read from an SRAM of so many bytes.
SRAM_READ_PJ = ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))
READ_BYTES = 8
# A leak step: one multiplication at twice 8 bits, four times the array of an 8-bit multiplier, and two additions.
NEURON_UPDATE_PJ = 4 * 0.2 + 2 * INT16_ADD_PJ
MEMBRANE_BYTES = 4  # read and write of 16 bits


def sram_pj_per_byte(memory_bytes: int) -> float:
    """Energy to read a byte from a memory of that size: the smallest listed SRAM that holds it."""
    index = min(bisect_left([size for size, _ in SRAM_READ_PJ], memory_bytes), len(SRAM_READ_PJ) - 1)
    return SRAM_READ_PJ[index][1] / READ_BYTES


def operations_nj(
    macs: float, synops: float, neuron_updates: float, weight_bits: int, flash_bytes: int, ram_bytes: int
) -> float:
    """Nanojoules of one inference's integer arithmetic and of the weights and membranes it reads.

    >>> round(operations_nj(1000, 0, 0, 8, 8192, 8192), 4)  # 1000 * (0.23 + 1 byte * 10 pJ / 8 bytes)
    1.48
    """
    arithmetic = macs * INT8_MAC_PJ + synops * INT8_ADD_PJ + neuron_updates * NEURON_UPDATE_PJ
    weights = (macs + synops) * weight_bits / 8 * sram_pj_per_byte(flash_bytes)
    membranes = neuron_updates * MEMBRANE_BYTES * sram_pj_per_byte(ram_bytes)
    return (arithmetic + weights + membranes) / 1000
