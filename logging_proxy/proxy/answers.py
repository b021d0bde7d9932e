"""
Responses that the proxy makes itself, recorded like any other response.

An error has two forms: JSON in the shape that the SDKs of OpenAI and Anthropic print, and plain text for
people.  `http.negotiation` decides between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from uuid import UUID

from logging_proxy.http.heads import RequestHead
from logging_proxy.http.negotiation import prefers_json
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.error_kinds import ErrorKind
from logging_proxy.recording.events import Capture
from logging_proxy.recording.records import Flag, Kind

Field = tuple[bytes, bytes]

TEXT, JSON = b"text/plain; charset=utf-8", b"application/json"

METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
"""The `Allow` of the listener itself: a 405 for CONNECT needs one (RFC 9110 §15.5.6)."""

_REFLECTED = frozenset({b"host", b"max-forwards", b"via"})
"""Fields that a TRACE response reflects.  Others may be credentials, which it must not (RFC 9110 §9.3.8)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that the proxy makes itself; `where` is its text in the console line."""

    status: int
    text: bytes
    where: str
    fields: tuple[Field, ...] = ()
    content_type: bytes = TEXT
    phrase: str = ""
    """The reason phrase; empty for that of the status."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error of the proxy, in no form yet.  Its texts hold no secrets."""

    kind: ErrorKind
    message: str
    where: str = ""
    """The text in the console line of a request that is not forwarded."""
    fields: tuple[Field, ...] = ()
    routes: tuple[str, ...] = ()
    """A list of the routes, for a request that matches none."""
    phrase: str = ""
    """The reason phrase, for clients that show nothing else of a response."""

    def to(self, id: bytes, request: Iterable[Field]) -> Reply:
        """The reply in exchange `id` to a request with the fields `request`, as JSON or text."""
        message = f"{self.message} (exchange {UUID(bytes=id)})"
        if prefers_json(request):
            listed = f" Routes: {', '.join(self.routes)}" if self.routes else ""
            error = {"type": "proxy_error", "code": self.kind.code, "message": message + listed}
            text, content_type = json.dumps({"type": "error", "error": error}), JSON
        else:
            listed = "".join(f"\n  {route}" for route in self.routes)
            text, content_type = message + ("\nRoutes:" + listed if listed else ""), TEXT
        body = (text + "\n").encode("utf-8", "backslashreplace")
        return Reply(self.kind.status, body, self.where, self.fields, content_type, self.phrase)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response, ready to be sent."""

    head: bytes
    body: bytes
    """The body as it is sent: empty after a HEAD."""
    keep_alive: bool

    @property
    def records(self) -> tuple[tuple[int, int, bytes], ...]:
        return (
            (int(Kind.RESPONSE_HEAD), int(Flag.OURS), self.head),
            (int(Kind.RESPONSE_PIECE), int(Flag.LAST), self.body),
        )

    def send(self, connection: ServerConnection, capture: Capture | None) -> None:
        """Send it and finish the request, once the spool has room for the records of `capture`."""
        if capture is not None and capture.full:
            capture.when_room().addCallback(lambda _: self.send(connection, capture))
            return
        connection.send(self.head + self.body)
        connection.finish(self.keep_alive)


def answer(request: RequestHead, may_keep_alive: bool, now: float, reply: Reply) -> Answer:
    """The answer to `request` that says `reply`; `now` in seconds since 1970."""
    # After a malformed request it is uncertain where the next one begins.
    keep_alive = may_keep_alive and request.minor == 1 and reply.status != 400
    return _answer(request.method == b"HEAD", keep_alive, now, reply)


def refusal(now: float, reply: Reply) -> Answer:
    """The answer to bytes that are no request: `reply`, and then the connection closes."""
    return _answer(False, False, now, reply)


def _answer(to_head: bool, keep_alive: bool, now: float, reply: Reply) -> Answer:
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (reply.status, (reply.phrase or HTTPStatus(reply.status).phrase).encode()),
        b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n",
    ]
    lines += [name + b": " + value + b"\r\n" for name, value in reply.fields]
    if reply.text:
        lines.append(b"Content-Type: " + reply.content_type + b"\r\nX-Content-Type-Options: nosniff\r\n")
    lines.append(b"Content-Length: %d\r\n" % len(reply.text))
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    return Answer(b"".join(lines), b"" if to_head else reply.text, keep_alive)


def last_stop(head: RequestHead) -> Reply:
    """The answer to a TRACE or OPTIONS that may not be forwarded any further (RFC 9110 §7.6.2)."""
    if head.method == b"OPTIONS":
        return Reply(200, b"", "MAX_FORWARDS", ((b"Allow", METHODS + b", TRACE"),))
    line, _, _ = head.raw.partition(b"\r\n")
    reflected = b"".join(
        each for each, (name, _) in zip(head.lines, head.fields, strict=True) if name in _REFLECTED
    )
    return Reply(200, line + b"\r\n" + reflected + b"\r\n", "MAX_FORWARDS", content_type=b"message/http")
