"""
Creates entries and adds them to an index, isolating faults of single exchanges.

An exchange that cannot be indexed with its text is indexed without it; failing that, it is skipped.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from logging_proxy.captures.reader import NOT_OF_THE_FILE, CaptureReader
from logging_proxy.captures.stored import Stored
from logging_proxy.index.contents import ReadBody
from logging_proxy.index.entries import entry_of, entry_of_stored
from logging_proxy.index.recorded import Document
from logging_proxy.index.values import Entry, Index, IndexTrouble, Texts, TooSlow

MOST_TEXT = 16 << 20
"""Maximum characters of text in one batch; several copies are in memory while it is added."""

MOST_TAILS = 4096
"""Maximum tails of entries that may still have to be added; a batch has fewer entries."""

_FAULTS_OF_ENTRIES = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError)

_log = Logger()


class Tails:
    """The tails of conversations that are in an index, or are on the way to it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._new: deque[int] = deque(maxlen=MOST_TAILS)

    def add(self, tail: int) -> None:
        if tail:
            self._new.append(tail)

    def known(self, chain: Sequence[int]) -> int:
        """How many messages of a conversation with this chain are in earlier exchanges."""
        earlier = chain[:-1]
        try:
            tails = self._index.tails(earlier).union(self._new)
        except TooSlow as error:
            raise IndexTrouble(str(error)) from error
        return next((at for at in range(len(earlier), 0, -1) if earlier[at - 1] in tails), 0)


class EntryMaker:
    """Creates the entries of stored exchanges."""

    def __init__(self, reader: CaptureReader, index: Index) -> None:
        self._reader = reader
        self._tails = Tails(index)

    def of_stored(self, stored: Stored) -> Entry | None:
        """The entry, without texts if they cannot be read; None if the exchange cannot be indexed."""
        bare = stored._replace(request_body=None, response_body=None)
        return self._make(
            stored.request_file,
            lambda read: (
                entry_of_stored(stored, read, self._tails.known) if read else entry_of_stored(bare, _nothing)
            ),
        )

    def of_documents(self, request: Document | None, response: Document | None) -> Entry | None:
        """Like `of_stored`, from the metadata of the two halves."""
        name = (request or response or {}).get("filename")
        return self._make(name, lambda read: entry_of(request, response, read or _nothing, self._tails.known))

    def _make(self, name: object, make: Callable[[ReadBody | None], Entry]) -> Entry | None:
        try:
            entry = make(self._reader.body)
            self._tails.add(entry.tail)
            return entry
        except Exception as error:
            if isinstance(error, IndexTrouble) or getattr(error, "errno", None) in NOT_OF_THE_FILE:
                raise
            reason = _reason(error)
        try:
            entry = make(None)
        except Exception as error:
            _log.warn("{name}: cannot be indexed ({reason})", name=name, reason=_reason(error))
            return None
        _log.warn("{name}: indexed without its text ({reason})", name=name, reason=reason)
        return entry


def _nothing(name: str, limit: int) -> bytes:
    return b""


def _reason(error: Exception) -> str:
    """A description of `error` that cannot contain captured data."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


class Adder:
    """
    Adds entries to an index in batches; `flush` adds the last one.

    Raises `IndexTrouble` if the index fails.  A bad entry is logged and skipped.
    """

    def __init__(self, index: Index, on_added: Callable[[list[Entry]], None] = lambda entries: None) -> None:
        self.added = 0
        self._index = index
        self._on_added = on_added
        self._entries: list[Entry] = []
        self._size = 0

    def take(self, entry: Entry | None) -> None:
        if entry is None:
            return
        self._entries.append(entry)
        self._size += len(entry.texts.request) + len(entry.texts.response)
        if self._size > MOST_TEXT:
            self.flush()

    def flush(self) -> None:
        entries, self._entries, self._size = self._entries, [], 0
        done = self._add(entries)
        self.added += len(done)
        self._on_added(done)

    def _add(self, entries: list[Entry]) -> list[Entry]:
        """Add `entries` in one transaction, or one by one if that fails; returns the entries added."""
        try:
            self._index.add(entries)
        except Exception as error:
            if _is_trouble(error):
                raise
            return [done for entry in entries if (done := self._add_one(entry))]
        return entries

    def _add_one(self, entry: Entry) -> Entry | None:
        bare = entry._replace(texts=Texts(), tail=0)
        for attempt in (entry, bare):
            try:
                self._index.add([attempt])
            except Exception as error:
                if _is_trouble(error):
                    raise
                reason = _reason(error)
                continue
            return attempt
        _log.warn("{id}: cannot be indexed ({reason})", id=entry.row.id, reason=reason)
        return None


def _is_trouble(error: Exception) -> bool:
    """Whether `error` is a failure of the index, rather than a fault of an entry."""
    return isinstance(error, IndexTrouble) and not isinstance(error.__cause__, _FAULTS_OF_ENTRIES)
