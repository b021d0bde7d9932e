"""
Keeps an index up to date with the stored captures, in threads of its own.

Storing captures has priority: it waits for the index only while the queue is full and the index works.
Exchanges that the index missed are added later from their files.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.captures.stored import Stored
from logging_proxy.index.adding import Adder, EntryMaker
from logging_proxy.index.gone import remove_gone
from logging_proxy.index.rebuild import Progress, rebuild
from logging_proxy.index.values import Entry, Index, IndexTrouble, TooSlow

QUEUE = 4096
"""Maximum exchanges in the queue; each takes a few KiB."""

BATCH = 1024
"""Exchanges in a transaction: as many as a commit of the storage brings, so shared pages are written once."""

GATHER_SECONDS = 0.05
"""Delay of a commit to gather more exchanges: each commit creates a full-text segment to merge later."""

PUT_SECONDS = 5.0
"""How long storing waits for a full queue to move; it does not wait again until the index takes something."""

RETRY_SECONDS, LONGEST_RETRY = 1.0, 60.0
"""Delay between attempts to add missing exchanges, doubled after each failure."""

SWEEP_PAUSE = 0.02
"""Seconds between two pages of the search for entries whose files were deleted."""

UNREADABLE_SECONDS = 300.0
"""Delay before unreadable files are tried again."""

STOP_SECONDS = 10.0
"""How long a stop waits for the queue; the rest is added from files at the next start."""

KEPT_BYTES = 32 << 20
"""Maximum bytes of bodies in the queue; beyond it, bodies are read from their files."""


class Indexer:
    """
    Adds exchanges to an index as they are stored; `on_stored` takes them.

    `trouble` is empty while everything can be indexed.  `progress` describes the catch-up of missing
    exchanges, and is None when none is running.
    """

    _log = Logger()

    def __init__(
        self,
        reader: CaptureReader,
        index: Index,
        on_indexed: Callable[[list[Entry]], None] = lambda entries: None,
    ) -> None:
        self.progress: Progress | None = None
        self._trouble = self._unreadable = ""
        self._unreadable_until = 0.0
        self._seconds = time.monotonic
        self._late_at: float | None = None
        self._reader = reader
        self._index = index
        self._on_indexed = on_indexed
        self._waiting: deque[Stored] = deque()
        self._work = threading.Event()
        self._idle = True
        """Whether `on_stored` must set `_work`; it saves a lock for most exchanges."""
        self._taken = threading.Event()
        self._kept = self._let_go = 0
        self._hangs = False
        self._missed = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start, and add what earlier processes left out.  Call it before the first `on_stored`."""
        try:
            if not self._index.whole:
                self._missed.set()
            self._index.mark_whole(False)
        except IndexTrouble as error:
            self._fail(error)
        # Not made before, since a daemon forks, and not even an unstarted thread survives that.
        self._threads = [
            threading.Thread(target=self._write_all, name="index", daemon=True),
            threading.Thread(target=self._catch_up, name="index-rebuild", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; afterwards every exchange is indexed, or recorded as missing.  The index stays open."""
        self._late_at = self._seconds() + STOP_SECONDS
        self._stopping.set()
        self._work.set()
        for thread in self._threads:
            thread.join()
        if not self._missed.is_set() and not self._unreadable:
            try:
                self._index.mark_whole(True)
            except IndexTrouble as error:
                self._fail(error)

    @property
    def trouble(self) -> str:
        return self._trouble or self._unreadable

    @property
    def is_whole(self) -> bool:
        """Whether the index has every readable capture except those still in the queue."""
        return not (self._trouble or self._missed.is_set() or self.progress is not None)

    @property
    def waiting(self) -> int:
        """Stored exchanges that are not yet in the index."""
        return len(self._waiting)

    def on_stored(self, stored: Stored) -> None:
        """Queue a stored exchange.  Call from one thread; may block for `PUT_SECONDS`, never raises."""
        size = len(stored.request_body or b"") + len(stored.response_body or b"")
        if self._kept - self._let_go + size > KEPT_BYTES:
            stored, size = stored._replace(request_body=None, response_body=None), 0
        if len(self._waiting) >= QUEUE and not self._gets_room():
            self._missed.set()
            return
        self._kept += size
        self._waiting.append(stored)
        # Lost-wake-up guard: the writer sets `_idle` before it drains the queue; this thread appends before
        # it reads `_idle`.  In any interleaving one of them sees the other.
        if self._idle:
            self._idle = False
            self._work.set()

    def _gets_room(self) -> bool:
        """Wait for room in the queue, unless the index is in trouble or the last wait timed out."""
        self._taken.clear()
        if len(self._waiting) >= QUEUE and not self._trouble and not self._hangs:
            self._hangs = not self._taken.wait(PUT_SECONDS)
        return len(self._waiting) < QUEUE

    def look_again(self) -> None:
        """Have the files compared with the index, because captures may be missing in it."""
        self._missed.set()

    # --- the writer's thread

    def _write_all(self) -> None:
        while True:
            self._work.wait()
            self._stopping.wait(GATHER_SECONDS)
            # Read before the queue is drained, so that everything queued before `stop` is written.
            stopping = self._stopping.is_set()
            self._work.clear()
            self._idle = True
            while self._waiting and not self._is_late():
                try:
                    self._write(self._take())
                except Exception as error:
                    # An internal error must not end indexing: the files are read again later.
                    self._fail(error)
            if stopping:
                return

    def _is_late(self) -> bool:
        """Whether the time for a stop is over; the exchanges left are then recorded as missing."""
        if self._late_at is None or self._seconds() < self._late_at:
            return False
        self._missed.set()
        return True

    def _take(self) -> list[Stored]:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH))]
        self._let_go += sum(
            [len(each.request_body or b"") + len(each.response_body or b"") for each in batch]
        )
        self._hangs = False
        self._taken.set()
        return batch

    def _write(self, batch: list[Stored]) -> None:
        maker, adder = EntryMaker(self._reader, self._index), Adder(self._index, self._on_indexed)
        for stored in batch:
            if self._is_late():
                break
            adder.take(maker.of_stored(stored))
        adder.flush()
        self._trouble = ""

    def _fail(self, error: Exception) -> None:
        self._missed.set()
        trouble = (
            str(error) if isinstance(error, IndexTrouble) else f"internal error ({type(error).__name__})"
        )
        if trouble != self._trouble:
            self._log.error("exchanges cannot be indexed: {reason}", reason=trouble)
        self._trouble = trouble

    # --- what was missed

    def _catch_up(self) -> None:
        pause = RETRY_SECONDS
        swept = False
        while not self._stopping.is_set():
            if self._is_due() and not self._waiting:
                pause = RETRY_SECONDS if self._add_missed() else min(2 * pause, LONGEST_RETRY)
            elif not swept:
                swept = self._remove_gone()
            self._stopping.wait(pause)

    def _remove_gone(self) -> bool:
        """Once after the start: remove the entries whose files were deleted meanwhile."""
        removed = 0
        try:
            for count in remove_gone(self._reader, self._index):
                removed += count
                if self._stopping.wait(SWEEP_PAUSE):
                    break
        except (IndexTrouble, TooSlow):
            return False
        if removed:
            self._log.info("{count} exchanges left the index: their files were deleted", count=removed)
        return True

    def _is_due(self) -> bool:
        return self._missed.is_set() or (bool(self._unreadable) and self._seconds() >= self._unreadable_until)

    def _add_missed(self) -> bool:
        """Add the captures that the index lacks; whether every readable one was added."""
        self.progress = progress = Progress(0, 0, 0)
        self._missed.clear()
        try:
            for progress in rebuild(self._reader, self._index):
                self.progress = progress
                if self._stopping.is_set():
                    self._missed.set()
                    return True
            self._trouble = ""
            self._note_unreadable(progress)
            return True
        except Exception as error:
            self._fail(error)
            return False
        finally:
            self.progress = None

    def _note_unreadable(self, progress: Progress) -> None:
        """Schedule another attempt for unreadable files; the index counts as whole without them."""
        before, self._unreadable = self._unreadable, ""
        if progress.unreadable:
            self._unreadable_until = self._seconds() + UNREADABLE_SECONDS
            self._unreadable = f"{progress.unreadable} files of captures cannot be read"
            if self._unreadable != before:
                text = "not indexed: {reason}, of which {example} is one"
                self._log.error(text, reason=self._unreadable, example=progress.example)
