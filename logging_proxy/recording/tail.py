"""
Reads a spool directory: its segment files, block after block, from any offset.

A reader modifies nothing except through `delete_before` and its own small files
(`consumer.json`, `consumer.lock`).  A block that fails its check at the end of the
newest segment is incomplete.  If a whole block or a later segment follows, it is
damaged, and reading continues after it: the next piece is flagged.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from logging_proxy.recording.aligned import DirectReader
from logging_proxy.recording.disk import read_what_can_be_read
from logging_proxy.recording.segments import (
    LARGEST_WRITE,
    LONGEST_SEGMENT,
    Block,
    Place,
    read_block,
    read_header,
    segment_name,
    segment_start,
    whole_blocks,
)

CHUNK = (1 << 20) + (64 << 10)
"""Bytes per read of a segment: 1 MiB and its surroundings.  Only a larger block is read twice."""

DIRECT_CHUNK = LARGEST_WRITE + (64 << 10)
"""The same for blocks written by direct I/O."""

FILLS = 2
"""Reads that stay direct after a direct block, as a large body has single blocks in the page cache too."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

BUSY_INTERVAL = 0.015
"""Seconds between turns while a client is watching: a live stream is delayed by 50 ms at most."""

FIRST_IDLE, LONGEST_IDLE = 0.02, 0.25
"""Seconds between turns without traffic, growing by half each time."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the stream: `data` begins at offset `start`."""

    start: int
    data: bytes | memoryview
    damaged: bool = False
    """Whether a damaged block was skipped before it; its bytes may not have been part of the stream."""


class SpoolTail:
    """
    Yields a spool's stream from `offset` on, as far as it is written.

    `offset` is the next byte to be returned.  If it is None, reading begins at the
    oldest segment.
    """

    def __init__(self, directory: str, offset: int | None = None) -> None:
        self._directory = directory
        self.offset = offset
        self._segment: int | None = None
        self._fd = -1
        self._data: bytes | memoryview = b""
        self._data_at = 0
        self._at = 0
        self._block_start = 0
        self._searchable = 0
        """End of the last payload in the segment: a search for blocks after damage begins here."""
        self._salt: int | None = None
        """The salt of the segment's blocks; None if it is not known."""
        self._whole: list[Place] = []
        """The whole blocks after damage that the last search of this segment found."""
        self._searched = (0, False)
        """The segment's size at the last search, and whether it was complete."""
        self._damaged = False
        self._reader = DirectReader(DIRECT_CHUNK)
        self._direct_fills = 0
        """How many of the next reads are likely to find blocks written by direct I/O."""

    def read(self) -> Piece | None:
        """The next piece, at most one block; None when no more is written yet."""
        piece = self.peek()
        return piece and Piece(piece.start, bytes(piece.data), piece.damaged)

    def peek(self) -> Piece | None:
        """Like `read`, but a large piece may be a view of memory that the next call overwrites."""
        while True:
            if self._segment is None and not self._choose():
                return None
            block = self._block() or self._next_block()
            if block is None:
                return None
            body = self._data_at + block.end_in_file - block.after
            self._at, self._block_start = block.end_in_file, block.start + len(block.payload)
            self._searchable, self._salt = body, block.salt
            if block.fills_pages:
                self._direct_fills = FILLS
            if self.offset is None or self._block_start > self.offset:
                piece = _from(block, self.offset, self._damaged)
                self.offset, self._damaged = self._block_start, False
                return piece

    def _next_block(self) -> Block | None:
        """The block after an incomplete or missing one, in this segment or a later one."""
        while True:
            later = self._later()
            block = self._block() or self._search(later)
            if block is not None or later is None:
                return block
            self._open(later)
            block = self._block()
            if block is not None:
                return block

    @property
    def rewound(self) -> bool:
        """
        Whether the spool ends before `offset`, and so is not the one that was read before.

        Damaged bytes at its end count, as they may have been whole when they were read.
        """
        if self._segment is None or self.offset is None:
            return False
        behind = max(0, os.fstat(self._fd).st_size - self._data_at - self._at)
        return self._block_start + behind < self.offset

    def segments(self) -> list[int]:
        """The starts of all segments, in order."""
        starts = map(segment_start, os.listdir(self._directory))
        return sorted(start for start in starts if start is not None)

    def backlog(self) -> int:
        """How many bytes are unread, approximately: block headers are included."""
        total = 0
        for start in self.segments():
            if self._segment is None or start >= self._segment:
                total += os.stat(os.path.join(self._directory, segment_name(start))).st_size
        return max(0, total - self._data_at - self._at)

    def end(self) -> int:
        """The stream offset up to which the spool is written, or slightly more."""
        newest = max(self.segments(), default=0)
        try:
            return newest + os.stat(os.path.join(self._directory, segment_name(newest))).st_size
        except FileNotFoundError:
            return newest

    def sync(self) -> None:
        """Make the part of the current segment that was read durable."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def delete_before(self, offset: int) -> None:
        """Remove segments that end at or before `offset`, except the newest and the one being read."""
        starts = self.segments()
        for start, after in zip(starts, starts[1:], strict=False):
            if after <= offset and start != self._segment:
                os.unlink(os.path.join(self._directory, segment_name(start)))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment, self._data = -1, None, b""

    # --- segments

    def _choose(self) -> bool:
        """Open the segment that contains `offset`, else the first one after it."""
        starts = self.segments()
        if not starts:
            return False
        before = [start for start in starts if self.offset is not None and start <= self.offset]
        self._open(before[-1] if before else starts[0])
        return True

    def _open(self, start: int) -> None:
        self.sync()
        fd = os.open(os.path.join(self._directory, segment_name(start)), _READ)
        self.close()
        self._fd, self._segment, self._block_start = fd, start, start
        self._data_at = self._at = self._searchable = 0
        self._salt, self._whole, self._searched = None, [], (0, False)

    def _later(self) -> int | None:
        """
        The segment after this one.

        To be asked before looking at this segment again: once a later segment exists,
        this one is complete, so a block that fails its check now always will.
        """
        return next(
            (start for start in self.segments() if self._segment is None or start > self._segment), None
        )

    def _block(self) -> Block | None:
        block = read_block(memoryview(self._data), self._at, self._block_start)
        if block is None:
            self._fill(CHUNK)
            block = read_block(memoryview(self._data), 0, self._block_start)
        if block is None and (size := self._announced_size()) > len(self._data):
            self._fill(size)
            block = read_block(memoryview(self._data), 0, self._block_start)
        return block

    def _announced_size(self) -> int:
        """Bytes up to the end of the current block's payload, if its header could be read; else 0."""
        header = read_header(self._data, 0)
        return header.end if header is not None and header.start == self._block_start else 0

    # --- damage

    def _search(self, later: int | None) -> Block | None:
        """The next whole block of this segment behind an incomplete one, if there is any."""
        place = self._place(later)
        if place is None:
            return None
        # Once a block follows, the one before is complete: it may have been finished since the last look.
        block = self._block()
        if block is None:
            self._damaged = self._damaged or self._concerns(place.start)
            self._data, self._data_at, self._at = b"", place.at, 0
            self._block_start = place.start
            block = self._block()
        return block

    def _concerns(self, end: int) -> bool:
        """Whether damage from here up to stream offset `end` touches bytes that are still to be returned."""
        return self.offset is None or end > self.offset or self._block_start >= self.offset

    def _place(self, later: int | None) -> Place | None:
        first = Place(self._block_start, 0)
        if bisect_left(self._whole, first) == len(self._whole):
            self._look_for_blocks(later)
        at = bisect_left(self._whole, first)
        return self._whole[at] if at < len(self._whole) else None

    def _look_for_blocks(self, later: int | None) -> None:
        """
        Search from the end of the last payload on, padding included: its length field may be damaged.

        Not repeated before the segment has grown or ended.
        """
        size = os.fstat(self._fd).st_size
        if (size, later is not None) <= self._searched or self._segment is None:
            return
        self._searched = (size, later is not None)
        data = read_what_can_be_read(self._fd, size - self._searchable, self._searchable)
        below = self._segment + LONGEST_SEGMENT if later is None else later
        found = whole_blocks(data, self._block_start, below, self._salt, later is not None)
        self._whole = sorted(Place(start, self._searchable + at) for (start, at), _ in found)

    def _fill(self, size: int) -> None:
        self._data_at += self._at
        self._at = 0
        data = None
        if self._direct_fills:
            self._direct_fills -= 1
            data = self._reader.read(self._fd, max(size, DIRECT_CHUNK), self._data_at)
        self._data = read_what_can_be_read(self._fd, size, self._data_at) if data is None else data


def _from(block: Block, offset: int | None, damaged: bool) -> Piece:
    """The part of `block` from `offset` on."""
    skip = max(0, offset - block.start) if offset is not None else 0
    payload = block.payload[skip:]
    return Piece(block.start + skip, payload if block.fills_pages else bytes(payload), damaged)


# --- small files beside the segments ---------------------------------------------


class SpoolLock:
    """Allows one reader per spool: two logging servers may share a log directory."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "consumer.lock")
        self._fd = -1

    def acquire(self) -> bool:
        """False when another process holds it.  The lock ends with the process."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def save_durably(directory: str, name: str, data: bytes) -> None:
    """Replace a file such that after any crash either the old or the new one is there, complete."""
    path = os.path.join(directory, name)
    fd = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)
    sync_directory(directory)


def sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load_json(directory: str, name: str) -> Any:
    """The value in a file; None if there is no such file, or no JSON in it."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None
