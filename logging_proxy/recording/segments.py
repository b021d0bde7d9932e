"""
The spool on disk: segment files of checked blocks.

The spool's stream of bytes is cut into blocks, one for each write, and the
blocks lie back to back in segment files that are named after the stream
offset at which they start (16 hex digits, ``.seg``).  A block is::

    magic    4s    b"LPB2"
    length   u32   of the payload
    crc      u32   CRC-32 of salt, start and payload
    before   u16   bytes between this header and the payload, which mean nothing
    after    u16   bytes between the payload and the next header, likewise
    start    u64   offset of the payload in the stream
    salt     u32   a random number, the same in all blocks of a segment
    payload

Most have no bytes before or after; those are for blocks that fill whole pages.
Segments of earlier versions have blocks ``LPB1``, without a salt; they are read as well.

A block that was only half written, by a crash or because it is being written
just now, fails its check; `read_block` then gives nothing, and the reader looks
again later.  A block that is damaged fails it for ever, and `whole_blocks` finds
those behind it.  A payload is what clients have sent, so it may hold what looks
like a block; clients do not know the salt, which tells a true one.

Nothing here touches a file.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zlib_ng.zlib_ng import crc32, crc32_combine

BLOCK = struct.Struct("<4sIIHHQI")
MAGIC = b"LPB2"
_SALT = struct.Struct("<IQ")
"""What the check begins with: salt and start."""

_EARLIER = struct.Struct("<4sIIHHQ")
_EARLIER_MAGIC = b"LPB1"

MAX_BLOCK = 64 << 20

LARGEST_WRITE = 4 << 20
"""Bytes that the writer puts into a block at most, unless a single record has more."""

LONGEST_SEGMENT = 128 << 20
"""Bytes of the stream that no segment exceeds; a block with a start beyond that is damage, or made up."""

MOST_CHECKED = 16
"""
A search for whole blocks takes the sums of so many times the bytes that it searches, then it stops.

Only a body full of headers of blocks comes near that, and only in a segment of which no salt is known yet.
"""

Sum = tuple[int, int, int]
"""The CRC-32 of a piece, known beforehand: where in the whole it begins, its size, the sum."""

_NAME = re.compile(r"([0-9a-f]{16})\.seg")

SPOOL_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)


def segment_name(start: int) -> str:
    """The name of the segment that starts at offset `start` of the stream."""
    return f"{start:016x}.seg"


def segment_start(name: str) -> int | None:
    """The offset in a segment's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def block_header(
    start: int,
    payload: bytes | memoryview,
    before: int = 0,
    after: int = 0,
    sums: Sequence[Sum] = (),
    salt: int = 0,
) -> bytes:
    """What stands before `payload` in a segment, with so many bytes around it; `sums` are in order."""
    crc = _check(_SALT.pack(salt, start), payload, sums)
    return BLOCK.pack(MAGIC, len(payload), crc, before, after, start, salt)


def _check(before: bytes, payload: bytes | memoryview, sums: Sequence[Sum] = ()) -> int:
    check, at = crc32(before), 0
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

    after: int = 0
    """Bytes between the payload and that."""

    salt: int | None = None
    """None in segments of earlier versions."""


class Header(NamedTuple):
    """What stands before a payload, perhaps damaged; `size` bytes."""

    size: int
    length: int
    crc: int
    before: int
    after: int
    start: int
    salt: int | None

    @property
    def end(self) -> int:
        """Where the payload ends, counted from the header's beginning."""
        return self.size + self.before + self.length


def read_block(data: memoryview, at: int, expected_start: int) -> Block | None:
    """
    The block whose header stands at `at` in `data`, a segment's content.

    None when no whole and undamaged block with that start is there (yet).
    """
    header = read_header(data, at)
    return None if header is None or header.start != expected_start else _read_payload(data, at, header)


def _read_payload(data: memoryview, at: int, header: Header) -> Block | None:
    _, length, crc, before, after, start, salt = header
    body = at + header.size + before
    if len(data) - body < length:
        return None
    payload = data[body : body + length]
    known = start.to_bytes(8, "little") if salt is None else _SALT.pack(salt, start)
    if _check(known, payload) != crc:
        return None
    return Block(start, payload, body + length + after, before > 0, after, salt)


def read_header(data: bytes | memoryview, at: int) -> Header | None:
    """None if no header stands at `at`."""
    if len(data) - at < BLOCK.size:
        return _read_earlier_header(data, at)
    magic, *fields = BLOCK.unpack_from(data, at)
    if magic != MAGIC:
        return _read_earlier_header(data, at)
    return Header(BLOCK.size, *fields) if fields[0] <= MAX_BLOCK else None


def _read_earlier_header(data: bytes | memoryview, at: int) -> Header | None:
    if len(data) - at < _EARLIER.size:
        return None
    magic, length, crc, before, after, start = _EARLIER.unpack_from(data, at)
    if magic != _EARLIER_MAGIC or length > MAX_BLOCK:
        return None
    return Header(_EARLIER.size, length, crc, before, after, start, None)


# --- across damage ------------------------------------------------------------------


class Place(NamedTuple):
    """Where in the stream a whole block with a payload starts, and where in the segment its header stands."""

    start: int
    at: int


def whole_blocks(
    data: bytes, first: int, below: int, salt: int | None = None, ended: bool = False
) -> list[tuple[Place, Block]]:
    """
    The undamaged blocks in `data`, a segment's content or the end of it, whatever lies between them.

    Those that start from `first` on and before `below` in the stream, and have a payload.
    `salt` is that of the blocks before them.  Without one, `data` begins with the header of the
    block that starts at `first`, which has it.  If that is damaged, too, it is that of the last
    block found; but unless the segment has `ended`, not of one inside the first as long as its
    header says that it is, for it may be being written.
    """
    if salt is not None:
        return list(_whole_blocks(data, _salted(salt), first, below))
    expected, behind = read_header(data, 0), 0
    if expected is not None and expected.start == first:
        found = list(_whole_blocks(data, _salted(expected.salt), first, below))
        if found:
            return found
        behind = 0 if ended else expected.end
    last = deque(_whole_blocks(data, _ANY_HEADER, first, below, behind), 1)
    return list(_whole_blocks(data, _salted(last[0][1].salt), first, below, behind)) if last else []


_ANY_HEADER = re.compile(rb"LPB[12]")


def _salted(salt: int | None) -> re.Pattern[bytes]:
    """How a header with this salt begins."""
    return re.compile(
        rb"LPB1" if salt is None else rb"(?s)LPB2(?=.{20}%b)" % re.escape(salt.to_bytes(4, "little"))
    )


def _headers(data: bytes, pattern: re.Pattern[bytes], behind: int) -> Iterator[tuple[int, Header]]:
    """What looks like a header in `data`, not before `behind`, and begins like that, and where."""
    for match in pattern.finditer(data, behind):
        header = read_header(data, match.start())
        if header is not None:
            yield match.start(), header


def _whole_blocks(
    data: bytes, pattern: re.Pattern[bytes], first: int, below: int, behind: int = 0
) -> Iterator[tuple[Place, Block]]:
    view, checked = memoryview(data), 0
    for at, header in _headers(data, pattern, behind):
        if at < behind or not first <= header.start < below:
            continue
        if checked > MOST_CHECKED * len(data):
            return
        checked += header.length if at + header.end <= len(data) else 0
        block = _read_payload(view, at, header)
        if block is not None:
            behind = at + header.end
            if header.length:
                yield Place(block.start, at), block
