"""Files of events, as the makers of the datasets wrote them, to arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikenas.data.arrays import UNREADABLE
from spikenas.errors import DatasetError

Ints = npt.NDArray[np.int64]

ATIS_OVERFLOW_ROW, ATIS_OVERFLOW_US = 240, 2**13
DVS128_SIDE = 128
PACKET_HEADER_BYTES, POLARITY_EVENT = 28, 1
HEADER_END = b"#!END-HEADER\r\n"


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """What a sensor reported: ``time`` in microseconds, column ``x``, row ``y``, ``polarity`` 0 or 1, int64 [N]."""

    time: Ints
    x: Ints
    y: Ints
    polarity: Ints

    def between(self, first: int, last: int) -> Events:
        """Those at first <= time < last."""
        inside = (self.time >= first) & (self.time < last)
        return Events(self.time[inside], self.x[inside], self.y[inside], self.polarity[inside])


def read_events(file: Path) -> Events:
    """The events of ``file``, in the format of its ending (READERS). Raises DatasetError naming the file."""
    try:
        return READERS[file.suffix](file.read_bytes())
    except UNREADABLE as error:
        raise DatasetError(f"{file}: broken event file ({error}); fetch it again") from error


def atis(raw: bytes) -> Events:
    """N-MNIST's: 5 bytes an event, x, y, a bit of polarity and 23 of time, big-endian (Orchard et al., 2015).

    A row of 240 is no event, but says that 2**13 microseconds more have passed.
    """
    fields = np.frombuffer(raw, np.uint8).reshape(-1, 5).astype(np.int64)
    x, y, high = fields[:, 0], fields[:, 1], fields[:, 2]
    overflow = y == ATIS_OVERFLOW_ROW
    time = ((high & 0x7F) << 16 | fields[:, 3] << 8 | fields[:, 4]) + ATIS_OVERFLOW_US * np.cumsum(overflow)
    return Events(time[~overflow], x[~overflow], y[~overflow], high[~overflow] >> 7)


def aedat(raw: bytes) -> Events:
    """jAER's AER-DAT2.0 of a DVS128 and cAER's AER-DAT3.1, told apart by the first line."""
    version = raw.partition(b"\n")[0].strip()
    if version == b"#!AER-DAT2.0":
        return _aedat2(raw)
    if version == b"#!AER-DAT3.1":
        return _aedat3(raw)
    raise ValueError(f"its first line is {version[:20]!r}, not #!AER-DAT2.0 or #!AER-DAT3.1")


def _aedat2(raw: bytes) -> Events:
    """Lines of comments, then address and microseconds of each event, big-endian uint32.

    The address of a DVS128 is, from the lowest bit: 1 off or 0 on, 7 bits of row and 7 of column, both counted from
    the far end. jAER calls the former x; so read, the images of CIFAR10-DVS are upright.
    """
    start = 0
    while raw[start : start + 1] == b"#":
        start = raw.index(b"\n", start) + 1
    words = np.frombuffer(raw, ">u4", offset=start).reshape(-1, 2).astype(np.int64)
    address = words[:, 0]
    last = DVS128_SIDE - 1
    return Events(words[:, 1], last - (address >> 8 & last), last - (address >> 1 & last), 1 - (address & 1))


def _aedat3(raw: bytes) -> Events:
    """A header, then packets: 28 bytes that begin with type, source and size of an event, then that many events.

    A polarity event is a little-endian uint32, from the lowest bit: valid, polarity, 15 bits of row, 15 of column;
    and int32 microseconds, whose overflows the packet's header counts.
    """
    start = raw.index(HEADER_END) + len(HEADER_END)
    data, time = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while start < len(raw):
        kind = int(np.frombuffer(raw, "<i2", 1, start)[0])
        size, _, overflows, capacity, count = np.frombuffer(raw, "<i4", 5, start + 4).tolist()
        start += PACKET_HEADER_BYTES
        if kind == POLARITY_EVENT:
            words = np.frombuffer(raw, "<u4", 2 * count, start).reshape(-1, 2).astype(np.int64)
            data.append(words[:, 0])
            time.append(words[:, 1] + (overflows << 31))
        start += size * capacity
    word, when = np.concatenate(data), np.concatenate(time)
    valid = word & 1 == 1
    word, when = word[valid], when[valid]
    return Events(when, word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1)


def npz(raw: bytes) -> Events:
    """spikingjelly's: arrays t in microseconds, x, y and p."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        return Events(*(file[name].astype(np.int64) for name in "txyp"))


READERS: Mapping[str, Callable[[bytes], Events]] = {".bin": atis, ".aedat": aedat, ".npz": npz}
