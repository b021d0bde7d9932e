"""What the tests of the recording share: a disk that misbehaves, and the reader's view of a spool."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from logging_proxy.recording.disk import Disk, SegmentFiles
from logging_proxy.recording.records import Record, RecordReader
from logging_proxy.recording.segments import read_block, segment_name, segment_start
from logging_proxy.recording.spool import Pace, Spool

LIMIT = 1 << 30
FAST = Pace(gather=0.0, retry=0.01, sync=0.01)


class Killed(BaseException):
    """Stands for the end of the process in the middle of a call."""


@dataclass(frozen=True, slots=True)
class Short:
    """A write that writes only `size` bytes, and says so."""

    size: int


@dataclass(frozen=True, slots=True)
class Die:
    """A write in which the process is killed when `size` bytes are written."""

    size: int


Fate = Short | Die | int | None
"""What becomes of a write; a number is the errno that it fails with, and None lets it work."""

FULL = errno.ENOSPC
BROKEN = errno.EIO


class BadDisk:
    """
    A disk that does what it is told, write by write, and after that `always` the same.

    While `gate` is not set, writes and syncs are held up; `waiting` says that one is.
    """

    def __init__(self, *fates: Fate) -> None:
        self.fates = deque(fates)
        self.always: Fate = None
        self.sync_fate: int | None = None
        self.synced: list[int] = []
        """Inodes, in order."""
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    @property
    def disk(self) -> Disk:
        return Disk(os.open, self._write, self._sync)

    def _write(self, fd: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        self._pass_gate()
        fate = self.fates.popleft() if self.fates else self.always
        if isinstance(fate, int):
            raise OSError(fate, os.strerror(fate))
        if fate is None:
            return os.pwritev(fd, parts, at)
        written = os.pwrite(fd, b"".join(parts)[: fate.size], at)
        if isinstance(fate, Die):
            raise Killed
        return written

    def _pass_gate(self) -> None:
        if not self.gate.is_set():
            self.waiting.set()
            self.gate.wait(60)

    def _sync(self, fd: int) -> None:
        self._pass_gate()
        if self.sync_fate is not None:
            raise OSError(self.sync_fate, os.strerror(self.sync_fate))
        os.fsync(fd)
        self.synced.append(os.fstat(fd).st_ino)


def segments(directory: Path) -> list[int]:
    """The starts of a spool's segments, in order."""
    return sorted(start for name in os.listdir(directory) if (start := segment_start(name)) is not None)


def blocks(directory: Path) -> list[tuple[int, bytes]]:
    """Start and payload of every whole block, as a reader finds them: damage only ends a segment."""
    found = []
    for start in segments(directory):
        data, at, expected = memoryview((directory / segment_name(start)).read_bytes()), 0, start
        while (block := read_block(data, at, expected)) is not None:
            found.append((block.start, bytes(block.payload)))
            at, expected = block.end_in_file, block.start + len(block.payload)
    return found


def stream(directory: Path, start: int = 0) -> bytes:
    """The spool's stream from `start` on.  A hole or an overlap is an error."""
    result = b""
    for at, payload in blocks(directory):
        if at != start + len(result):
            raise AssertionError(f"a block at {at} after {start + len(result)}")
        result += payload
    return result


def records(directory: Path) -> list[Record]:
    """The records of the spool's stream, which must end with a whole one."""
    data = stream(directory)
    reader = RecordReader()
    found = list(reader.feed(data))
    if reader.consumed != len(data):
        raise AssertionError(f"{len(data) - reader.consumed} bytes are no record")
    return found


def abandon(spool: Spool) -> None:
    """What the end of its process does to a spool whose threads do not run."""
    spool.ring.close()
    let_go(spool._files)
    os.close(spool._lock)


def let_go(files: SegmentFiles) -> None:
    """Close all descriptors, with nothing else done."""
    files._reserve.close()
    files._direct.end()
    for fd in [*files._ended, files._fd]:
        if fd >= 0:
            os.close(fd)
    files._fd = -1
    files._ended.clear()


class ThreadedClock(Clock):
    """A reactor for what comes from other threads: it runs when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._there = threading.Event()

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._calls.append((call, arguments))
        self._there.set()

    def getThreadPool(self) -> ThreadedClock:
        return self

    def callInThreadWithCallback(self, on_result: Callable[..., Any], call: Callable[..., Any]) -> None:
        """A thread pool's: here the work is done at once, on the caller's thread."""
        on_result(True, call())

    def run_until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Do what threads ask for until `condition`."""
        waited = 0.0
        while not condition():
            if not self._there.wait(0.01):
                waited += 0.01
                if waited > timeout:
                    raise AssertionError("it did not come in time")
            self._there.clear()
            while self._calls:
                call, arguments = self._calls.popleft()
                call(*arguments)
