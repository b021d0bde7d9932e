"""
Captures read from a log directory, without a logging server.

The files are authoritative; the index is used only if it is marked as complete.
Nothing is written, not even beside the index.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

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
from logging_proxy.cli.stored import Halves, StoredExchanges
from logging_proxy.index import Filters, IndexTrouble, Row, TooSlow, check_route, parse_filters
from logging_proxy.index.entries import BODY_LIMIT
from logging_proxy.index.questions import IndexQuestions, open_whole
from logging_proxy.index.sqlite import FILE
from logging_proxy.understanding.decoding import decode
from logging_proxy.understanding.text import text_of

T = TypeVar("T")

LOOK_AGAIN = 0.5
"""Seconds between two scans for new files."""

CHUNK = 1 << 20
PAGE = 200


class DirectorySource:
    """See `Source`.  Shows finished exchanges only: those under way have no metadata yet."""

    def __init__(
        self, log_dir: str, sleep: Callable[[float], None] = time.sleep, routes: Sequence[str] = ()
    ) -> None:
        """`routes` are the names of the configured ones, if that is known."""
        self._routes = routes
        self._log_dir = log_dir
        self._sleep = sleep
        self._reader = CaptureReader(log_dir)
        self._stored = StoredExchanges(self._reader)
        try:
            self._reader.check()
        except OSError as error:
            raise Trouble(f"{log_dir}: {error.strerror}") from None

    @property
    def name(self) -> str:
        return self._log_dir

    def list(self, filters: Mapping[str, str]) -> Iterator[Document]:
        wanted = parse_filters(filters)
        index = open_whole_index(self._log_dir)
        if index is not None:
            found = (row.document() for row in _rows(index, wanted))
        else:
            found = (row.document() for row, _ in self._stored.newest_first(wanted))
        return self._told(found, wanted)

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
        return self._told(self._search(text, filters), parse_filters(filters))

    def _search(self, text: str, filters: Mapping[str, str]) -> Iterator[Found]:
        search = Search(text)
        index = open_whole_index(self._log_dir)
        if index is not None:
            for row in _rows(index, parse_filters({**filters, "q": text})):
                texts = index.texts(row.id)
                yield found_in(search, row, *((texts.request, texts.response) if texts else ()))
            return
        for row, halves in self._stored.newest_first(parse_filters(filters)):
            request, response = self._texts(halves)
            if search.matches(request, response):
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

    def _told(self, found: Iterator[T], wanted: Filters) -> Iterator[T]:
        """What is found; raises `BadFilter` if that is nothing, because there is no such route."""
        nothing = True
        for each in found:
            nothing = False
            yield each
        if nothing and "route" in wanted.where:
            check_route(wanted, {*self._routes, *self._captured_routes()})

    def _captured_routes(self) -> Iterator[str]:
        index = open_whole_index(self._log_dir)
        if index is not None:
            yield from index.counts().values.get("route", {})
        else:
            yield from (row.route for row, _ in self._stored.newest_first(Filters()) if row.route)

    def _row(self, id: str) -> Document | None:
        try:
            return self.get(id).row
        except Trouble:
            return None

    def _texts(self, halves: Halves) -> tuple[str, str]:
        request, response = (
            ""
            if half is None
            else stored_text(half, self._reader.body(str(half.get("filename")), BODY_LIMIT))
            for half in halves
        )
        return request, response


def stored_text(document: Document, body: bytes) -> str:
    """The text of a half's body, extracted as for the index."""
    headers = [(str(name).lower(), str(value)) for name, value in document.get("headers") or []]
    coding, kind = (
        ", ".join(value for name, value in headers if name == wanted)
        for wanted in ("content-encoding", "content-type")
    )
    return text_of(decode(body, coding).data, kind)


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


def _rows(index: IndexQuestions, wanted: Filters) -> Iterator[Row]:
    cursor: str | None = None
    try:
        while True:
            page = index.list(wanted, cursor, PAGE)
            yield from page.rows
            if page.next is None:
                return
            cursor = page.next
    except (IndexTrouble, TooSlow) as error:
        raise Trouble(f"the index: {error}") from None
