"""
The segment files of a spool: the only module that writes them.  `segments` defines their content.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from logging_proxy.recording.direct_io import DirectBlockWriter
from logging_proxy.recording.reserve import Reserve
from logging_proxy.recording.ring import PAGE
from logging_proxy.recording.segments import (
    BLOCK,
    LONGEST_SEGMENT,
    Sum,
    block_header,
    segment_name,
    segment_start,
    whole_blocks,
)

SEGMENT_SIZE = 32 << 20
"""Bytes after which a new segment file begins; the logging server deletes whole segments."""

LEAST_SEGMENTS = 8
"""A spool's limit allows at least this many segments, since the newest is never deleted."""

PRIVATE = os.O_NOFOLLOW | os.O_CLOEXEC

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Disk:
    """The system calls that a disk may fail, cut short or delay.  Tests replace them."""

    open: Callable[[Path, int, int], int] = os.open
    write: Callable[[int, Sequence[bytes | memoryview], int], int] = os.pwritev
    sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class SegmentFiles:
    """
    Appends blocks to the segments in `directory`.

    `end` is the stream offset after the last block.  One thread appends;
    `sync` may be called on another.  Only the thread that syncs closes files, so that no
    descriptor is closed, and its number reused, while it is being synced.
    """

    def __init__(
        self,
        directory: Path,
        end: int,
        limit: int,
        claim: Callable[[], None] = lambda: None,
        disk: Disk | None = None,
    ) -> None:
        """`limit` is the most bytes on disk; `claim` is called after the directory was created again."""
        self.directory = directory
        self.end = end
        self._limit = limit
        self.segment_size = min(SEGMENT_SIZE, limit // LEAST_SEGMENTS)
        """Bytes after which a new segment begins."""
        self._claim = claim
        self._claimed = True
        self._disk = disk or Disk()
        self._fd = -1
        self._size = 0
        self._ended: deque[int] = deque()
        self._new_name = False
        self._syncing = threading.Lock()
        self._salt = secrets.randbits(32)
        self._direct = DirectBlockWriter(self._disk.open, self._disk.write, self._salt)
        self._reserve = Reserve()

    def append(self, payload: bytes | memoryview, sums: Sequence[Sum] = ()) -> None:
        """
        Append one block with `payload`, completely or not at all; `sums` are known of it.  Raises OSError.

        After a failed write the block goes to a new segment: readers expect nothing more in a
        segment once there is a newer one, so they can delete it, which makes room on a full disk.
        """
        if self._fd < 0 or self._size >= self.segment_size or not self._has_name():
            self._reserve.run(self._begin)
        if self._size and self._refused(payload, sums) is not None:
            self._reserve.run(self._begin)
        if not self._size and (error := self._refused(payload, sums)) is not None:
            raise error

    def sync(self) -> None:
        """Make everything appended so far durable.  Raises OSError if that is not certain."""
        with self._syncing:
            errors = self._sync_all()
        if errors:
            raise errors[0]

    @property
    def unsynced(self) -> int:
        """How many completed segments still have to be synced."""
        return len(self._ended)

    def close(self) -> None:
        """Sync, and close all files.  No other thread may use this object any more."""
        self._end_segment()
        try:
            self.sync()
        finally:
            self._reserve.close()

    # --- blocks

    def _refused(self, payload: bytes | memoryview, sums: Sequence[Sum]) -> OSError | None:
        """Write the block; the error if that failed, after which the segment is as it was before."""
        if self._direct.takes(payload) and self._write_directly(payload, sums):
            return None
        header = block_header(self.end, payload, sums=sums, salt=self._salt)
        size = len(header) + len(payload)
        try:
            self._write(header, payload, size)
        except OSError as error:
            # If this fails too, the next block overwrites the partial one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            return error
        self._size += size
        self.end += len(payload)
        return None

    def _write_directly(self, payload: memoryview, sums: Sequence[Sum]) -> bool:
        """Whether the block was written by direct I/O."""
        try:
            self._fill_page()
        except OSError:
            return False
        size = self._direct.write(self.end, payload, self._size, sums)
        self._size += size
        self.end += len(payload) if size else 0
        return size > 0

    def _fill_page(self) -> None:
        """Append an empty block up to the next page boundary, unless the segment ends at one."""
        if self._size % PAGE:
            after = -(self._size + BLOCK.size) % PAGE
            header = block_header(self.end, b"", 0, after, salt=self._salt)
            self._write(header, b"", len(header))
            self._size += len(header) + after

    def _write(self, header: bytes, payload: bytes | memoryview, size: int) -> None:
        written = self._disk.write(self._fd, [header, payload], self._size)
        while written < size:  # after a short write, the next attempt reports the cause
            rest = (header + bytes(payload))[written:]
            more = self._disk.write(self._fd, [rest], self._size + written)
            if more <= 0:
                raise OSError(errno.EIO, "the disk writes nothing")
            written += more

    # --- segments

    def _has_name(self) -> bool:
        """Whether the segment still has a name: the directory may have been emptied by another process."""
        return os.fstat(self._fd).st_nlink > 0

    def _begin(self) -> None:
        if not self.directory.is_dir():
            make_private_directory(self.directory)
            self._claimed = False
        if not self._claimed:
            self._claim()
            self._claimed = True
        if spool_size(self.directory) > self._limit - self.segment_size:
            raise OSError(errno.EDQUOT, "the spool's limit is reached")
        path = self.directory / segment_name(self.end)
        fd = self._disk.open(path, os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
        try:
            os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        self._end_segment()
        self._fd, self._size, self._new_name = fd, 0, True
        self._direct.begin(path)
        self._reserve.fill()

    def _end_segment(self) -> None:
        self._direct.end()
        if self._fd >= 0:
            self._ended.append(self._fd)
            self._fd = -1

    def _sync_all(self) -> list[OSError]:
        errors: list[OSError] = []
        # Oldest first, so that a power cut leaves a stream without holes wherever possible.
        while self._ended:
            fd = self._ended.popleft()
            self._attempt(self._disk.sync, fd, errors)
            os.close(fd)
            self._reserve.fill()  # the closed descriptor can be reserved again
        # Read once: the appending thread may end the segment meanwhile, but only this thread closes it.
        if (fd := self._fd) >= 0:
            self._attempt(self._disk.sync, fd, errors)
        if self._new_name:
            # Cleared before the sync, as the appending thread may begin another segment; restored on failure.
            self._new_name = False
            if not self._attempt(self._sync_directory, self.directory, errors):
                self._new_name = True
        return errors

    def _sync_directory(self, path: Path) -> None:
        self._reserve.run(lambda: sync_directory(path))

    @staticmethod
    def _attempt(call: Callable[[T], None], of: T, errors: list[OSError]) -> bool:
        """Whether the call succeeded."""
        try:
            call(of)
        except OSError as error:
            errors.append(error)
            return False
        return True


# --- directories ------------------------------------------------------------------


def make_private_directory(path: Path) -> None:
    """A directory of mode 0700, with its parents.  Raises OSError, also if other users may write to it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "not ours alone to write to", str(path))


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def last_offset(directory: Path) -> int:
    """
    The stream offset after the last whole block in a spool's segments, or after the consumed part of it.

    The second is larger if segments were lost that the consumer had already processed.
    """
    return max(_newest_segment(directory)[0], _consumed(directory))


def next_offset(directory: Path) -> int:
    """
    Like `last_offset`, but after the incomplete bytes at the end: where a stream without a ring continues.

    The incomplete bytes are lost, as they exist nowhere else; a reader of the stream finds a gap there.
    """
    return max(sum(_newest_segment(directory)), _consumed(directory))


def _newest_segment(directory: Path) -> tuple[int, int]:
    """The stream offset after the last whole block in the newest segment, and the bytes that follow it."""
    starts = [start for name in os.listdir(directory) if (start := segment_start(name)) is not None]
    if not starts:
        return 0, 0
    newest = max(starts)
    data = _read_private_file(directory / segment_name(newest))
    end, end_in_file = newest, 0
    for _, block in whole_blocks(data, newest, newest + LONGEST_SEGMENT):
        if block.start >= end:
            end, end_in_file = block.start + len(block.payload), block.end_in_file
    return end, max(0, len(data) - end_in_file)


def _consumed(directory: Path) -> int:
    """The stream offset up to which the consumer has processed the spool; 0 if it has recorded none."""
    try:
        return int(json.loads((directory / "consumer.json").read_bytes())["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def spool_size(directory: Path) -> int:
    """Bytes in the segments of a spool."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if segment_start(entry.name) is not None:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def read_what_can_be_read(fd: int, size: int, at: int) -> bytes:
    """
    Up to `size` bytes of a file from `at` on, with zeros for pages that the disk can no longer read.

    A lost sector is damage like any other, and must not keep the data after it from being read.
    """
    try:
        return _pread(fd, size, at)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    end = min(at + size, os.fstat(fd).st_size)
    return b"".join(_page(fd, start, max(at, start), end) for start in range(at - at % PAGE, end, PAGE))


def _page(fd: int, start: int, at: int, end: int) -> bytes:
    """The content from `at` on of the page that begins at `start`, up to `end`."""
    size = min(start + PAGE, end) - at
    try:
        return _pread(fd, size, at).ljust(size, b"\0")
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(size)


def _pread(fd: int, size: int, at: int) -> bytes:
    """Like `os.pread`, repeated where the system returns less at once."""
    data = os.pread(fd, size, at)
    while 0 < len(data) < size and (more := os.pread(fd, size - len(data), at + len(data))):
        data += more
    return data


def _read_private_file(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | PRIVATE)
    try:
        return read_what_can_be_read(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
