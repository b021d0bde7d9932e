"""
Creates the index entry of an exchange: decodes, understands and redacts it.

An entry is created from an exchange that was just stored, or in a rebuild from its metadata.  Both give the
same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from time import thread_time
from typing import Any

from logging_proxy.captures.exchanges import LONGEST_METHOD, Exchange, Opening, OpeningRow, verdict
from logging_proxy.captures.heads import Head, known_head, relevant_headers
from logging_proxy.captures.metadata import client_of
from logging_proxy.captures.stored import Stored
from logging_proxy.index.columns import NUMBERS, Row
from logging_proxy.index.values import Entry, Texts, is_exchange_id, microseconds
from logging_proxy.redaction.redact import redact_text, redact_url
from logging_proxy.understanding.decoding import Limits, decode
from logging_proxy.understanding.facts import Understanding, understand
from logging_proxy.understanding.text import Content, read_content

Document = dict[str, Any]
ReadBody = Callable[[str, int], bytes]
"""Takes the name of a `.bin` file and a maximum; returns the start of its body, empty if it is unreadable."""

BODY_LIMIT = 16 << 20
"""Maximum bytes of a body that are read for its text, both before and after decoding."""

_LIMITS = Limits(output=BODY_LIMIT, seconds=1.0)
_NOTHING = Content()
_NO_HEAD = Head("", "", "", [])
_LONGEST_URL = 4096
_LOOKED_AT = 4 * _LONGEST_URL
"""Characters of a URL to redact: parsing costs memory for each escape, and redaction shortens the URL."""


def entry_of(request: Document | None, response: Document | None, read_body: ReadBody) -> Entry:
    """
    The entry of an exchange, from the metadata of one half or both.

    Raises ValueError, KeyError or TypeError if the documents are not valid metadata.
    """
    about_request, about_response = _telling(request), _telling(response)
    asked = _content(request, about_request, read_body)
    answered = _content(response, about_response, read_body)
    understood = _understand(about_request, asked, about_response, answered)
    row = _row(request, response)
    row.update(_redacted(understood))
    return Entry(Row(**_checked(row)), Texts(asked.text, answered.text))


def entry_of_stored(stored: Stored, read_body: ReadBody) -> Entry:
    """The entry of an exchange that was just stored; equal to `entry_of` of its metadata."""
    exchange, request_file, response_file = stored[:3]
    request, response = exchange.request, exchange.response
    fields = exchange.opening.parsed.relevant
    answer = known_head(response.head) if response is not None else _NO_HEAD
    asked, answered = _NOTHING, _NOTHING
    if (
        request.body_size
        and request.tunnel_from is None
        and (response is None or response.tunnel_from is None)
    ):
        body = stored.request_body or read_body(request_file, BODY_LIMIT)
        asked = _read(body[: request.body_size], fields, request.body_size)
    if response is not None and response.body_size and answer.status != 101:
        body = stored.response_body or read_body(response_file, BODY_LIMIT)
        answered = _read(body[: response.body_size], answer.relevant, response.body_size)
    understood = _understand(fields, asked, answer.relevant, answered)
    outcome, error = verdict(exchange)
    route, pattern, method, source_url, destination_url = exchange.opening.row or _opened(exchange.opening)
    wall_ns = exchange.wall_ns
    started = wall_ns // 1000
    ended = exchange.elapsed if response is None or response.completed is None else response.completed
    headed = response is not None and answer.status is not None
    row = Row(
        id=exchange.id,
        started=started,
        route=route,
        pattern=pattern,
        method=method,
        status=answer.status,
        outcome=outcome,
        error=redact_url(error) if error else None,
        answered_by=None if response is None else "proxy" if response.ours else "destination",
        run=exchange.run or None,
        source_url=source_url,
        destination_url=destination_url,
        client=client_of(exchange.client),
        duration=(wall_ns + ended) // 1000 - started,
        head_after=(wall_ns + response.started) // 1000 - started if response and headed else None,
        request_bytes=request.size,
        response_bytes=0 if response is None else response.size,
        request_file=request_file,
        response_file=response_file,
        **_redacted(understood),
    )
    return Entry(row, Texts(asked.text, answered.text))


def _redacted(understood: Understanding) -> dict[str, Any]:
    """The understanding as redacted values by column name."""
    return {
        name: _redacted_name(value) if isinstance(value, str) else value
        for name, value in zip(understood._fields, understood, strict=True)
    }


_redacted_name = lru_cache(maxsize=256)(redact_text)
"""Cached, because few models and sessions are in use at a time."""


def opening_row(exchange: Exchange) -> Row:
    """The row of an exchange that is under way."""
    route, pattern, method, source_url, destination_url = exchange.opening.row or _opened(exchange.opening)
    return Row(
        exchange.id,
        exchange.wall_ns // 1000,
        route,
        pattern,
        method,
        run=exchange.run or None,
        source_url=source_url,
        destination_url=destination_url,
        client=client_of(exchange.client),
    )


def _opened(opening: Opening) -> OpeningRow:
    """Route, pattern, method and URLs of a row, cached in `opening`, which many exchanges share."""
    opening.row = row = (
        opening.route_name or None,
        opening.pattern.decode("utf-8", "replace") or None,
        opening.method,
        _url(opening.source_url.decode("latin-1")),
        _url(opening.destination_url.decode("latin-1")) or None,
    )
    return row


def _url(url: str) -> str:
    return redact_url(url[:_LOOKED_AT])[:_LONGEST_URL]


def _understand(
    about_request: Mapping[str, str], asked: Content, about_response: Mapping[str, str], answered: Content
) -> Understanding:
    return understand(
        about_request,
        asked.documents[0] if asked.documents else None,
        answered.documents,
        about_response.get("content-type", ""),
    )


def _content(document: Document | None, about: Mapping[str, str], read_body: ReadBody) -> Content:
    if document is None or document.get("framing") == "tunnel":
        return _NOTHING
    size = body_size(document)
    return _read(read_body(document["filename"], BODY_LIMIT)[:size], about, size) if size else _NOTHING


def body_size(document: Document) -> int:
    """Size of a half's body.  The file may continue with refused bytes, which were not passed on."""
    refused = document.get("refused")
    size: int = refused["offset"] if refused else document.get("bytes") or 0
    return size


def _read(body: bytes, about: Mapping[str, str], size: int) -> Content:
    """Text and values of a body of `size` bytes, of which `body` is the whole or the start."""
    cut, coding = size > BODY_LIMIT, about.get("content-encoding")
    if coding:
        decoded = decode(body, coding, _LIMITS, thread_time)
        body, cut = decoded.data, cut or decoded.truncated
    return read_content(body, about.get("content-type", ""), cut)


def _telling(document: Document | None) -> dict[str, str]:
    return {} if document is None else relevant_headers(document.get("headers", ()))


def _row(request: Document | None, response: Document | None) -> dict[str, Any]:
    any_half = request or response
    if any_half is None:
        raise ValueError("neither request nor response")
    started = _time(any_half["started_at"])
    client = any_half.get("client") or {}
    last = response or any_half
    return {
        "id": any_half["id"],
        "started": started,
        **{name: any_half.get(name) for name in ("route", "pattern", "run")},
        "method": (any_half.get("method") or "")[:LONGEST_METHOD],
        "outcome": last.get("outcome") or "",
        "error": last.get("error") and redact_url(last["error"]),
        "source_url": _url(any_half.get("source_url") or ""),
        "destination_url": _url(any_half.get("destination_url") or "") or None,
        "client": _client(client.get("address"), client.get("port")),
        "duration": max(0, _time(last["completed_at"]) - started),
        **_half("request", request),
        **_half("response", response),
        **_of_response(response, started),
    }


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """`row`, with its types checked: one bad value would make the whole batch fail."""
    for name, value in row.items():
        wanted = int if name in NUMBERS else str
        if value is not None and not isinstance(value, wanted):
            raise TypeError(f"{name} is not of type {wanted.__name__}")
    if not is_exchange_id(row["id"]):
        raise ValueError("not the id of an exchange")
    return row


def _half(side: str, document: Document | None) -> dict[str, Any]:
    if document is None:
        return {}
    return {f"{side}_bytes": int(document["bytes"]), f"{side}_file": document["filename"]}


def _of_response(response: Document | None, started: int) -> dict[str, Any]:
    if response is None:
        return {}
    status = response.get("status")
    return {
        "status": status,
        "answered_by": response.get("answered_by"),
        # Halves uploaded one by one carry wall-clock times; the clock may have been set back in between.
        "head_after": None if status is None else max(0, _time(response["started_at"]) - started),
    }


def _time(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


def _client(address: str | None, port: int | None) -> str | None:
    if not address or port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
