"""
The spool: a ring, and the threads that write its content to disk.

The reactor's thread only calls `__init__` and `stored`: a disk that stalls or fails
delays the spool's threads alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from logging_proxy.recording.disk import Disk, SegmentFiles, make_private_directory
from logging_proxy.recording.ring import NEVER
from logging_proxy.recording.rings import SpoolBusy, forget_ring, link_ring, lock_spool, open_ring
from logging_proxy.recording.segments import LARGEST_WRITE

MOST_UNSYNCED = 4
"""How many completed segments may wait for their sync before writing pauses."""

WRITES = 8
"""The content of a full ring is written in at least this many blocks, since each written block makes room."""

_FOREVER = -1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The spool's intervals, in seconds."""

    gather: float = 0.04
    """
    How long records are gathered into one block, unless they are many bytes.

    Each write has a fixed cost, and passes the interpreter's lock back and forth.
    """

    retry: float = 0.25
    """Delay before the next attempt after the disk refused a write."""

    sync: float = 0.5
    """Interval of syncs while there is something to sync: power loss costs no more than 1 s."""


class Spool:
    """
    Writes the bytes stored in `ring` to segment files below `directory`.

    `moved` is called on the spool's thread whenever the ring has more room than
    before, and whenever `failure` (None, or why nothing can be written) changes.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        ring_directory: Path,
        ring_size: int,
        limit: int,
        moved: Callable[[], None],
        disk: Disk | None = None,
        pace: Pace | None = None,
        workers: int = 1,
    ) -> None:
        """
        Open the spool; nothing is written before `start`.  The rings of all `workers` share the memory.

        Raises `SpoolBusy`, and OSError when the directories cannot be used.
        """
        make_private_directory(directory)
        self.directory = directory
        self.failure: str | None = None
        self._moved = moved
        self._pace = pace or Pace()
        self._lock = lock_spool(directory)
        try:
            self.ring, self._ring_path = open_ring(directory, ring_directory, ring_size, workers)
        except BaseException:
            os.close(self._lock)
            raise
        self._files = SegmentFiles(directory, self.ring.taken, limit, self._claim_directory, disk)
        self._largest_write = min(LARGEST_WRITE, self.ring.capacity // WRITES, self._files.segment_size)
        self._sync_failure: str | None = None
        self._wake_lock = threading.Lock()
        """Released to wake the writing thread; a `threading.Event` would take several system calls."""
        self.ring.wake_at = NEVER
        """`stored` wakes the thread only beyond this offset; otherwise every record would take the lock."""
        self._unsynced = threading.Event()
        self._closing = threading.Event()
        self._writing: threading.Thread | None = None
        self._syncing: threading.Thread | None = None

    def start(self) -> None:
        """Start the threads, in the process that will store: not even an unstarted one survives a fork."""
        self._writing = threading.Thread(target=self._run, name="spool", daemon=True)
        self._syncing = threading.Thread(
            target=self._sync_now_and_then, args=(self._writing,), name="spool-sync", daemon=True
        )
        self._writing.start()
        self._syncing.start()

    def stored(self) -> None:
        """
        Notify the spool of a store to the ring, on the reactor's thread.

        Calls can be omitted while `stored` of the ring is below its `wake_at`.
        """
        if self.ring.stored >= self.ring.wake_at:
            self._wake()

    def close(self, patience: float = 10.0) -> bool:
        """
        Write and sync the ring's content, then end the threads; blocks.  Whether all of it is on disk.

        If the disk refuses, or has not answered after `patience` seconds, the
        ring stays for the next start.  `stored` must not be called afterwards.
        """
        self._closing.set()
        self._wake()
        self._unsynced.set()
        if self._syncing is not None:
            self._syncing.join(patience)
            if self._syncing.is_alive():
                self._log.critical("the disk does not answer; unwritten records stay in the ring")
                return False
        empty = self.ring.taken == self.ring.stored
        self.ring.close()
        if empty:
            forget_ring(self.directory)
        os.close(self._lock)
        return empty

    # --- the writing thread ---------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._sleep(self.ring.taken + self._largest_write, self._pace.gather)
            # Read before the ring is emptied, so that everything stored before `close` is written.
            closing = self._closing.is_set()
            if self.ring.stored == self.ring.taken and not closing:
                self._sleep(self.ring.taken + 1, _FOREVER)
                continue
            emptied = self.write_out()
            if closing:
                return
            if not emptied:
                self._closing.wait(self._pace.retry)

    def _sleep(self, wake_at: int, seconds: float) -> None:
        """Sleep until the ring is filled up to stream offset `wake_at`, `close`, or `seconds` have passed."""
        self._wake_lock.acquire(blocking=False)
        self.ring.wake_at = wake_at
        # The reactor stores first and reads `wake_at` second; the reverse order here loses no wake-up.
        if self.ring.stored < wake_at and not self._closing.is_set():
            self._wake_lock.acquire(timeout=seconds)
        self.ring.wake_at = NEVER

    def _wake(self) -> None:
        self.ring.wake_at = NEVER
        # The thread may be awake already, as its sleep times out.
        with contextlib.suppress(RuntimeError):
            self._wake_lock.release()

    def write_out(self) -> bool:
        """
        Write the ring's present content; False if writing failed.  For the spool's thread.

        Records stored meanwhile wait for the next block: following the reactor a few
        records at a time would cost far more processor time with many streams.
        """
        ring = self.ring
        end = ring.stored
        most = self._largest_write
        while ring.taken < end:
            try:
                with ring.peek(most) as piece:
                    size = len(piece)
                    self._files.append(piece, ring.sums(size))
            except Exception as error:  # any error: if this thread died, recording would stop for good
                if most:
                    most = 0  # a small block may fit where a large one does not
                    continue
                self._failed(describe(error))
                return False
            ring.take(size)
            if self.failure is not None or 2 * ring.room > ring.capacity:
                self.failure = None
                self._moved()
            if not self._unsynced.is_set():
                self._unsynced.set()
            if self._files.unsynced > MOST_UNSYNCED:
                self._try_to_sync(self._files.sync)
        self._moved()
        return True

    def _failed(self, failure: str) -> None:
        if failure != self.failure:
            self.failure = failure
            self._moved()

    def _claim_directory(self) -> None:
        """The spool directory was re-created: lock it again and restore its link to the ring."""
        old, self._lock = self._lock, lock_spool(self.directory)
        os.close(old)
        link_ring(self.directory, self._ring_path)

    # --- the syncing thread ---------------------------------------------------------

    def _sync_now_and_then(self, writing: threading.Thread) -> None:
        while not self._closing.is_set():
            self._unsynced.wait()
            self._closing.wait(self._pace.sync)
            # Cleared first: a write from here on sets it again.
            self._unsynced.clear()
            self._try_to_sync(self._files.sync)
        writing.join()
        self._try_to_sync(self._files.close)

    def _try_to_sync(self, sync: Callable[[], None]) -> None:
        failure = None
        try:
            sync()
        except Exception as error:
            failure = describe(error)
        if failure != self._sync_failure:
            self._sync_failure = failure
            if failure is not None:
                self._log.critical("a power cut now would lose captures: {why}", why=failure)


def describe(error: Exception) -> str:
    """The error's text in one line."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


__all__ = ["Disk", "Pace", "Spool", "SpoolBusy", "describe"]
