"""
Heads: start line and header fields, parsed once and then only read.

A head keeps its field lines as they came, so that what is passed on has the
sender's order, case and blanks.  Everything that is derived from the lines is
computed when the head is parsed: heads repeat, and are cached by their bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from logging_proxy.http import grammar
from logging_proxy.http.faults import RequestFault, ResponseFault

Fields = tuple[tuple[bytes, bytes], ...]
"""Pairs of a lower-case name and a value without the blanks around it, in order."""


class RequestHead:
    """
    A request's head that keeps every rule of RFC 9112 that does not need the body.

    `raw` ends with the blank line; `lines` are the field lines with their CRLF.
    `content_length` is None without the field; `chunked` excludes it.
    `prepared` holds what consumers derive from the head, keyed as they like.
    """

    __slots__ = (
        "chunked",
        "connection_options",
        "content_length",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "lines",
        "method",
        "minor",
        "prepared",
        "raw",
        "target",
        "upgrade",
    )

    def __init__(self, raw: bytes, method: bytes, target: bytes, minor: int, section: bytes) -> None:
        self.raw = raw
        self.method = method
        self.target = target
        self.minor = minor
        self.lines = tuple(section.splitlines(keepends=True)) if section else ()
        self.fields: Fields = _fields(section)
        self.connection_options = connection_options(self.fields)
        self.keep_alive = _keep_alive(minor, self.connection_options)
        self.host = b""
        self.content_length: int | None = None
        self.chunked = False
        self.expect_continue = False
        self.upgrade = b""
        self.prepared: dict[Any, Any] = {}

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields called `name` (lower case), in order."""
        return values(self.fields, name)


class ResponseHead:
    """
    A response's head; attributes as in `RequestHead`.

    What its body is depends on the request too: see `bodies.response_body`.
    """

    __slots__ = (
        "chunked",
        "connection_options",
        "content_length",
        "fields",
        "keep_alive",
        "lines",
        "minor",
        "prepared",
        "raw",
        "reason",
        "status",
    )

    def __init__(self, raw: bytes, minor: int, status: int, reason: bytes, section: bytes) -> None:
        self.raw = raw
        self.minor = minor
        self.status = status
        self.reason = reason
        self.lines = tuple(section.splitlines(keepends=True)) if section else ()
        self.fields: Fields = _fields(section)
        self.connection_options = connection_options(self.fields)
        self.keep_alive = _keep_alive(minor, self.connection_options)
        self.content_length: int | None = None
        self.chunked = False
        self.prepared: dict[Any, Any] = {}

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields called `name` (lower case), in order."""
        return values(self.fields, name)


def _fields(section: bytes) -> Fields:
    return tuple((name.lower(), value) for name, value in grammar.field.findall(section))


def values(fields: Fields, name: bytes) -> list[bytes]:
    """The values of the fields called `name` (lower case), in order."""
    return [value for key, value in fields if key == name]


def connection_options(fields: Fields) -> frozenset[bytes]:
    """What the Connection fields name, in lower case (RFC 9110 §7.6.1)."""
    listed = b",".join(value for name, value in fields if name == b"connection")
    return frozenset(option.strip(b" \t").lower() for option in listed.split(b",")) - {b""}


def _keep_alive(minor: int, options: frozenset[bytes]) -> bool:
    """Whether the sender keeps the connection open after this message (RFC 9112 §9.3)."""
    if b"close" in options:
        return False
    return minor >= 1 or b"keep-alive" in options


# --- requests ---------------------------------------------------------------


def parse_request_head(raw: bytes, most_fields: int) -> RequestHead:
    """The head in `raw`, which ends with the blank line.  Raises `RequestFault`."""
    match = grammar.request_head.fullmatch(raw)
    if match is None:
        raise _what_is_wrong(raw)
    method, target, minor, section = match.group("method", "target", "minor", "fields")
    head = RequestHead(raw, method, target, min(int(minor), 1), section)
    if len(head.fields) > most_fields:
        raise RequestFault(431, f"more than {most_fields} header fields")
    _check_target(head)
    _check_host(head)
    head.content_length, head.chunked = _request_framing(head)
    head.expect_continue = head.minor == 1 and b"100-continue" in (v.lower() for v in head.values(b"expect"))
    if b"upgrade" in head.connection_options and head.minor == 1:
        head.upgrade = b", ".join(head.values(b"upgrade"))
    return head


def _what_is_wrong(raw: bytes) -> RequestFault:
    """The most telling reason why `raw` is no request head."""
    line = raw.partition(b"\r\n")[0]
    match = grammar.request_line.fullmatch(line)
    if match is None:
        return RequestFault(400, "malformed request line")
    if match[3] != b"1":
        return RequestFault(505, "HTTP version not supported")
    return RequestFault(400, "malformed header field")


def _check_target(head: RequestHead) -> None:
    """RFC 9112 §3.2: which form of target goes with which method."""
    target = head.target
    if target.startswith(b"/"):
        return
    if head.method == b"CONNECT":
        if not grammar.host.fullmatch(target):
            raise RequestFault(400, "malformed authority-form target")
    elif target == b"*":
        if head.method != b"OPTIONS":
            raise RequestFault(400, "target * with a method other than OPTIONS")
    else:
        match = grammar.absolute_form.fullmatch(target)
        if match is None or not grammar.host.fullmatch(match[1]):
            raise RequestFault(400, "malformed request target")


def _check_host(head: RequestHead) -> None:
    """RFC 9112 §3.2: exactly one valid Host; HTTP/1.0 may leave it out."""
    hosts = head.values(b"host")
    if len(hosts) > 1:
        raise RequestFault(400, "more than one Host field")
    if not hosts:
        if head.minor >= 1:
            raise RequestFault(400, "no Host field")
        return
    if not grammar.host.fullmatch(hosts[0]):
        raise RequestFault(400, "malformed Host field")
    head.host = hosts[0]


def _request_framing(head: RequestHead) -> tuple[int | None, bool]:
    """Content length and chunkedness of a request's body (RFC 9112 §6.3)."""
    try:
        length = _content_length(head.values(b"content-length"))
    except ValueError as error:
        raise RequestFault(400, str(error)) from None
    codings = head.values(b"transfer-encoding")
    if not codings:
        return length, False
    if length is not None:
        raise RequestFault(400, "both Content-Length and Transfer-Encoding")
    if head.minor == 0:
        raise RequestFault(400, "Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or not codings[0]:
        raise RequestFault(400, "malformed Transfer-Encoding field")
    if codings[0].lower() != b"chunked":
        known = (
            codings[0].lower().split(b",")[-1].strip(b" \t") != b"chunked"
            and b"chunked" not in codings[0].lower()
        )
        raise RequestFault(501 if known else 400, "transfer coding not supported")
    return None, True


def _content_length(values: list[bytes]) -> int | None:
    """RFC 9110 §8.6, without its permission to merge repeated equal values.  Raises ValueError."""
    if not values:
        return None
    if len(values) > 1:
        raise ValueError("more than one Content-Length field")
    if not grammar.content_length.fullmatch(values[0]):
        raise ValueError("malformed Content-Length field")
    return int(values[0])


# --- responses --------------------------------------------------------------


def parse_response_head(raw: bytes, most_fields: int) -> ResponseHead:
    """The head in `raw`, which ends with the blank line.  Raises `ResponseFault`."""
    match = grammar.response_head.fullmatch(raw)
    if match is None:
        raise ResponseFault("malformed response head")
    minor, status, reason, section = match.group("minor", "status", "reason", "fields")
    head = ResponseHead(raw, min(int(minor), 1), int(status), reason or b"", section)
    if len(head.fields) > most_fields:
        raise ResponseFault(f"more than {most_fields} header fields")
    try:
        head.content_length = _content_length(head.values(b"content-length"))
    except ValueError as error:
        raise ResponseFault(str(error)) from None
    codings = head.values(b"transfer-encoding")
    if codings:
        if head.content_length is not None:
            raise ResponseFault("both Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked" or head.minor == 0:
            raise ResponseFault("transfer coding not supported")
        head.chunked = True
    return head


# --- the cache --------------------------------------------------------------

Head = TypeVar("Head", bound=RequestHead | ResponseHead)


class HeadCache(Generic[Head]):
    """
    Parsed heads by their bytes.

    A client sends the same head again and again, an upstream does within one
    second (its Date).  Looking one up costs 0.2 µs where parsing costs 15.
    Bounded: emptied when `limit` heads are held; long heads are never kept.
    """

    LONGEST = 4096

    def __init__(self, parse: Callable[[bytes, int], Head], most_fields: int, limit: int = 512) -> None:
        self._parse: Callable[[bytes, int], Head] = parse
        self._most_fields = most_fields
        self._limit = limit
        self._heads: dict[bytes, Head] = {}
        self.get: Callable[[bytes], Head | None] = self._heads.get

    def parse(self, raw: bytes) -> Head:
        """The head in `raw`, kept for the next time.  Raises what the parser raises."""
        head: Head = self._parse(raw, self._most_fields)
        if len(raw) <= self.LONGEST:
            if len(self._heads) >= self._limit:
                self._heads.clear()
            self._heads[raw] = head
        return head
