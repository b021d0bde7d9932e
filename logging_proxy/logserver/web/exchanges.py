"""`GET /api/exchanges` and what is below it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from logging_proxy.captures.exchanges import Side
from logging_proxy.captures.names import metadata_name
from logging_proxy.captures.reader import CaptureReader, OpenFile
from logging_proxy.index import (
    Abandoned,
    Filters,
    Index,
    IndexTrouble,
    Row,
    check_route,
    parse_filters,
)
from logging_proxy.index.filters import PARAMETERS
from logging_proxy.index.values import MAX_LIMIT, is_exchange_id
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.live.feed import row_document
from logging_proxy.logserver.live.listing import list_exchanges
from logging_proxy.logserver.live.under_way import UnderWay
from logging_proxy.logserver.store.protocol import Preview
from logging_proxy.logserver.threads import Run, TooBusy
from logging_proxy.logserver.web.answers import (
    Answer,
    Problem,
    ProblemResource,
    Refused,
    give_later,
    json_answer,
    refuse,
    watch_for_leaving,
)
from logging_proxy.logserver.web.attachments import give_file
from logging_proxy.logserver.web.parameters import read_parameters
from logging_proxy.redaction.redact import redact_headers, redact_line, redact_url

DEFAULT_LIMIT = 50

_PARAMETERS = PARAMETERS | {"cursor", "limit"}

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)

Documents = tuple[dict[str, Any] | None, dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Archive:
    """
    Access to all exchanges: under way, and stored.

    `run` is for reading files and single rows, `run_storage` for access to open spools, and `run_query` for
    searches, which may take seconds: it may raise `TooBusy`.
    """

    reader: CaptureReader
    index: Index | None
    under_way: UnderWay
    spools: Spools
    run: Run
    run_storage: Run
    run_query: Run

    routes: tuple[str, ...] = ()
    """The names of the configured routes, as far as they are known here."""

    def known_routes(self) -> set[str]:
        """The routes that are configured, or have exchanges."""
        stored = self.require_index().counts().values.get("route", {})
        under_way = (row.route for row in self.under_way.rows(Filters()))
        return {*self.routes, *stored, *(route for route in under_way if route)}

    def require_index(self) -> Index:
        if self.index is None:
            raise IndexTrouble("the index could not be opened")
        return self.index

    async def find(self, id: str) -> tuple[Row, Documents | None]:
        """
        An exchange, and its metadata so far if its files are not published yet.

        Raises `Refused` when there is no such exchange.
        """
        if not is_exchange_id(id):
            raise Refused(Problem.BAD_ID)
        row = self.under_way.row(id)
        if row is not None and row.request_file is None:
            raw = bytes.fromhex(id.replace("-", ""))
            preview: Preview | None = await self.run_storage(lambda: self.spools.preview(raw))
            if preview is not None:
                documents: Documents = await self.run(preview)
                return row, documents
            row = self.under_way.row(id)
        row = row or await self.run(lambda: self.require_index().get(id))
        if row is None:
            raise Refused(Problem.UNKNOWN_EXCHANGE)
        return row, None


class Exchanges(ProblemResource):
    """`GET /api/exchanges`, and below it one resource for each id."""

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self._archive = archive

    def getChild(self, path: bytes, request: Request) -> Any:
        return ExchangeResource(self._archive, path.decode("latin-1"))

    def render_GET(self, request: Request) -> bytes | int:
        try:
            given = read_parameters(request, _PARAMETERS)
            limit = _limit(given.get("limit", ""))
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        has_left = watch_for_leaving(request)

        def search() -> Answer | None:
            """Skipped, or broken off, when the client has left."""
            try:
                return None if has_left() else self._list(given, limit, has_left)
            except Abandoned:
                return None

        try:
            return give_later(request, self._archive.run_query(search))
        except TooBusy:
            return refuse(request, Problem.BUSY)

    def _list(self, given: dict[str, str], limit: int, abandoned: Callable[[], bool]) -> Answer:
        archive = self._archive
        cursor, filters, index = given.get("cursor") or None, parse_filters(given), archive.require_index()
        page = list_exchanges(index, archive.under_way.rows, filters, cursor, limit, abandoned)
        if not page.rows and cursor is None:
            check_route(filters, archive.known_routes())
        rows = [row_document(row) for row in page.rows]
        return json_answer({"exchanges": rows, "next": page.next})


def _limit(text: str) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise Refused(Problem.BAD_PARAMETER, f"limit: not a number from 1 to {MAX_LIMIT}", parameter="limit")
    return int(text)


class ExchangeResource(ProblemResource):
    """`GET /api/exchanges/{id}`: the row of the index and the metadata of both halves."""

    def __init__(self, archive: Archive, id: str) -> None:
        super().__init__()
        self._archive = archive
        self._id = id

    def getChild(self, path: bytes, request: Request) -> Any:
        for side in Side:
            if path == side.value.encode("ascii"):
                return Bytes(self._archive, self._id, side)
        return super().getChild(path, request)

    def render_GET(self, request: Request) -> bytes | int:
        try:
            reveal = _flag(read_parameters(request, ("reveal",)), "reveal")
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        return give_later(request, Deferred.fromCoroutine(self._describe(reveal)))

    async def _describe(self, reveal: bool) -> Answer:
        row, documents = await self._archive.find(self._id)
        answer: Answer = await self._archive.run(lambda: self._answer(row, documents, reveal))
        return answer

    def _answer(self, row: Row, documents: Documents | None, reveal: bool) -> Answer:
        halves = documents or (self._read(row.request_file), self._read(row.response_file))
        value = row_document(row)
        for side, document in zip(Side, halves, strict=True):
            value[side.value] = document if reveal or document is None else redacted(document)
        return json_answer(value)

    def _read(self, name: str | None) -> dict[str, Any] | None:
        return None if name is None else self._archive.reader.metadata(metadata_name(name))


class Bytes(ProblemResource):
    """`GET /api/exchanges/{id}/request` and `.../response`: the captured bytes."""

    isLeaf = True

    def __init__(self, archive: Archive, id: str, side: Side) -> None:
        super().__init__()
        self._archive = archive
        self._id = id
        self._side = side

    def render_GET(self, request: Request) -> bytes | int:
        if request.postpath:
            return refuse(request, Problem.NO_ADDRESS)
        try:
            read_parameters(request, ())
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        opening = Deferred.fromCoroutine(self._open())
        return give_file(request, self._archive.run, opening, self._side)

    async def _open(self) -> OpenFile:
        row, documents = await self._archive.find(self._id)
        name = row.request_file if self._side is Side.REQUEST else row.response_file
        if documents is not None:
            document = documents[list(Side).index(self._side)]
            name = None if document is None else document["filename"]
        if not name:
            raise Refused(Problem.NO_BYTES)
        file: OpenFile | None = await self._archive.run(lambda: self._archive.reader.open(name))
        if file is None:
            raise Refused(Problem.DELETED)
        return file


def _flag(given: dict[str, str], name: str) -> bool:
    if given.get(name, "false") not in ("true", "false"):
        raise Refused(Problem.BAD_PARAMETER, f"{name}: neither true nor false", parameter=name)
    return given.get(name) == "true"


def redacted(document: dict[str, Any]) -> dict[str, Any]:
    """Metadata without the secrets that headers and URLs are known to hold."""
    value = dict(document)
    for name, redact in _REDACTED.items():
        if value.get(name):
            value[name] = redact(value[name])
    return value


def _redact_informational(heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**head, "headers": redact_headers(head["headers"]), "reason": redact_line(head.get("reason") or "")}
        for head in heads
    ]


_REDACTED: dict[str, Callable[[Any], Any]] = {
    "headers": redact_headers,
    "trailers": redact_headers,
    "source_url": redact_url,
    "destination_url": redact_url,
    "error": redact_url,
    "http_version": redact_line,
    "reason": redact_line,
    "informational": _redact_informational,
}
