"""
The storage side of a logging server put together: spools, uploads, index, feed, counts.

What happens goes from the spools to `UnderWay`, and what is new of it to the
feed and to telemetry; what is stored goes to the index, and from there back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from logging_proxy.captures.events import BodyPiece, Event
from logging_proxy.captures.exchanges import Side
from logging_proxy.captures.names import metadata_name
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Entry, Index, Indexer, IndexTrouble, SqliteIndex
from logging_proxy.index.adding import Adder, EntryMaker
from logging_proxy.index.sqlite import FILE
from logging_proxy.logserver.ingest.spools import describe_error
from logging_proxy.logserver.live.feed import Feed
from logging_proxy.logserver.live.under_way import UnderWay
from logging_proxy.logserver.process import Drainable, Run
from logging_proxy.logserver.telemetry.counters import Telemetry
from logging_proxy.logserver.uploads.intake import Target

_log = Logger()


def _tell(reason: str) -> None:
    _log.error("captures are stored but not indexed: {reason}", reason=reason)


def open_index(log_dir: str, tell: Callable[[str], None] = _tell) -> SqliteIndex | None:
    """
    The index of a log directory; None when it cannot be used, for captures are stored without one.

    A file that is damaged is put aside, and the index built anew.  `tell` hears why there is none.
    """
    path = os.path.join(log_dir, FILE)
    try:
        try:
            return SqliteIndex(path)
        except IndexTrouble as error:
            if not _is_damage(error.__cause__):
                raise
            _log.error("{reason}: put aside as {path}.damaged, and made anew", reason=str(error), path=path)
            _put_aside(path)
            return SqliteIndex(path)
    except (IndexTrouble, OSError) as error:
        tell(str(error))
        return None


def _is_damage(cause: BaseException | None) -> bool:
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _put_aside(path: str) -> None:
    os.replace(path, f"{path}.damaged")
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)


class Observers:
    """Who is told what happens."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.under_way = UnderWay()
        self.telemetry = Telemetry()
        self.indexer: Indexer | None = None
        self.on_size: Callable[[Stored], None] = lambda stored: None

    def on_event(self, event: Event) -> None:
        """From the storage thread."""
        if type(event) is BodyPiece and not event[0].again:
            # Most events are pieces, most of the time without anybody who watches.
            if not self.feed.resting:
                self.feed.publish(event)
            return
        for new in self.under_way.tell(event):
            self.telemetry.take(new)
            if not self.feed.resting:
                self.feed.publish(new)

    def on_stored(self, stored: Stored) -> None:
        """From the storage thread."""
        self.under_way.stored(stored)
        self.on_size(stored)
        if self.indexer is not None:
            self.indexer.on_stored(stored)

    def on_indexed(self, entries: list[Entry]) -> None:
        """From the thread of the index."""
        self.under_way.forget(entry.row.id for entry in entries)
        self.feed.publish_indexed(entries)


class HalfIndexing:
    """
    Puts halves that came one by one into the index, each with the other if that is there.

    What is `published` and not added by the end of this life is added by `settle`.
    """

    def __init__(self, reader: CaptureReader, index: Index | None, observers: Observers) -> None:
        self._reader = reader
        self._index = index
        self._observers = observers
        self._lock = threading.Lock()
        self._lately: dict[Target, str] = {}
        self._waiting: dict[str, dict[str, Any]] = {}

    def is_known(self, target: Target) -> bool:
        """Whether a half is stored already, as far as can be known now."""
        if self._observers.under_way.has_half(target.id, target.side):
            return True
        return self._file_of(target) is not None

    def published(self, document: dict[str, Any]) -> None:
        """From the storage thread: a half has its files, and these metadata."""
        if self._index is not None:
            self._waiting[document["filename"]] = document

    def settle(self) -> None:
        """Blocks.  Adds what waits, as what was cut by the stop, or came just before it."""
        for document in list(self._waiting.values()):
            self.add(document)

    def add(self, document: dict[str, Any]) -> None:
        """Blocks.  What cannot be added, for whatever reason, is looked for in the files later."""
        if self._index is None:
            return
        try:
            with self._lock:
                self._add(self._index, document)
        except Exception as error:
            _log.error("{id}: not indexed yet: {reason}", id=document["id"], reason=describe_error(error))
            if self._observers.indexer is not None:
                self._observers.indexer.look_again()
        self._waiting.pop(document["filename"], None)

    def _add(self, index: Index, document: dict[str, Any]) -> None:
        id, side = document["id"], Side(document["stream_type"])
        self._lately[Target(id, side)] = document["filename"]
        while len(self._lately) > 4096:
            del self._lately[next(iter(self._lately))]
        other = Side.RESPONSE if side is Side.REQUEST else Side.REQUEST
        name = self._lately.get(Target(id, other)) or self._file_of(Target(id, other))
        halves = {side: document, other: self._reader.metadata(metadata_name(name)) if name else None}
        adder = Adder(index, self._observers.on_indexed)
        adder.take(EntryMaker(self._reader).of_documents(halves[Side.REQUEST], halves[Side.RESPONSE]))
        adder.flush()

    def _file_of(self, target: Target) -> str | None:
        try:
            row = self._index.get(target.id) if self._index is not None else None
        except IndexTrouble:
            return None
        if row is None:
            return None
        return row.request_file if target.side is Side.REQUEST else row.response_file


class StoringAndIndexing(Service):
    """Storage and index as one service: what is stored when it has stopped is in the index."""

    def __init__(
        self,
        storage: Any,
        indexer: Indexer | None,
        index: Index | None,
        run: Run,
        begin: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`begin` is called when storage has started, `settle`, which may block, when it has stopped."""
        self._storage = storage
        self._indexer = indexer
        self._index = index
        self._run = run
        self._begin = begin
        self._settle = settle

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._indexer is not None:
            self._indexer.start()
        self._storage.startService()
        self._begin()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._storage.stopService()
        await self._run(self._settle)
        if self._indexer is not None:
            await self._run(self._indexer.stop)
        if self._index is not None:
            await self._run(self._index.close)

    # --- as the storage service itself

    def drain(self) -> Deferred[None]:
        storage: Drainable = self._storage
        return storage.drain()

    def wake(self) -> None:
        self._storage.wake()
