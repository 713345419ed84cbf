"""Reads what is left in a damaged SQLite file, page by page, without SQLite, which reads nothing beyond the damage.

Rows of a table lie in leaf pages of its tree, and a leaf page is whole without the tree above it (SQLite's "Database
File Format", sections 1.6, 2.1 and 4). Which table a row belongs to is told by its number of columns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = tuple[int, tuple[Any, ...]]
"""The row's id and its columns; a column that is the id itself is None."""

MAGIC = b"SQLite format 3\0"
USUAL_PAGE_BYTES = 4096
LEAF = 13
FRAME_BYTES, LOG_HEADER_BYTES = 24, 32
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


def surviving_rows(path: Path) -> Iterator[Row]:
    """Every row that can be read whole, of all tables and in no order; rows committed to the log beside it count.

    Raises OSError when the file itself cannot be read.
    """
    pages = _Pages.read(path)
    for number in sorted(pages.contents):
        yield from pages.rows(number)


@dataclass(frozen=True, slots=True)
class _Pages:
    contents: dict[int, bytes]
    usable: int

    @staticmethod
    def read(path: Path) -> _Pages:
        data = path.read_bytes()
        log = path.with_name(f"{path.name}-wal")
        written = log.read_bytes() if log.is_file() else b""
        size = _page_bytes(data, written)
        reserved = data[20] if data.startswith(MAGIC) else 0
        contents = {start // size + 1: data[start : start + size] for start in range(0, len(data), size)}
        return _Pages(contents | _committed(written, size), size - reserved)

    def rows(self, number: int) -> Iterator[Row]:
        """The rows of a leaf page; none of another page."""
        page = self.contents[number]
        begin = 100 if number == 1 else 0
        if len(page) < begin + 8 or page[begin] != LEAF:
            return
        count = int.from_bytes(page[begin + 3 : begin + 5], "big")
        for cell in range(begin + 8, begin + 8 + 2 * count, 2):
            try:
                yield self._row(page, int.from_bytes(page[cell : cell + 2], "big"))
            except (IndexError, KeyError, ValueError, struct.error):
                continue  # this cell is damaged; its neighbours may not be

    def _row(self, page: bytes, at: int) -> Row:
        length, at = _varint(page, at)
        identity, at = _varint(page, at)
        return identity, _columns(self._payload(page, at, length))

    def _payload(self, page: bytes, at: int, length: int) -> bytes:
        """A row's bytes, those that did not fit its page gathered from others (section 1.6)."""
        if length <= self.usable - 35:
            return _slice(page, at, length)
        least = (self.usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (self.usable - 4)
        here = here if here <= self.usable - 35 else least
        parts, after = [_slice(page, at, here)], int.from_bytes(_slice(page, at + here, 4), "big")
        left, seen = length - here, set[int]()
        while left > 0:
            if after in seen:
                raise ValueError("a chain of pages that bites its tail")
            seen.add(after)
            further = self.contents[after]
            parts.append(_slice(further, 4, min(left, self.usable - 4)))
            left -= len(parts[-1])
            after = int.from_bytes(further[:4], "big")
        return b"".join(parts)


def _page_bytes(data: bytes, log: bytes) -> int:
    """The size of a page, from whichever header is whole."""
    found = int.from_bytes(data[16:18], "big") if data.startswith(MAGIC) else int.from_bytes(log[8:12], "big")
    found = 65536 if found == 1 else found
    return found if 512 <= found <= 65536 and found & (found - 1) == 0 else USUAL_PAGE_BYTES


def _committed(log: bytes, size: int) -> dict[int, bytes]:
    """The pages of the write-ahead log up to its last commit (section 4)."""
    pages: dict[int, bytes] = {}
    since: dict[int, bytes] = {}
    for start in range(LOG_HEADER_BYTES, len(log) - FRAME_BYTES - size + 1, FRAME_BYTES + size):
        number, commit = struct.unpack_from(">II", log, start)
        if log[start + 8 : start + 16] != log[16:24]:
            break  # left from before the log was begun anew
        since[number] = log[start + FRAME_BYTES : start + FRAME_BYTES + size]
        if commit:
            pages |= since
            since = {}
    return pages


def _columns(payload: bytes) -> tuple[Any, ...]:
    """A record's values (section 2.1)."""
    header, at = _varint(payload, 0)
    if header > len(payload):
        raise ValueError("a header longer than its record")
    kinds = []
    while at < header:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise ValueError("a record of another length than its columns")
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind <= 6:
        size = INTEGER_BYTES[kind]
        return int.from_bytes(_slice(payload, at, size), "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", _slice(payload, at, 8))[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise ValueError("a kind of value that SQLite keeps for itself")
    size = (kind - 12) // 2
    content = _slice(payload, at, size)
    return (content.decode() if kind % 2 else content), at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """
    >>> _varint(bytes([0x81, 0x00]), 0)
    (128, 2)
    """
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9


def _slice(data: bytes, at: int, length: int) -> bytes:
    part = data[at : at + length]
    if len(part) != length:
        raise ValueError("a record that ends beyond its page")
    return part
