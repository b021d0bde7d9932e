"""
Spools of remote proxies: their streams arrive by HTTP and are kept as spool directories here.

A stream is appended at its own offsets, so sending bytes twice changes
nothing.  What is acknowledged is on disk.
"""

from __future__ import annotations

import os
import re
import threading

from logging_proxy.capture.segments import block_header, segment_name
from logging_proxy.logserver.consumer import CHECKPOINT
from logging_proxy.logserver.spools import make_private_directory
from logging_proxy.logserver.tail import SpoolTail, load_json, sync_directory

SEGMENT_SIZE = 16 << 20

SPOOL_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)

_CREATE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Beyond(Exception):
    """Bytes were sent that do not follow on what is stored; `stored` is the offset that would."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"bytes from {stored} on are missing")
        self.stored = stored


class RemoteSpool:
    """
    One remote proxy's stream, in segments below `directory`.

    Blocks on the disk, so it is used from threads; its methods exclude each other.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._fd = -1
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

        What is stored already is skipped.  Raises `Beyond` when bytes before
        `offset` are missing, unless `gap` says that nobody has them any more.
        """
        with self._lock:
            self._look()
            if self._end is None:
                make_private_directory(self._directory)
                self._end = offset
            if offset > self._end:
                if not gap:
                    raise Beyond(self._end)
                self._close()
                self._end = offset
            new = data[self._end - offset :]
            if new:
                self._append(new, self._end)
                self._end += len(new)
            return self._end

    def close(self) -> None:
        with self._lock:
            self._close()

    def _look(self) -> None:
        """Takes up what is on disk, at the first call and after the directory was removed."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink > 0:
            return
        self._close()
        try:
            self._end = stored_end(self._directory)
        except FileNotFoundError:
            self._end = None

    def _append(self, data: bytes, start: int) -> None:
        if self._fd < 0 or self._in_segment >= SEGMENT_SIZE:
            self._begin_segment(start)
        block = block_header(start, data) + data
        try:
            written = 0
            while written < len(block):
                written += os.pwrite(self._fd, block[written:], self._in_segment + written)
            os.fsync(self._fd)
        except OSError:
            self._close()
            raise
        self._in_segment += len(block)

    def _begin_segment(self, start: int) -> None:
        """A new file; one with this name holds no whole block, or the stream would go on behind it."""
        self._close()
        self._fd = os.open(os.path.join(self._directory, segment_name(start)), _CREATE, 0o600)
        os.ftruncate(self._fd, 0)
        self._in_segment = 0
        sync_directory(self._directory)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


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
    """The remote spools below a spool root, by name."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._spools: dict[str, RemoteSpool] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> RemoteSpool:
        """The spool of a name that matches `SPOOL_NAME`; ValueError for any other."""
        if not SPOOL_NAME.fullmatch(name):
            raise ValueError("no name of a spool")
        with self._lock:
            if name not in self._spools:
                self._spools[name] = RemoteSpool(os.path.join(self._root, f"remote-{name}"))
            return self._spools[name]
