"""Captures read from a logging server through its API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from logging_proxy.cli.connection import Server
from logging_proxy.cli.matching import Search
from logging_proxy.cli.messages import open_message, start_of
from logging_proxy.cli.sources import (
    Document,
    Exchange,
    Found,
    NoServer,
    Refusal,
    Side,
    Trouble,
    ambiguous,
    checked_prefix,
    no_such,
)
from logging_proxy.index.contents import BODY_LIMIT
from logging_proxy.index.values import MAX_LIMIT, is_exchange_id
from logging_proxy.service.console import safe
from logging_proxy.understanding.text import text_of

FIRST_PAGE = "50"
MOST_AMBIGUOUS = 6
PAGE = str(MAX_LIMIT)

RECONNECT = 1.0
"""Seconds before reconnecting to the live feed after it was closed."""


class ApiSource:
    """See `Source`.  Lists exchanges under way as well."""

    def __init__(self, server: Server, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server = server
        self._sleep = sleep

    @property
    def name(self) -> str:
        return self._server.url

    def check(self) -> str:
        """Return the server's trouble, or an empty text.  Raises `NoServer` if no logging server answers."""
        try:
            value = self._server.ask("/health")
        except Refusal as error:
            # A server in trouble answers 503, but its API can be used.
            if error.status == 503:
                return str(error)
            raise NoServer(f"{self.name}: not a logging server") from None
        except Trouble as error:
            raise NoServer(str(error)) from None
        if not isinstance(value, dict) or "status" not in value:
            raise NoServer(f"{self.name}: not a logging server")
        reason = value.get("reason")
        return f"{self.name}: {safe(str(reason), 300)}" if reason else ""

    def list(self, filters: Mapping[str, str]) -> Iterator[Document]:
        parameters = {**filters, "limit": FIRST_PAGE}
        while True:
            value = self._server.ask("/api/exchanges", parameters)
            try:
                rows, cursor = [dict(row, id=str(row["id"])) for row in value["exchanges"]], value["next"]
            except (KeyError, TypeError, ValueError):
                raise self._no_server() from None
            yield from rows
            if not cursor:
                return
            parameters = {**filters, "limit": PAGE, "cursor": str(cursor)}

    def get(self, id: str) -> Exchange:
        whole = self._whole_id(checked_prefix(id))
        value = self._server.ask(f"/api/exchanges/{whole}", {"reveal": "true"})
        if not isinstance(value, dict) or "id" not in value:
            raise self._no_server()
        return Exchange(value, _half(value, "request"), _half(value, "response"))

    def body(self, exchange: Exchange, side: Side) -> Iterator[bytes]:
        return self._server.download(f"/api/exchanges/{exchange.id}/{side}")

    def search(self, text: str, filters: Mapping[str, str]) -> Iterator[Found]:
        search = Search(text)
        for row in self.list({**filters, "q": text}):
            yield self._found(search, row)

    def live(self) -> Iterator[Document | None]:
        parameters: dict[str, str] = {}
        while True:
            try:
                for event in self._server.watch("/api/live", parameters):
                    if isinstance(event, dict):
                        if isinstance(event.get("sequence"), int) and event.get("type") != "gap":
                            hello = event.get("type") == "hello"
                            if not (hello and parameters):
                                parameters = {"after": str(event["sequence"] - hello)}
                        yield event
                    else:
                        yield None
            except Refusal:
                raise
            except Trouble:
                if not parameters:
                    raise
            self._sleep(RECONNECT)
            yield None

    def _no_server(self) -> NoServer:
        return NoServer(f"{self.name}: not a logging server")

    def _whole_id(self, prefix: str) -> str:
        """The full id that begins with `prefix`, if there is only one."""
        if is_exchange_id(prefix):
            return prefix
        found = {row["id"] for row in islice(self.list({"id": prefix}), MOST_AMBIGUOUS)}
        if not found:
            raise no_such(prefix, self.name)
        if len(found) > 1:
            raise ambiguous(prefix, list(found))
        return str(found.pop())

    def _found(self, search: Search, row: Document) -> Found:
        """`row` with the text around the search words, from the first body that contains them."""
        exchange = Exchange(row)
        side: Side
        for side in ("response", "request"):
            message = open_message(partial(self.body, exchange, side))
            body = start_of(message.body().data(), BODY_LIMIT)
            snippet = search.snippet(text_of(body, message.content_type))
            if snippet:
                return Found(row, side, snippet)
        return Found(row)


def _half(value: Any, side: Side) -> Document | None:
    """The full metadata of a half; None for the short form used in lists."""
    half = value.get(side)
    return half if isinstance(half, dict) and "headers" in half else None
