"""
Heads: start line and header fields, parsed once and then only read.

A head keeps its field lines as they came, so that the forwarded head has the sender's order, case and
blanks.  All values derived from the lines are computed when the head is parsed, because heads repeat and
are cached by their bytes.

Requests are read strictly.  The destination of a response was chosen in the configuration, so harmless
deviations, which Go and curl accept as well, are accepted; they are corrected in `lines`, and `raw` keeps
the bytes as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from logging_proxy.http import grammar
from logging_proxy.http.faults import RequestFault, ResponseFault

Fields = tuple[tuple[bytes, bytes], ...]
"""Pairs of a lower-case name and a value without the blanks around it, in order."""

_RULING = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""The fields that decide on the framing of a message and on its connection."""


class _Head:
    """The common part of request heads and response heads."""

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
        "ruling",
    )

    def __init__(self, raw: bytes, minor: int, section: bytes) -> None:
        self.raw = raw
        self.minor = minor
        self.lines: tuple[bytes, ...] = tuple(section.splitlines(keepends=True))
        fields = []
        self.ruling: dict[bytes, list[bytes]] = {}
        for line in self.lines:
            name, _, value = line.partition(b":")
            name = name.rstrip().lower()
            value = value.strip()  # blanks and CRLF; the grammar has refused other white space
            fields.append((name, value))
            if name in _RULING:
                self.ruling.setdefault(name, []).append(value)
        self.fields: Fields = tuple(fields)
        self.connection_options = _connection_options(self.ruling.get(b"connection", ()))
        self.keep_alive = _keep_alive(minor, self.connection_options)
        self.content_length: int | None = None
        self.chunked = False
        self.prepared: dict[Any, Any] = {}

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields called `name` (lower case), in order."""
        return [value for key, value in self.fields if key == name]


class RequestHead(_Head):
    """
    A request's head that satisfies all rules of RFC 9112 that can be checked without the body.

    `raw` ends with the blank line; `lines` are the field lines with their CRLF.
    `minor` is 0 or 1: a message with the version HTTP/1.2 is read as HTTP/1.1.
    `content_length` is None without the field, and with `chunked`.
    `prepared` is for results that consumers derive from the head, under keys of their own.
    """

    __slots__ = ("expect_continue", "host", "method", "target", "upgrade")

    def __init__(self, raw: bytes, method: bytes, target: bytes, minor: int, section: bytes) -> None:
        super().__init__(raw, minor, section)
        self.method = method
        self.target = target
        self.host = b""
        self.expect_continue = False
        self.upgrade = b""


class ResponseHead(_Head):
    """
    A response's head; attributes as in `RequestHead`.

    The framing of its body depends on the request as well, see `bodies.response_body`.
    """

    __slots__ = ("reason", "status")

    def __init__(self, raw: bytes, minor: int, status: int, reason: bytes, section: bytes) -> None:
        super().__init__(raw, minor, section)
        self.status = status
        self.reason = reason


def _connection_options(values: Sequence[bytes]) -> frozenset[bytes]:
    """The connection options in the Connection fields, in lower case (RFC 9110 §7.6.1)."""
    return frozenset([option.strip().lower() for value in values for option in value.split(b",")]) - {b""}


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
        raise request_line_fault(raw.partition(b"\r\n")[0]) or RequestFault(400, "malformed header field")
    method, target, minor, section = match.groups()
    if section.count(b"\n") > most_fields:
        raise RequestFault(431, f"more than {most_fields} header fields")
    head = RequestHead(raw, method, target, int(minor != b"0"), section)
    _check_target(head)
    _check_host(head)
    head.content_length, head.chunked = _request_framing(head)
    if head.minor == 1:  # RFC 9110 §7.8, §10.1.1: HTTP/1.0 knows neither
        head.expect_continue = b"100-continue" in [v.lower() for v in head.ruling.get(b"expect", ())]
        if b"upgrade" in head.connection_options:
            head.upgrade = b", ".join(head.ruling.get(b"upgrade", ()))
    return head


def request_line_fault(line: bytes) -> RequestFault | None:
    """The fault in `line`, the request line without its CRLF; None if it is valid."""
    match = grammar.request_line.fullmatch(line)
    if match is None:
        return RequestFault(400, "malformed request line", line)
    if match[3] != b"1":
        return RequestFault(505, "HTTP version not supported", line)
    return None


def _check_target(head: RequestHead) -> None:
    """RFC 9112 §3.2: the form of the target must fit the method."""
    target = head.target
    if head.method == b"CONNECT":
        if not _is_host(target):
            raise RequestFault(400, "malformed authority-form target")
    elif target.startswith(b"/"):
        return
    elif target == b"*":
        if head.method != b"OPTIONS":
            raise RequestFault(400, "target * with a method other than OPTIONS")
    else:
        match = grammar.absolute_form.fullmatch(target)
        if match is None or not _is_host(match[1]):
            raise RequestFault(400, "malformed request target")


def _check_host(head: RequestHead) -> None:
    """RFC 9112 §3.2: exactly one valid Host; HTTP/1.0 may leave it out."""
    hosts = head.ruling.get(b"host", ())
    if len(hosts) > 1:
        raise RequestFault(400, "more than one Host field")
    if not hosts:
        if head.minor >= 1:
            raise RequestFault(400, "no Host field")
        return
    if not _is_host(hosts[0]):
        raise RequestFault(400, "malformed Host field")
    head.host = hosts[0]


def _is_host(value: bytes) -> bool:
    match = grammar.host.fullmatch(value)
    return match is not None and int(match[1] or 0) < 65536


def _request_framing(head: RequestHead) -> tuple[int | None, bool]:
    """Content length and chunkedness of a request's body (RFC 9112 §6.3)."""
    try:
        length = _content_length(head.ruling.get(b"content-length", ()))
    except ValueError as error:
        raise RequestFault(400, str(error)) from None
    codings = head.ruling.get(b"transfer-encoding", ())
    if not codings:
        return length, False
    if length is not None:
        raise RequestFault(400, "both Content-Length and Transfer-Encoding")
    if head.minor == 0:
        raise RequestFault(400, "Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or not codings[0]:
        raise RequestFault(400, "malformed Transfer-Encoding field")
    coding = codings[0].lower()
    if coding != b"chunked":
        # RFC 9112 §6.1: 501 for an unknown coding; but "chunked" together with others is an attack.
        raise RequestFault(400 if b"chunked" in coding else 501, "transfer coding not supported")
    return None, True


def _content_length(lengths: Sequence[bytes]) -> int | None:
    """RFC 9110 §8.6, without its permission to merge repeated equal values.  Raises ValueError."""
    if not lengths:
        return None
    if len(lengths) > 1:
        raise ValueError("more than one Content-Length field")
    if not grammar.content_length.fullmatch(lengths[0]):
        raise ValueError("malformed Content-Length field")
    return int(lengths[0])


# --- responses --------------------------------------------------------------


def parse_response_head(raw: bytes, most_fields: int) -> ResponseHead:
    """The head in `raw`, which ends with the blank line.  Raises `ResponseFault`."""
    head = parse_tunnel_head(raw, most_fields)
    _remove_blanks(head)
    lengths = head.ruling.get(b"content-length", ())
    if lengths:
        head.content_length = _agreed_length(head, lengths)
    codings = head.ruling.get(b"transfer-encoding", ())
    if codings:
        line = _line_of(head, b"transfer-encoding")
        if lengths:
            raise ResponseFault("both Content-Length and Transfer-Encoding", line)
        if len(codings) > 1 or codings[0].lower() != b"chunked" or head.minor == 0:
            raise ResponseFault("transfer coding not supported", line)
        head.chunked = True
    return head


def parse_tunnel_head(raw: bytes, most_fields: int) -> ResponseHead:
    """
    As `parse_response_head`, but the framing fields are ignored.

    This is the rule for a 2xx response to CONNECT (RFC 9110 §9.3.6).
    """
    match = grammar.response_head.fullmatch(raw)
    if match is None:
        raise ResponseFault("malformed response head")
    minor, status, reason, section = match.groups()
    if section.count(b"\n") > most_fields:
        raise ResponseFault(f"more than {most_fields} header fields")
    return ResponseHead(raw, int(minor != b"0"), int(status), reason or b"", section)


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def _remove_blanks(head: ResponseHead) -> None:
    """RFC 9112 §5.1: a proxy removes blanks between a response field's name and its colon."""
    spaced = [line for line in head.lines if line[: line.index(b":")].endswith((b" ", b"\t"))]
    for line in spaced:
        if line[: line.index(b":")].strip().lower() in _FRAMING:  # some recipients ignore such a field
            raise ResponseFault("a blank before the colon of a framing field", line)
    if spaced:
        head.lines = tuple(without_blanks(line) for line in head.lines)


def without_blanks(line: bytes) -> bytes:
    """A field line without blanks before its colon."""
    name, _, value = line.partition(b":")
    return name.rstrip(b" \t") + b":" + value


def _agreed_length(head: ResponseHead, lengths: Sequence[bytes]) -> int:
    """
    The common value of `lengths`, which may be lists; afterwards the head has it only once.

    RFC 9110 §8.6: repeated equal values are either refused or replaced by one.  Its grammar allows leading
    zeros.
    """
    numbers = {
        number.strip(b" \t").lstrip(b"0") or number.strip(b" \t")[-1:]
        for value in lengths
        for number in value.split(b",")
    }
    number = numbers.pop()
    if numbers:
        raise ResponseFault("Content-Length fields that differ", _line_of(head, b"content-length"))
    if not grammar.content_length.fullmatch(number):
        raise ResponseFault("malformed Content-Length field", _line_of(head, b"content-length"))
    if list(lengths) != [number]:
        _keep_one_length(head, number)
    return int(number)


def _keep_one_length(head: ResponseHead, length: bytes) -> None:
    """Replace the Content-Length fields by a single one in the place of the first."""
    lines, fields = [], []
    said = False
    for line, (name, value) in zip(head.lines, head.fields, strict=True):
        if name == b"content-length":
            if said:
                continue
            said, line, value = True, line[: len(name)] + b": " + length + b"\r\n", length
        lines.append(line)
        fields.append((name, value))
    head.lines, head.fields = tuple(lines), tuple(fields)


def _line_of(head: ResponseHead, name: bytes) -> bytes:
    """The last field line called `name`."""
    return [line for line, (each, _) in zip(head.lines, head.fields, strict=True) if each == name][-1]


def tells_to_go_on(data: bytes) -> bool:
    """Whether `data`, sent to a client that awaits a 100, is more than 102 and 103 responses."""
    while data.startswith((b"HTTP/1.1 102 ", b"HTTP/1.1 103 ")):
        data = data[data.index(b"\r\n\r\n") + 4 :]
    return bool(data)


# --- the cache --------------------------------------------------------------

Head = TypeVar("Head", bound=RequestHead | ResponseHead)


class HeadCache(Generic[Head]):
    """
    Parsed heads by their bytes.

    A client repeats its heads, and an upstream does so within one second (its Date); a look-up takes about a
    tenth of the time of parsing.  The cache is emptied when it has `limit` heads; long heads are not kept.
    """

    LONGEST = 4096

    def __init__(self, parse: Callable[[bytes, int], Head], most_fields: int, limit: int = 512) -> None:
        self._parse: Callable[[bytes, int], Head] = parse
        self._most_fields = most_fields
        self._limit = limit
        self._heads: dict[bytes, Head] = {}
        self.get: Callable[[bytes], Head | None] = self._heads.get

    def parse(self, raw: bytes) -> Head:
        """Parse the head in `raw`, and keep it for the next time.  Raises the exceptions of the parser."""
        head: Head = self._parse(raw, self._most_fields)
        if len(raw) <= self.LONGEST:
            if len(self._heads) >= self._limit:
                self._heads.clear()
            self._heads[raw] = head
        return head
