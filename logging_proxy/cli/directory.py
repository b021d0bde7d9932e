"""
Captures read from a log directory, without a logging server.

The files are authoritative; the index is used only if it is marked as complete.
Nothing is written, not even beside the index.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.matching import Search
from logging_proxy.cli.sources import (
    Document,
    Exchange,
    Found,
    Side,
    Trouble,
    ambiguous,
    checked_prefix,
    no_such,
)
from logging_proxy.cli.stored import StoredExchanges
from logging_proxy.index import Filters, IndexTrouble, Row, TooSlow, entry_of, parse_filters
from logging_proxy.index.gone import without_files
from logging_proxy.index.questions import IndexQuestions, open_whole
from logging_proxy.index.sqlite import FILE
from logging_proxy.index.unindexed import UnindexedSearch
from logging_proxy.recording.directories import UnsafeDirectory, check_private

LOOK_AGAIN = 0.5
"""Seconds between two scans for new files."""

CHUNK = 1 << 20
PAGE = 200


class DirectorySource:
    """See `Source`.  Shows finished exchanges only: those under way have no metadata yet."""

    def __init__(self, log_dir: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._log_dir = log_dir
        self._sleep = sleep
        self._reader = CaptureReader(log_dir)
        self._stored = StoredExchanges(self._reader)
        try:
            self._reader.check()
            check_private(log_dir, os.stat(log_dir))
        except OSError as error:
            raise Trouble(f"{log_dir}: {error.strerror}") from None
        except UnsafeDirectory as error:
            raise Trouble(str(error)) from None

    @property
    def name(self) -> str:
        return self._log_dir

    def list(self, filters: Mapping[str, str]) -> Iterator[Document]:
        wanted = parse_filters(filters)
        index = open_whole_index(self._log_dir)
        if index is not None:
            return (row.document() for row in self._rows(index, wanted))
        return (row.document() for row, _ in self._stored.newest_first(wanted))

    def get(self, id: str) -> Exchange:
        prefix = checked_prefix(id)
        found = self._stored.find(prefix)
        if not found:
            raise no_such(prefix, self.name)
        if len(found) > 1:
            raise ambiguous(prefix, [*found])
        ((whole, halves),) = found.items()
        row = self._stored.row(halves)
        if row is None:
            raise Trouble(f"{whole}: its metadata cannot be read")
        return Exchange(row.document(), *halves)

    def body(self, exchange: Exchange, side: Side) -> Iterator[bytes]:
        document = exchange.half(side)
        file = self._reader.open(str(document.get("filename"))) if document else None
        if file is None:
            return
        try:
            for start in range(0, file.size, CHUNK):
                yield file.read(start, CHUNK)
        finally:
            file.close()

    def search(self, text: str, filters: Mapping[str, str]) -> Iterator[Found]:
        search = Search(text)
        index = open_whole_index(self._log_dir)
        if index is not None:
            for row in self._rows(index, parse_filters({**filters, "q": text})):
                yield found_in(search, row, *(index.texts(row.id) or ()))
            return
        with UnindexedSearch(text) as texts:
            for row, halves in self._stored.newest_first(parse_filters(filters)):
                request, response = entry_of(*halves, self._reader.body).texts
                if texts.matches(request, response):
                    yield found_in(search, row, request, response)

    def live(self) -> Iterator[Document | None]:
        """An `indexed` event for each exchange whose files have been written."""
        seen = self._stored.ended()
        while True:
            self._sleep(LOOK_AGAIN)
            now = self._stored.ended()
            for name in sorted(now - seen):
                id = self._stored.id_of(name)
                row = None if id is None else self._row(id)
                if row is not None:
                    yield {"type": "indexed", "id": id, "exchange": row}
            seen = now
            yield None

    def _rows(self, index: IndexQuestions, wanted: Filters) -> Iterator[Row]:
        """The rows of an index, without those whose files were deleted."""
        cursor: str | None = None
        try:
            while True:
                page = index.list(wanted, cursor, PAGE)
                gone = without_files(self._reader, page.rows)
                yield from (row for row in page.rows if row.id not in gone)
                if page.next is None:
                    return
                cursor = page.next
        except (IndexTrouble, TooSlow) as error:
            raise Trouble(f"the index: {error}") from None

    def _row(self, id: str) -> Document | None:
        try:
            return self.get(id).row
        except Trouble:
            return None


def found_in(search: Search, row: Row, request: str = "", response: str = "") -> Found:
    """`row` with the text around the search words, preferably from the response."""
    snippet = search.snippet(response)
    if snippet:
        return Found(row.document(), "response", snippet)
    snippet = search.snippet(request)
    return Found(row.document(), "request" if snippet else None, snippet)


# --- the index ---------------------------------------------------------------------


def open_whole_index(log_dir: str) -> IndexQuestions | None:
    """Open the index if it is complete, else return None.  Raises `Trouble` if its version is newer."""
    try:
        return open_whole(os.path.join(log_dir, FILE))
    except IndexTrouble as error:
        raise Trouble(f"the index of {log_dir}: {error}") from None
