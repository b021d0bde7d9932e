"""
The format of the spool on disk: segment files of checksummed blocks.

The spool's stream of bytes is cut into blocks, one per write.  Blocks lie back to
back in segment files, which are named after the stream offset at which they
start (16 hex digits, ``.seg``).  A block is::

    magic    4s    b"LPB2"
    length   u32   of the payload
    crc      u32   CRC-32 of salt, start and payload
    before   u16   bytes of padding between this header and the payload
    after    u16   bytes of padding between the payload and the next header
    start    u64   offset of the payload in the stream
    salt     u32   a random number, the same in all blocks of a segment
    payload

Most blocks have no padding; it is for blocks that fill whole pages (`direct_io`).
Segments of earlier versions have blocks ``LPB1``, without a salt; they can be read as well.

An incomplete block, after a crash or while it is being written, fails
its check; `read_block` then returns None, and the reader tries again later.
A damaged block always fails, and `whole_blocks` finds the blocks behind it.  Payloads
come from clients, so they may imitate blocks; clients do not know the salt, which
distinguishes the genuine ones.

This module does no I/O.
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
"""The prefix of the checksummed bytes: salt and start."""

_EARLIER = struct.Struct("<4sIIHHQ")
_EARLIER_MAGIC = b"LPB1"

MAX_BLOCK = 64 << 20

LARGEST_WRITE = 4 << 20
"""The largest block that the writer makes, in bytes, unless a single record is larger."""

LONGEST_SEGMENT = 128 << 20
"""Upper bound of a segment's size; a block that claims to start beyond it is damaged or forged."""

MOST_CHECKED = 16
"""
A search for whole blocks stops after checksumming this many times the bytes it searches.

Only a body full of forged headers comes near that, and only in a segment whose salt is not known yet.
"""

Sum = tuple[int, int, int]
"""The CRC-32 of a piece, known in advance: position of the piece in the whole, its size, its checksum."""

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
    """The header of the block of `payload`, with this much padding; `sums` are in order."""
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
    """Position of the next block's header in the segment file."""

    fills_pages: bool
    """Whether it was written by direct I/O, and so is not in the page cache."""

    after: int = 0
    """Bytes of padding after the payload."""

    salt: int | None = None
    """None in segments of earlier versions."""


class Header(NamedTuple):
    """A block's header, possibly damaged; it is `size` bytes long."""

    size: int
    length: int
    crc: int
    before: int
    after: int
    start: int
    salt: int | None

    @property
    def end(self) -> int:
        """The end of the payload, relative to the beginning of the header."""
        return self.size + self.before + self.length


def read_block(data: memoryview, at: int, expected_start: int) -> Block | None:
    """
    The block whose header is at `at` in `data`, a segment's content.

    None unless a whole and undamaged block with that start is there; it may still be being written.
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
    """The header at `at`; None if there is none."""
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


# --- recovery after damage -----------------------------------------------------------


class Place(NamedTuple):
    """The start of a block with a payload in the stream, and the position of its header in the segment."""

    start: int
    at: int


def whole_blocks(
    data: bytes, first: int, below: int, salt: int | None = None, ended: bool = False
) -> list[tuple[Place, Block]]:
    """
    The undamaged blocks in `data`, a segment's content from some header on, whatever lies between them.

    Only blocks with a payload, whose start is from `first` on and below `below`.
    `salt` is the salt of the blocks before them.  Without one, `data` begins with the header of the
    block that starts at `first`, which contains the salt.  If that header is damaged as well, the salt is
    taken from the last block found.  Unless the segment has `ended`, blocks inside the first one do not
    count while its header is intact, since it may still be being written.
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
    """A pattern for the beginning of a header with this salt."""
    return re.compile(
        rb"LPB1" if salt is None else rb"(?s)LPB2(?=.{20}%b)" % re.escape(salt.to_bytes(4, "little"))
    )


def _headers(data: bytes, pattern: re.Pattern[bytes], behind: int) -> Iterator[tuple[int, Header]]:
    """Positions in `data`, from `behind` on, that match `pattern`, with the plausible headers there."""
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
