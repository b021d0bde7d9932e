"""
The thread that keeps an index in step with what is stored.

Storing captures comes first: it waits for the index only as long as a full
queue is being worked off, and never when the index is in trouble.  What the index
missed then is added from the files afterwards.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from logging_proxy.logserver.index.captures import Captures
from logging_proxy.logserver.index.entries import Document, entry_of
from logging_proxy.logserver.index.rebuild import Progress, rebuild
from logging_proxy.logserver.index.values import Entry, Index, IndexTrouble
from logging_proxy.logserver.store import Stored

QUEUE = 4096
"""Exchanges that wait for the index; their documents are a few KiB each."""

BATCH = 512
GATHER_SECONDS = 0.05
"""How long a commit waits for more exchanges: each makes a segment of the full text that is merged later."""

PUT_SECONDS = 5.0
RETRY_SECONDS = 1.0

KEPT_BYTES = 32 << 20
"""Of bodies in the queue; those of exchanges beyond are read from their files."""

FEW_PIECES = 64

_Halves = tuple[Document, Document, dict[str, bytes]]


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
        self._queue: queue.Queue[_Halves | None] = queue.Queue(QUEUE)
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
        self._queue.put(None)
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
        return self._queue.qsize()

    def on_stored(self, stored: Stored) -> None:
        """Takes an exchange whose files are on disk.  From one thread; may wait for a while, never raises."""
        bodies = stored.bodies
        size = sum(map(len, bodies.values()))
        if self._kept - self._let_go + size > KEPT_BYTES:
            bodies, size = {}, 0
        self._kept += size
        try:
            self._queue.put(
                (_light(stored.request), _light(stored.response), bodies),
                timeout=0 if self.trouble else PUT_SECONDS,
            )
        except queue.Full:
            self._kept -= size
            self._missed.set()

    def look_again(self) -> None:
        """Something stored may be missing in the index: the files are to be looked through."""
        self._missed.set()

    # --- the writer's thread

    def _write_all(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._gather()
            try:
                self._write(batch)
            except Exception as error:
                # A fault of ours must not end indexing either: the files are there to be read again.
                self._fail(error)

    def _gather(self) -> tuple[list[_Halves], bool]:
        """The next exchanges, and whether more may come."""
        item = self._queue.get()
        batch: list[_Halves] = []
        waited = False
        while item is not None and len(batch) < BATCH:
            batch.append(item)
            try:
                item = self._queue.get(timeout=0 if waited else GATHER_SECONDS)
            except queue.Empty:
                return batch, True
            waited = waited or self._queue.empty()
        if item is not None:
            batch.append(item)
        return batch, item is not None

    def _write(self, batch: list[_Halves]) -> None:
        if not batch:
            return
        if self._captures is None:
            self._captures = Captures(self._log_dir)
        self._let_go += sum(len(body) for _, _, bodies in batch for body in bodies.values())
        entries = [self._entry(*halves) for halves in batch]
        done = [entry for entry in entries if entry is not None]
        self._index.add(done)
        self.trouble = ""
        self._on_indexed(done)

    def _entry(self, request: Document, response: Document, bodies: dict[str, bytes]) -> Entry | None:
        assert self._captures is not None
        read = self._captures.body

        def body(name: str, limit: int) -> bytes:
            kept = bodies.get(name)
            return read(name, limit) if kept is None else kept[:limit]

        try:
            return entry_of(request, response, body)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            self._log.failure("{id}: cannot be indexed", id=request.get("id"))
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
            if self._missed.is_set() and self._queue.empty():
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


def _light(document: dict[str, Any]) -> Document:
    """Without the arrival times, if they are many: there may be a hundred thousand."""
    if len(document.get("pieces", ())) < FEW_PIECES:
        return document
    return {name: value for name, value in document.items() if name != "pieces"}
