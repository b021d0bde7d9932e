"""
What was recorded of an exchange, in the one form from which its entry is computed.

It is made of an exchange in memory, under way or just stored, or in a rebuild of the metadata in its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from logging_proxy.captures.exchanges import LONGEST_METHOD, Exchange, Half, Opening, verdict
from logging_proxy.captures.heads import known_head, relevant_headers
from logging_proxy.captures.metadata import client_of
from logging_proxy.index.values import microseconds
from logging_proxy.redaction.redact import redact_url
from logging_proxy.understanding.urls import Called, called

Document = dict[str, Any]

_LONGEST_URL = 4096
_LOOKED_AT = 4 * _LONGEST_URL
"""Characters of a URL to redact: parsing costs memory for each escape, and redaction shortens the URL."""

_NO_HEADERS: Mapping[str, str] = {}


class Asked(NamedTuple):
    """What the request's head and its route tell; exchanges with equal heads share one."""

    route: str | None
    pattern: str | None
    method: str
    source_url: str
    """Redacted, as is the next one."""
    destination_url: str | None
    headers: Mapping[str, str]
    """The `relevant` headers of the request."""
    called: Called
    """What the destination's URL tells, or that of the client if there is no destination."""


class RecordedHalf(NamedTuple):
    """A half of an exchange.  Times are in microseconds since 1970."""

    started: int
    size: int
    file: str | None
    headers: Mapping[str, str] = _NO_HEADERS
    """The `relevant` ones."""
    body_size: int = 0
    """Bytes of the body, without refused ones; 0 if the bytes are no body, as in a tunnel."""
    body: bytes | None = None
    """The whole body if it is in memory; else it is read from the file."""
    status: int | None = None
    answered_by: str | None = None
    websocket: str | None = None
    """The extensions that were agreed for a WebSocket, whose frames the body is; None for any other body."""


class Recorded(NamedTuple):
    """An exchange; a half is None if there is nothing of it, not even a file."""

    id: str
    started: int
    ended: int
    asked: Asked
    client: str | None
    run: str | None
    """The run of a command that it belongs to."""
    outcome: str
    """Empty while it is under way."""
    error: str | None
    request: RecordedHalf | None
    response: RecordedHalf | None


# --- from memory -------------------------------------------------------------------


def of_exchange(
    exchange: Exchange,
    request_file: str | None,
    response_file: str | None,
    request_body: bytes | None = None,
    response_body: bytes | None = None,
) -> Recorded:
    """An exchange in memory; the bodies are given if they are at hand."""
    derived, wall_ns = exchange.opening.derived, exchange.wall_ns
    asked = derived if isinstance(derived, Asked) else _opened(exchange.opening)
    half, answer, elapsed = exchange.request, exchange.response, exchange.elapsed
    tunnel = half.tunnel_from is not None
    response: RecordedHalf | None = None
    if answer is not None:
        tunnel = tunnel or answer.tunnel_from is not None
        elapsed = elapsed if answer.completed is None else answer.completed
        response = _answer(answer, wall_ns, response_file, response_body)
    elif response_file is not None:
        response = RecordedHalf((wall_ns + elapsed) // 1000, 0, response_file)
    started, ended = wall_ns // 1000, (wall_ns + elapsed) // 1000
    request = _question(half, started, request_file, request_body, asked, tunnel, response)
    outcome, error = verdict(exchange)
    client, run = client_of(exchange.client), exchange.run or None
    return Recorded(exchange.id, started, ended, asked, client, run, outcome, error, request, response)


def _question(
    half: Half,
    started: int,
    file: str | None,
    body: bytes | None,
    asked: Asked,
    tunnel: bool,
    response: RecordedHalf | None,
) -> RecordedHalf:
    websocket: str | None = None
    if tunnel and not half.tunnel_from and response is not None:
        # What was sent before the tunnel is a body; what follows it is not looked at.
        websocket = response.websocket
    size = _tunnelled(half.size, websocket) if tunnel else half.body_size
    return RecordedHalf(started, half.size, file, asked.headers, size, body, websocket=websocket)


def _answer(half: Half, wall_ns: int, file: str | None, body: bytes | None) -> RecordedHalf:
    head = known_head(half.head)
    websocket = _websocket(head.status, head.relevant)
    return RecordedHalf(
        (wall_ns + half.started) // 1000,
        half.size,
        file,
        head.relevant,
        _tunnelled(half.size, websocket) if head.status == 101 else half.body_size,
        body,
        head.status,
        "proxy" if half.ours else "destination",
        websocket,
    )


def _websocket(status: int | None, headers: Mapping[str, str]) -> str | None:
    """The extensions that an answer agrees to if it makes the connection a WebSocket."""
    if status != 101 or headers.get("upgrade", "").lower() != "websocket":
        return None
    return headers.get("sec-websocket-extensions", "")


def _tunnelled(size: int, websocket: str | None) -> int:
    """How much of the bytes of a tunnel is read: all of the frames of a WebSocket, nothing else."""
    return 0 if websocket is None else size


def _opened(opening: Opening) -> Asked:
    """What the opening of exchanges tells, cached in it."""
    opening.derived = asked = _asked(
        opening.route_name,
        opening.pattern.decode("utf-8", "replace"),
        opening.method,
        opening.source_url.decode("latin-1"),
        opening.destination_url.decode("latin-1"),
        opening.parsed.relevant,
    )
    return asked


def _asked(
    route: str | None,
    pattern: str | None,
    method: str | None,
    source_url: str | None,
    destination_url: str | None,
    headers: Mapping[str, str],
) -> Asked:
    source, destination = source_url or "", destination_url or ""
    return Asked(
        route or None,
        pattern or None,
        (method or "")[:LONGEST_METHOD],
        _shown(source),
        _shown(destination) or None,
        headers,
        called(destination or source),
    )


def _shown(url: str) -> str:
    return redact_url(url[:_LOOKED_AT])[:_LONGEST_URL]


# --- from metadata -----------------------------------------------------------------


def of_documents(request: Document | None, response: Document | None) -> Recorded:
    """
    An exchange, from the metadata of one half or both.

    Raises ValueError, KeyError or TypeError if the documents are not valid metadata.
    """
    half = request or response
    if half is None:
        raise ValueError("neither request nor response")
    last, client = response or half, half.get("client") or {}
    asked = _NO_HEADERS if request is None else _headers(request)
    answered = _NO_HEADERS if response is None else _headers(response)
    websocket = None if response is None else _websocket(response.get("status"), answered)
    frames = None if request is None or request.get("tunnel_from") else websocket
    return Recorded(
        half["id"],
        _time(half["started_at"]),
        _time(last["completed_at"]),
        _asked(
            half.get("route"),
            half.get("pattern"),
            half.get("method"),
            half.get("source_url"),
            half.get("destination_url"),
            asked,
        ),
        _client(client.get("address"), client.get("port")),
        half.get("run"),
        last.get("outcome") or "",
        last.get("error"),
        None if request is None else _half(request, asked, frames),
        None if response is None else _half(response, answered, websocket),
    )


def _half(document: Document, headers: Mapping[str, str], websocket: str | None) -> RecordedHalf:
    tunnel = document.get("framing") == "tunnel"
    return RecordedHalf(
        _time(document["started_at"]),
        int(document["bytes"]),
        document["filename"],
        headers,
        _tunnelled(int(document["bytes"]), websocket) if tunnel else _body_size(document),
        None,
        document.get("status"),
        document.get("answered_by"),
        websocket if tunnel else None,
    )


def _headers(document: Document) -> Mapping[str, str]:
    return relevant_headers(document.get("headers", ()))


def _body_size(document: Document) -> int:
    """Size of a half's body.  The file may continue with refused bytes, which were not passed on."""
    refused = document.get("refused")
    size: int = refused["offset"] if refused else document.get("bytes") or 0
    return size


def _time(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


def _client(address: str | None, port: int | None) -> str | None:
    if not address or port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
