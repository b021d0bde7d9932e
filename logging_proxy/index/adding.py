"""
Making entries and adding them, so that no exchange stops the others.

Whatever goes wrong with one exchange costs its text at first, and its place in the index at last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from twisted.logger import Logger

from logging_proxy.captures.reader import NOT_OF_THE_FILE, CaptureReader
from logging_proxy.captures.stored import Stored
from logging_proxy.index.entries import Document, ReadBody, entry_of, entry_of_stored
from logging_proxy.index.values import Entry, Index, IndexTrouble, Texts

MOST_TEXT = 16 << 20
"""Characters of text that are added at once; each is in memory several times meanwhile."""

_FAULTS_OF_ENTRIES = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError)

_log = Logger()


class EntryMaker:
    """Makes the entries of exchanges whose files are there."""

    def __init__(self, reader: CaptureReader) -> None:
        self._reader = reader

    def of_stored(self, stored: Stored) -> Entry | None:
        """The entry, without texts if they cannot be had; None when there can be none at all."""
        bare = stored._replace(request_body=None, response_body=None)
        return self._make(
            stored.request_file,
            lambda read: entry_of_stored(stored, read) if read else entry_of_stored(bare, _nothing),
        )

    def of_documents(self, request: Document | None, response: Document | None) -> Entry | None:
        """The same for an exchange of which there are these metadata."""
        name = (request or response or {}).get("filename")
        return self._make(name, lambda read: entry_of(request, response, read or _nothing))

    def _make(self, name: object, make: Callable[[ReadBody | None], Entry]) -> Entry | None:
        try:
            return make(self._reader.body)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NOT_OF_THE_FILE:
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
    """Without what was being read."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


class Adder:
    """
    Gathers entries and adds them to an index; `flush` adds those that are left.

    Raises `IndexTrouble` when the index is in trouble, but not for what is wrong with an entry.
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
        """Those that could be added: together, else each for itself."""
        try:
            self._index.add(entries)
        except Exception as error:
            if _is_trouble(error):
                raise
            return [done for entry in entries if (done := self._add_one(entry))]
        return entries

    def _add_one(self, entry: Entry) -> Entry | None:
        bare = entry._replace(texts=Texts())
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
    """Whether it is the index that is in trouble, and not an entry that cannot be stored."""
    return isinstance(error, IndexTrouble) and not isinstance(error.__cause__, _FAULTS_OF_ENTRIES)
