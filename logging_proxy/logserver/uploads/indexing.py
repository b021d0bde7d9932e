"""The index entries of exchanges whose halves were uploaded."""

from __future__ import annotations

import threading
from typing import Any

from twisted.logger import Logger

from logging_proxy.captures.exchanges import Side
from logging_proxy.captures.names import metadata_name
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index import Index, IndexTrouble
from logging_proxy.index.adding import Adder, EntryMaker
from logging_proxy.logserver.ingest.spools import describe_error
from logging_proxy.logserver.live.observers import Observers
from logging_proxy.logserver.uploads.intake import Target

REMEMBERED = 4096
"""Halves whose file names are remembered, because the index may not have them yet."""

_log = Logger()


class UploadIndexing:
    """
    Adds uploaded halves to the index, each together with the other half if that is stored.

    A half that was `published` and has not been added when the server stops is added by `settle`.
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
        """Blocks.  Adds the halves that still wait: those that the stop cut, or that came just before."""
        for document in list(self._waiting.values()):
            self.add(document)

    def add(self, document: dict[str, Any]) -> None:
        """Blocks.  A half that cannot be added now is found later, when the indexer compares the files."""
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
        while len(self._lately) > REMEMBERED:
            del self._lately[next(iter(self._lately))]
        other = Side.RESPONSE if side is Side.REQUEST else Side.REQUEST
        name = self._lately.get(Target(id, other)) or self._file_of(Target(id, other))
        halves = {side: document, other: self._reader.metadata(metadata_name(name)) if name else None}
        adder = Adder(index, self._observers.indexed)
        adder.take(EntryMaker(self._reader, index).of_documents(halves[Side.REQUEST], halves[Side.RESPONSE]))
        adder.flush()

    def _file_of(self, target: Target) -> str | None:
        try:
            row = self._index.get(target.id) if self._index is not None else None
        except IndexTrouble:
            return None
        if row is None:
            return None
        return row.request_file if target.side is Side.REQUEST else row.response_file
