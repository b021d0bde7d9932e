"""
Reading a spool directory: its segment files, block after block, from any offset.

The reader never writes here but for `delete_before` and its own small files
(`consumer.json`, `consumer.lock`).  A block that fails its check at the end of the
newest segment is not there yet; with a later segment behind it, it is damage,
and reading goes on at that segment: the caller sees a piece that starts too far on.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from typing import Any

from logging_proxy.capture.segments import (
    LARGEST_WRITE,
    Block,
    announced_size,
    read_block,
    segment_name,
    segment_start,
)
from logging_proxy.logserver.direct import DirectReader

CHUNK = (1 << 20) + (64 << 10)
"""Bytes read from a segment at a time: a MiB and what is around it.  Only a larger block is read again."""

DIRECT_CHUNK = LARGEST_WRITE + (64 << 10)
"""The same where blocks were written past the page cache."""

FILLS = 2
"""A large body has a block in the page cache here and there; behind it, too, reading goes on directly."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the stream: `data` stands at offset `start`."""

    start: int
    data: bytes | memoryview


class SpoolTail:
    """
    Gives the stream of a spool from `offset` on, as far as it is written.

    `offset` is the next byte to be given.  With None reading begins at the
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
        self._reader = DirectReader(DIRECT_CHUNK)
        self._direct_fills = 0
        """How many more reads are likely to find blocks that were written past the page cache."""

    def read(self) -> Piece | None:
        """The next piece, at most one block; None when no more is written yet."""
        piece = self.peek()
        return piece and Piece(piece.start, bytes(piece.data))

    def peek(self) -> Piece | None:
        """The same, but that a large piece may be a view of memory that the next call uses again."""
        while True:
            if self._segment is None and not self._choose():
                return None
            block = self._block()
            if block is None:
                later = self._later()
                block = self._block()
                if block is None:
                    if later is None:
                        return None
                    self._open(later)
                    continue
            self._at, self._block_start = block.end_in_file, block.start + len(block.payload)
            if block.fills_pages:
                self._direct_fills = FILLS
            if self.offset is None or self._block_start > self.offset:
                piece = _from(block, self.offset)
                self.offset = self._block_start
                return piece

    @property
    def rewound(self) -> bool:
        """Whether the spool now ends before `offset`: it is another one than was read before."""
        return self._segment is not None and self.offset is not None and self._block_start < self.offset

    def segments(self) -> list[int]:
        """The starts of all segments, in order."""
        starts = map(segment_start, os.listdir(self._directory))
        return sorted(start for start in starts if start is not None)

    def backlog(self) -> int:
        """About how many bytes wait, block headers included."""
        total = 0
        for start in self.segments():
            if self._segment is None or start >= self._segment:
                total += os.stat(os.path.join(self._directory, segment_name(start))).st_size
        return max(0, total - self._data_at - self._at)

    def end(self) -> int:
        """The stream offset up to which is written, or a little more."""
        newest = max(self.segments(), default=0)
        try:
            return newest + os.stat(os.path.join(self._directory, segment_name(newest))).st_size
        except FileNotFoundError:
            return newest

    def sync(self) -> None:
        """What was read of the current segment is durable afterwards."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def delete_before(self, offset: int) -> None:
        """Removes segments that end at or before `offset`, but never the newest nor the one being read."""
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
        """Opens the segment that holds `offset`, else the first one after it."""
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
        self._data_at = self._at = 0

    def _later(self) -> int | None:
        """
        The segment after this one.

        Asked before looking at this one again: once there is a later segment,
        nothing more is written here, so what fails its check then always will.
        """
        return next(
            (start for start in self.segments() if self._segment is None or start > self._segment), None
        )

    def _block(self) -> Block | None:
        block = read_block(memoryview(self._data), self._at, self._block_start)
        if block is None:
            self._fill(CHUNK)
            block = read_block(memoryview(self._data), 0, self._block_start)
        if block is None and (size := announced_size(self._data, self._block_start)) > len(self._data):
            self._fill(size)
            block = read_block(memoryview(self._data), 0, self._block_start)
        return block

    def _fill(self, size: int) -> None:
        self._data_at += self._at
        self._at = 0
        data = None
        if self._direct_fills:
            self._direct_fills -= 1
            data = self._reader.read(self._fd, max(size, DIRECT_CHUNK), self._data_at)
        self._data = os.pread(self._fd, size, self._data_at) if data is None else data


def _from(block: Block, offset: int | None) -> Piece:
    """The part of `block` from `offset` on."""
    skip = max(0, offset - block.start) if offset is not None else 0
    payload = block.payload[skip:]
    return Piece(block.start + skip, payload if block.fills_pages else bytes(payload))


# --- small files beside the segments ---------------------------------------------


class SpoolLock:
    """One reader per spool: two logging servers may share a log directory."""

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
    """Replaces a file so that after any crash the old or the new one is there, whole."""
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
    """The value in a file; None when there is no such file or no JSON in it."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None
