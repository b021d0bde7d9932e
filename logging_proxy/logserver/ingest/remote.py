"""
Spools of remote proxies: their streams arrive by HTTP and are kept as spool directories here.

A stream is appended at its own offsets, so sending bytes twice changes
nothing.  What is acknowledged is on disk.

Whoever may send can give any name, so names cost little: nothing is open between two
requests, there are no more than `MOST_SPOOLS`, each has a limit, and `Spools` removes
those that nobody has sent anything for in a long time.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
from pathlib import Path

from logging_proxy.logserver.ingest.closed import MOST_REMOTE, REMOTE, is_remote, newest_segment
from logging_proxy.logserver.ingest.consumer import CHECKPOINT
from logging_proxy.logserver.ingest.spools import make_private_directory, spool_directories
from logging_proxy.recording.disk import spool_size
from logging_proxy.recording.segments import BLOCK, SPOOL_NAME, block_header, segment_name
from logging_proxy.recording.tail import SpoolTail, load_json, sync_directory

SEGMENT_SIZE, LEAST_SEGMENTS = 16 << 20, 8
"""Bytes of a segment at most, and how many a spool's limit holds at least: the newest is never deleted."""

LEAST_LIMIT = 16 << 20
"""Bytes that a spool may have, whatever the limit: a batch must find room in it."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beyond(Exception):
    """Bytes were sent that do not follow on what is stored; `stored` is the offset that would."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"bytes from {stored} on are missing")
        self.stored = stored


class NoRoom(Exception):
    """A limit is reached: that of a spool's bytes, or that of the number of spools.  Text says which."""


class _Removed(Exception):
    """The spool was removed between two calls: there may be another of its name."""


class RemoteSpool:
    """
    One remote proxy's stream, in segments below `directory`, of no more than `limit` bytes.

    Blocks on the disk, so it is used from threads; its methods exclude each other.
    """

    def __init__(self, directory: str, limit: int = 1 << 62) -> None:
        self._directory = directory
        self._limit = limit
        self._segment_size = min(SEGMENT_SIZE, limit // LEAST_SEGMENTS)
        self._lock = threading.Lock()
        self._removed = False
        self._salt = secrets.randbits(32)
        self._segment: str | None = None
        """That which this object has begun and goes on with."""
        self._in_segment = 0
        self._end: int | None = None

    def offset(self) -> int | None:
        """The offset up to which the stream is durable here; None for one never heard of."""
        with self._lock:
            self._look()
            return self._end

    def append(self, offset: int, data: bytes, gap: bool = False) -> int:
        """
        Keeps `data`, which stands at `offset`, and says where to go on.

        What is stored already is skipped.  Raises `NoRoom`, and `Beyond` when bytes before
        `offset` are missing, unless `gap` says that nobody has them any more.
        """
        with self._lock:
            if self._removed:
                raise _Removed
            self._look()
            if self._end is None:
                make_private_directory(self._directory)
                self._end = offset
            if offset > self._end:
                if not gap:
                    raise Beyond(self._end)
                self._segment, self._end = None, offset
            new = data[self._end - offset :]
            if new:
                self._append(new, self._end)
                self._end += len(new)
            return self._end

    def remove(self, newest: tuple[int, int]) -> bool:
        """Removes the spool if its `newest_segment` is still the one given; whether it was."""
        with self._lock:
            if newest_segment(self._directory) != newest:
                return False
            shutil.rmtree(self._directory)
            self._removed = True
            return True

    def _look(self) -> None:
        """Takes up what is on disk, at the first call and after the directory was removed."""
        if self._segment is not None and os.path.exists(self._segment):
            return
        self._segment = None
        try:
            self._end = stored_end(self._directory)
        except FileNotFoundError:
            self._end = None

    def _append(self, data: bytes, start: int) -> None:
        if spool_size(Path(self._directory)) + BLOCK.size + len(data) > self._limit:
            raise NoRoom("the spool's limit is reached")
        block = block_header(start, data, salt=self._salt) + data
        fresh = self._segment is None or self._in_segment >= self._segment_size
        try:
            if fresh:
                self._segment, self._in_segment = os.path.join(self._directory, segment_name(start)), 0
            self._write(block, fresh)
        except OSError:
            self._segment = None
            raise
        self._in_segment += len(block)

    def _write(self, block: bytes, fresh: bool) -> None:
        """A new file; one with this name holds no whole block, or the stream would go on behind it."""
        assert self._segment is not None
        fd = os.open(self._segment, _NEW if fresh else _AGAIN, 0o600)
        try:
            if fresh:
                os.ftruncate(fd, 0)
                sync_directory(self._directory)
            written = 0
            while written < len(block):
                more = os.pwrite(fd, block[written:], self._in_segment + written)
                if more <= 0:
                    raise OSError(errno.EIO, "the disk writes nothing")
                written += more
            os.fsync(fd)
        finally:
            os.close(fd)


def stored_end(directory: str) -> int | None:
    """The offset behind the last whole block, or the consumer's where that is further; None for neither."""
    tail = SpoolTail(directory)
    starts = tail.segments()
    if starts:
        tail = SpoolTail(directory, starts[-1])
        while tail.read() is not None:
            pass
        tail.close()
    consumed = load_json(directory, CHECKPOINT)
    known = [consumed["offset"]] if isinstance(consumed, dict) and "offset" in consumed else []
    if tail.offset is not None:
        known.append(tail.offset)
    return max(known, default=None)


class RemoteSpools:
    """The remote spools below a spool root, by names that match `SPOOL_NAME`; ValueError for any other."""

    def __init__(self, root: str, limit: int = 1 << 62) -> None:
        """Each may have `limit` bytes."""
        self._root = root
        self._limit = max(limit, LEAST_LIMIT)
        self._spools: dict[str, RemoteSpool] = {}
        self._lock = threading.Lock()

    def offset(self, name: str) -> int | None:
        """How far a spool is stored; None, and nothing is kept of the name, for one never heard of."""
        path = self._path(name)
        with self._lock:
            spool = self._spools.get(path)
        return (spool or RemoteSpool(path)).offset()

    def append(self, name: str, offset: int, data: bytes, gap: bool = False) -> int:
        """As `RemoteSpool.append`; the spool is made if it is not there."""
        path = self._path(name)
        while True:
            try:
                return self._get(path).append(offset, data, gap)
            except _Removed:
                continue

    def remove(self, path: str, newest: tuple[int, int]) -> bool:
        """Removes a spool into which nothing has come since it had that `newest_segment`; whether it was."""
        with self._lock:
            spool = self._spools.setdefault(path, RemoteSpool(path, self._limit))
        removed = spool.remove(newest)
        with self._lock:
            if removed and self._spools.get(path) is spool:
                del self._spools[path]
        return removed

    def _path(self, name: str) -> str:
        if not SPOOL_NAME.fullmatch(name):
            raise ValueError("no name of a spool")
        return os.path.join(self._root, f"{REMOTE}{name}")

    def _get(self, path: str) -> RemoteSpool:
        with self._lock:
            spool = self._spools.get(path)
            if spool is None:
                if not os.path.isdir(path) and self._are_many():
                    raise NoRoom(f"there are {MOST_REMOTE} spools already")
                spool = self._spools[path] = RemoteSpool(path, self._limit)
            return spool

    def _are_many(self) -> bool:
        """Whether there can be no more, those that are being made included."""
        known = {*filter(is_remote, spool_directories(self._root)), *self._spools}
        return len(known) >= MOST_REMOTE
