"""
The thread that keeps an index in step with what is stored.

Storing captures comes first: it waits for the index only as long as a full
queue is being worked off, and never when the index is in trouble.  What the index
missed then is added from the files afterwards.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

from logging_proxy.logserver.halves import Stored
from logging_proxy.logserver.index.captures import Captures
from logging_proxy.logserver.index.entries import entry_of_stored
from logging_proxy.logserver.index.rebuild import Progress, rebuild
from logging_proxy.logserver.index.values import Entry, Index, IndexTrouble

QUEUE = 4096
"""Exchanges that wait for the index; each is a few KiB."""

BATCH = 1024
"""As many as a commit of the storage may bring: what all of them change is written once."""

GATHER_SECONDS = 0.05
"""How long a commit waits for more exchanges: each makes a segment of the full text that is merged later."""

PUT_SECONDS = 5.0
RETRY_SECONDS = 1.0

KEPT_BYTES = 32 << 20
"""Of bodies in the queue; those of exchanges beyond are read from their files."""


class Indexer:
    """
    Hand `on_stored` to the spools.  `trouble` is empty while the index can be written.

    `progress` is that of adding what is missing, None when that is not going on.
    """

    _log = Logger()

    def __init__(
        self, log_dir: str, index: Index, on_indexed: Callable[[list[Entry]], None] = lambda entries: None
    ) -> None:
        self.trouble = ""
        self.progress: Progress | None = None
        self._log_dir = log_dir
        self._index = index
        self._on_indexed = on_indexed
        self._waiting: deque[Stored] = deque()
        self._work = threading.Event()
        self._idle = True
        """Whether `on_stored` must set `_work`; without it every exchange would cost a lock."""
        self._taken = threading.Event()
        self._captures: Captures | None = None
        self._kept = self._let_go = 0
        self._missed = threading.Event()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write_all, name="index", daemon=True)
        self._catcher = threading.Thread(target=self._catch_up, name="index-rebuild", daemon=True)

    def start(self) -> None:
        """Begins, and adds what earlier lives left out.  Call it before the first `on_stored`."""
        try:
            if not self._index.whole:
                self._missed.set()
            self._index.mark_whole(False)
        except IndexTrouble as error:
            self._fail(error)
        self._writer.start()
        self._catcher.start()

    def stop(self) -> None:
        """Returns when all that was handed in is in the index.  The index stays open."""
        self._stopping.set()
        self._work.set()
        self._writer.join()
        self._catcher.join()
        if self._captures is not None:
            self._captures.close()
        if not self._missed.is_set():
            try:
                self._index.mark_whole(True)
            except IndexTrouble as error:
                self._fail(error)

    @property
    def waiting(self) -> int:
        """Exchanges that are stored and not yet in the index."""
        return len(self._waiting)

    def on_stored(self, stored: Stored) -> None:
        """Takes an exchange whose files are there.  From one thread; may wait for a while, never raises."""
        size = len(stored.request_body or b"") + len(stored.response_body or b"")
        if self._kept - self._let_go + size > KEPT_BYTES:
            stored, size = stored._replace(request_body=None, response_body=None), 0
        if len(self._waiting) >= QUEUE and not self._gets_room():
            self._missed.set()
            return
        self._kept += size
        self._waiting.append(stored)
        # The other side says that it is idle first and takes second, here it is the reverse: one notices.
        if self._idle:
            self._idle = False
            self._work.set()

    def _gets_room(self) -> bool:
        """Waits, unless the index is in trouble."""
        self._taken.clear()
        if len(self._waiting) >= QUEUE and not self.trouble:
            self._taken.wait(PUT_SECONDS)
        return len(self._waiting) < QUEUE

    def look_again(self) -> None:
        """Something stored may be missing in the index: the files are to be looked through."""
        self._missed.set()

    # --- the writer's thread

    def _write_all(self) -> None:
        while True:
            self._work.wait()
            self._stopping.wait(GATHER_SECONDS)
            # Asked before the queue is emptied: what was handed in before `stop` is written.
            stopping = self._stopping.is_set()
            self._work.clear()
            self._idle = True
            while self._waiting:
                try:
                    self._write(self._take())
                except Exception as error:
                    # A fault of ours must not end indexing either: the files are there to be read again.
                    self._fail(error)
            if stopping:
                return

    def _take(self) -> list[Stored]:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH))]
        self._let_go += sum(
            [len(each.request_body or b"") + len(each.response_body or b"") for each in batch]
        )
        self._taken.set()
        return batch

    def _write(self, batch: list[Stored]) -> None:
        if self._captures is None:
            self._captures = Captures(self._log_dir)
        entries = [self._entry(stored, self._captures) for stored in batch]
        done = [entry for entry in entries if entry is not None]
        self._index.add(done)
        self.trouble = ""
        self._on_indexed(done)

    def _entry(self, stored: Stored, captures: Captures) -> Entry | None:
        try:
            return entry_of_stored(stored, captures.body)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            self._log.failure("{name}: cannot be indexed", name=stored.request_file)
            return None

    def _fail(self, error: Exception) -> None:
        self._missed.set()
        trouble = (
            str(error) if isinstance(error, IndexTrouble) else f"internal error ({type(error).__name__})"
        )
        if trouble != self.trouble:
            self._log.error("exchanges cannot be indexed: {reason}", reason=trouble)
        self.trouble = trouble

    # --- what was missed

    def _catch_up(self) -> None:
        while not self._stopping.is_set():
            if self._missed.is_set() and not self._waiting:
                self._add_missed()
            self._stopping.wait(RETRY_SECONDS)

    def _add_missed(self) -> None:
        self._missed.clear()
        try:
            for progress in rebuild(self._log_dir, self._index):
                self.progress = progress
                if self._stopping.is_set():
                    self._missed.set()
                    return
            self.trouble = ""
        except Exception as error:
            self._fail(error)
        finally:
            self.progress = None
