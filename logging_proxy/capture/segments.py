"""
The spool on disk: segment files of checked blocks.

The spool's stream of bytes is cut into blocks, one for each write, and the
blocks lie back to back in segment files that are named after the stream
offset at which they start (16 hex digits, ``.seg``).  A block is::

    magic    4s    b"LPB1"
    length   u32   of the payload
    crc      u32   CRC-32 of start and payload
    before   u16   bytes between this header and the payload, which mean nothing
    after    u16   bytes between the payload and the next header, likewise
    start    u64   offset of the payload in the stream
    payload

Most have no bytes before or after; those are for blocks that fill whole pages.

A block that was only half written, by a crash or because it is being written
just now, fails its check; `BlockReader` then says so by giving nothing, and
the reader looks again later.  Nothing here touches a file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from zlib_ng.zlib_ng import crc32, crc32_combine

BLOCK = struct.Struct("<4sIIHHQ")
MAGIC = b"LPB1"
MAX_BLOCK = 64 << 20

LARGEST_WRITE = 4 << 20
"""Bytes that the writer puts into a block at most, unless a single record has more."""

Sum = tuple[int, int, int]
"""The CRC-32 of a piece, known beforehand: where in the whole it begins, its size, the sum."""

_NAME = re.compile(r"([0-9a-f]{16})\.seg")


def segment_name(start: int) -> str:
    """The name of the segment that starts at offset `start` of the stream."""
    return f"{start:016x}.seg"


def segment_start(name: str) -> int | None:
    """The offset in a segment's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def block_header(
    start: int, payload: bytes | memoryview, before: int = 0, after: int = 0, sums: Sequence[Sum] = ()
) -> bytes:
    """What stands before `payload` in a segment, with so many bytes around it; `sums` are in order."""
    return BLOCK.pack(MAGIC, len(payload), _check(start, payload, sums), before, after, start)


def _check(start: int, payload: bytes | memoryview, sums: Sequence[Sum] = ()) -> int:
    check, at = crc32(start.to_bytes(8, "little")), 0
    for begin, size, of in sums:
        check = crc32_combine(crc32(payload[at:begin], check), of, size)
        at = begin + size
    return crc32(payload[at:], check)


@dataclass(frozen=True, slots=True)
class Block:
    start: int
    payload: memoryview
    end_in_file: int
    """Where the next block's header stands in the segment file."""

    fills_pages: bool
    """Whether it was written past the page cache, where it is not to be found then."""


def read_block(data: memoryview, at: int, expected_start: int) -> Block | None:
    """
    The block whose header stands at `at` in `data`, a segment's content.

    None when no whole and undamaged block with that start is there (yet).
    """
    header = _read_header(data, at, expected_start)
    if header is None:
        return None
    length, crc, before, after = header
    body = at + BLOCK.size + before
    if len(data) - body < length:
        return None
    payload = data[body : body + length]
    if _check(expected_start, payload) != crc:
        return None
    return Block(expected_start, payload, body + length + after, before > 0)


def announced_size(data: bytes | memoryview, expected_start: int) -> int:
    """Bytes up to the end of the payload of the block whose header `data` begins with; 0 if it does not."""
    header = _read_header(data, 0, expected_start)
    if header is None:
        return 0
    length, _, before, _ = header
    return BLOCK.size + before + length


def _read_header(data: bytes | memoryview, at: int, expected_start: int) -> tuple[int, int, int, int] | None:
    """Length, CRC, and the bytes before and after; None if no header with that start stands at `at`."""
    if len(data) - at < BLOCK.size:
        return None
    magic, length, crc, before, after, start = BLOCK.unpack_from(data, at)
    if magic != MAGIC or start != expected_start or length > MAX_BLOCK:
        return None
    return length, crc, before, after
