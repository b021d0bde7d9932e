"""
Spools of remote proxies: their streams arrive over HTTP and are kept as spool directories.

A stream is appended at its own offsets, so bytes that are sent twice change nothing.  Acknowledged bytes are
on disk.

A sender may choose any name, so a name is cheap: no file is open between two requests, there are at most
`MOST_REMOTE` spools, each has a limit, and `Spools` removes those that have been idle for long.
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
"""The largest segment in bytes, and the fewest segments within a spool's limit, as the newest stays."""

LEAST_LIMIT = 16 << 20
"""The smallest limit of a spool in bytes: a batch must fit into it."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beyond(Exception):
    """Bytes were sent after a gap; `stored` is the offset at which the next bytes are expected."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"bytes from {stored} on are missing")
        self.stored = stored


class NoRoom(Exception):
    """The limit of a spool's bytes, or of the number of spools, is reached.  The text says which."""


class _Removed(Exception):
    """The spool was removed between two calls; by now there may be another one with its name."""


class RemoteSpool:
    """
    The stream of one remote proxy, in segments below `directory`, of at most `limit` bytes.

    Methods block on the disk and may be called from any thread; a lock serialises them.
    """

    def __init__(self, directory: str, limit: int = 1 << 62) -> None:
        self._directory = directory
        self._limit = limit
        self._segment_size = min(SEGMENT_SIZE, limit // LEAST_SEGMENTS)
        self._lock = threading.Lock()
        self._removed = False
        self._salt = secrets.randbits(32)
        self._segment: str | None = None
        """The segment that this object has begun and appends to."""
        self._in_segment = 0
        self._end: int | None = None

    def offset(self) -> int | None:
        """The offset up to which the stream is durable; None for an unknown spool."""
        with self._lock:
            self._look()
            return self._end

    def append(self, offset: int, data: bytes, gap: bool = False) -> int:
        """
        Stores `data`, which begins at `offset`, and returns the offset after it.

        Bytes that are stored already are skipped.  Raises `NoRoom`, and `Beyond` when bytes before `offset`
        are missing, unless `gap` says that the sender has lost them.
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
        """Removes the spool if its `newest_segment` is still the given one; whether it did."""
        with self._lock:
            if newest_segment(self._directory) != newest:
                return False
            shutil.rmtree(self._directory)
            self._removed = True
            return True

    def _look(self) -> None:
        """Reads the state on disk, at the first call and after the directory was removed."""
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
        """Writes a block.  A file with the name of a fresh segment holds no whole block: it is truncated."""
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
    """The offset after the last whole block, or that of the consumer if it is larger; None without both."""
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
    """The remote spools below a root.  Raises ValueError for names that do not match `SPOOL_NAME`."""

    def __init__(self, root: str, limit: int = 1 << 62) -> None:
        """`limit` is the most bytes of each spool."""
        self._root = root
        self._limit = max(limit, LEAST_LIMIT)
        self._spools: dict[str, RemoteSpool] = {}
        self._lock = threading.Lock()

    def offset(self, name: str) -> int | None:
        """The offset up to which a spool is stored; None for an unknown name, which is not remembered."""
        path = self._path(name)
        with self._lock:
            spool = self._spools.get(path)
        return (spool or RemoteSpool(path)).offset()

    def append(self, name: str, offset: int, data: bytes, gap: bool = False) -> int:
        """As `RemoteSpool.append`; an unknown spool is created."""
        path = self._path(name)
        while True:
            try:
                return self._get(path).append(offset, data, gap)
            except _Removed:
                continue

    def remove(self, path: str, newest: tuple[int, int]) -> bool:
        """Removes a spool if its `newest_segment` is still the given one; whether it did."""
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
        """Whether the limit is reached, counting spools that are being created."""
        known = {*filter(is_remote, spool_directories(self._root)), *self._spools}
        return len(known) >= MOST_REMOTE
