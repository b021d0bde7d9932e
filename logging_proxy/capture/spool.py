"""
The spool's directory: segment files that a thread fills from the ring.

Nothing here runs on the reactor's thread but `Spool.__init__` and the calls
marked so: a disk that stalls or fails holds up this thread alone.  See
`segments` for what is in the files and `ring` for what comes before them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from logging_proxy.capture.ring import Ring, left_behind
from logging_proxy.capture.segments import (
    BLOCK,
    Block,
    block_header,
    read_block,
    segment_name,
    segment_start,
)

SEGMENT_SIZE = 8 << 20
"""Bytes after which a new segment file is begun: what the logging server can delete at a time."""

MOST_AT_ONCE = 1 << 20
"""Bytes written as one block at the most."""

GATHER = 0.005
"""Seconds that the thread lets records gather before it writes them as one block."""

SYNC_INTERVAL = 0.5
"""Seconds between two fdatasyncs while there is something to sync: power loss costs no more than 1 s."""

RETRY = 0.25
"""Seconds until the next attempt when the disk refuses."""


class SpoolBusy(Exception):
    """Another process writes this spool."""


class Spool:
    """
    Keeps what is stored in its ring in segment files below `directory`.

    `moved` is called from the spool's thread whenever the ring has more room
    than before, and whenever `failure` (None, or why nothing can be written)
    has changed.
    """

    _log = Logger()

    def __init__(
        self, directory: Path, ring_directory: Path, ring_size: int, limit: int, moved: Callable[[], None]
    ) -> None:
        """Raises `SpoolBusy`, and OSError when the directories cannot be used."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.failure: str | None = None
        self._limit = limit
        self._moved = moved
        self._lock = _locked(directory / "lock")
        self._fd = -1
        self._in_segment = 0
        self._kept = last_offset(directory)
        ring_path = ring_file(directory, ring_directory)
        self._salvage(ring_path)
        self.ring = Ring(_new_private_file(ring_path), ring_size, self._kept)
        self._ring_path = ring_path
        self._work = threading.Event()
        self._idle = True
        self._closing = False
        self._unsynced = False
        self._threads = [
            threading.Thread(target=self._run, name="spool", daemon=True),
            threading.Thread(target=self._sync_now_and_then, name="spool-sync", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stored(self) -> None:
        """Something was stored in the ring.  Called on the reactor's thread for every record."""
        if self._idle:
            self._idle = False
            self._work.set()

    def close(self) -> None:
        """Write and sync what the ring holds, then end.  Blocks; `stored` must not be called any more."""
        self._closing = True
        self._work.set()
        for thread in self._threads:
            thread.join()
        if self._kept == self.ring.stored:
            self._ring_path.unlink(missing_ok=True)
        self.ring.close()
        self._end_segment()
        os.close(self._lock)

    # --- what a dead process left -------------------------------------------------

    def _salvage(self, ring_path: Path) -> None:
        """Write what an earlier process stored in its ring but did not get into a segment."""
        try:
            data = _read_private_file(ring_path)
        except FileNotFoundError:
            return
        rest = left_behind(data, self._kept)
        for at in range(0, len(rest), MOST_AT_ONCE):
            self._append(rest[at : at + MOST_AT_ONCE])
        if rest:
            os.fdatasync(self._fd)
            self._log.info("{size} bytes that the last process had not written were saved", size=len(rest))
        ring_path.unlink()

    # --- the thread that writes ---------------------------------------------------

    def _run(self) -> None:
        while True:
            self._work.wait()
            if not self._closing:
                time.sleep(GATHER)
            if not self._empty_ring() and not self._closing:
                time.sleep(RETRY)
                continue
            if self._closing:
                return
            self._work.clear()
            self._idle = True
            if self.ring.stored != self.ring.taken:
                # Stored between the last look and `_idle`: nobody will wake us for it.
                self._idle = False
                self._work.set()

    def _empty_ring(self) -> bool:
        """Write all that the ring holds; False when the disk refused."""
        ring = self.ring
        while ring.stored != ring.taken:
            piece = ring.peek(MOST_AT_ONCE)
            try:
                self._append(piece)
            except OSError as error:
                self._failed(os.strerror(error.errno or 0))
                return False
            finally:
                size = len(piece)
                piece.release()
            ring.take(size)
            self._failed(None)
            self._moved()
        return True

    def _failed(self, failure: str | None) -> None:
        if failure != self.failure:
            self.failure = failure
            self._moved()

    def _append(self, payload: bytes | memoryview) -> None:
        """One block at the end of the newest segment, wholly or not at all."""
        if self._fd < 0 or self._in_segment >= SEGMENT_SIZE or not self._still_there():
            self._begin_segment()
        header = block_header(self._kept, payload)
        size = len(header) + len(payload)
        try:
            written = os.writev(self._fd, [header, payload])
            if written < size:
                raise OSError(28, "short write")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._in_segment)
                os.lseek(self._fd, self._in_segment, os.SEEK_SET)
            raise
        self._in_segment += size
        self._kept += len(payload)
        self._unsynced = True

    def _still_there(self) -> bool:
        """Whether the segment has a name still: someone may have emptied the directory under us."""
        return os.fstat(self._fd).st_nlink > 0

    def _begin_segment(self) -> None:
        if spool_size(self.directory) >= self._limit:
            raise OSError(122, "the spool's limit is reached")
        self._end_segment()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / segment_name(self._kept)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, 0)
        self._in_segment = 0

    def _end_segment(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(fd)
            os.close(fd)

    def _sync_now_and_then(self) -> None:
        while not self._closing:
            time.sleep(SYNC_INTERVAL)
            if self._unsynced:
                self._unsynced = False
                with contextlib.suppress(OSError):
                    os.fdatasync(self._fd)


# --- files ------------------------------------------------------------------------


def ring_file(spool: Path, ring_directory: Path) -> Path:
    """
    Where the ring of a spool lies.

    In a directory of many (`/dev/shm`) the name tells user and spool; where
    there is no such directory the ring lies in the spool itself.
    """
    if not ring_directory.is_dir():
        return spool / "ring"
    digest = hashlib.sha256(os.fsencode(spool.resolve())).hexdigest()[:24]
    return ring_directory / f"logging-proxy-{os.getuid()}-{digest}.ring"


def last_offset(directory: Path) -> int:
    """The stream offset after the last whole block in a spool's segments."""
    starts = sorted(start for name in os.listdir(directory) if (start := segment_start(name)) is not None)
    if not starts:
        return _remembered(directory)
    data = (directory / segment_name(starts[-1])).read_bytes()
    end, at = starts[-1], 0
    view = memoryview(data)
    while (block := read_block(view, at, end)) is not None:
        end, at = _after(block)
    return max(end, _remembered(directory))


def _after(block: Block) -> tuple[int, int]:
    return block.start + len(block.payload), block.end_in_file


def _remembered(directory: Path) -> int:
    """The offset up to which the consumer has taken the spool, when no segment is left to tell."""
    import json

    try:
        return int(json.loads((directory / "consumer.json").read_text())["offset"])
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


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise SpoolBusy(f"another process writes the spool {path.parent}") from None
    return fd


def _new_private_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _read_private_file(path: Path) -> bytes:
    """A file of ours; one that somebody else planted is not read."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not a file of ours")
        return file.read()


__all__ = ["BLOCK", "Spool", "SpoolBusy", "last_offset", "ring_file", "spool_size"]
