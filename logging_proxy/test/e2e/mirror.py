"""
With and without the proxy: an upstream that keeps what it received, and the comparison of two runs.

What differs between the two runs is what belongs to a connection: the hop-by-hop fields, the chunks'
sizes, and the version of an HTTP/1.0 request.  `Host` does not: both name the upstream.
"""

from __future__ import annotations

import gzip
import hashlib
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.upstream import Reader, Received, Script, Step, Upstream, answer, perform

PLAIN = b"".join(b"line %d of a longer text\n" % number for number in range(400))
CODED = gzip.compress(PLAIN, mtime=0)
PIECES = (b"first", b" ", b"second\r\n0\r\n\r\n", bytes(range(256)), b"x" * 30_000)

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


class Mirror(Upstream):
    """
    An upstream that sends `100 Continue` to who expects it, and notes when a client leaves it.

    `stalls` are the first bytes of answers that never go on.
    """

    def __init__(self, scripts: Mapping[str, Script], stalls: Mapping[str, bytes] | None = None) -> None:
        super().__init__(scripts)
        self._stalls = stalls or {}
        self.left = 0
        """Clients that left while they waited."""

    def _exchange(self, connection: socket.socket, reader: Reader) -> bool:
        request = reader.head()
        if request is None:
            return False
        if any(name == b"expect" for name, _ in request.headers):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        reader.rest()
        received = reader.so_far()
        with self._lock:
            self.received.append(received)
        path = received.target.partition(b"?")[0].decode("ascii", "replace")
        if path in self._stalls:
            self._stall(connection, self._stalls[path])
            return False
        script = self._scripts.get(path, upstream.not_scripted)
        if not perform(connection, script(received)):
            return False
        reader.next_cycle()
        return not any(value.lower() == b"close" for name, value in request.headers if name == b"connection")

    def _stall(self, connection: socket.socket, first: bytes) -> None:
        connection.sendall(first)
        try:
            connection.recv(1)
        except ConnectionError:
            pass
        self.left += 1

    def taken(self) -> list[Received]:
        """What was received since the last time."""
        with self._lock:
            taken, self.received = self.received, []
        return taken


# --- what is compared -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the upstream got it, without what belongs to the connection."""

    method: bytes
    target: bytes
    lines: tuple[bytes, ...]
    """Field lines in order, byte for byte."""
    has_length: bool
    body: str

    @classmethod
    def of(cls, received: Received) -> Sent:
        lines = received.raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        names = [line.partition(b":")[0].lower() for line in lines]
        listed = b",".join(value.lower() for name, value in received.headers if name.lower() == b"connection")
        own = _HOP_BY_HOP.union(option.strip() for option in listed.split(b","))
        kept = tuple(line for line, name in zip(lines, names, strict=True) if name not in own)
        return cls(received.method, received.target, kept, b"content-length" in names, digest(received.body))


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as a client gave it, without what belongs to the connection."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: str

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Seen:
        kept = tuple((name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP)
        return cls(status, kept, digest(body))


def latin(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers of a client that decodes them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def digest(body: bytes) -> str:
    """Size and hash: enough to tell bodies apart, and short in a failure's message."""
    return f"{len(body)} bytes, {hashlib.sha256(body).hexdigest()[:16]}"


# --- scripts --------------------------------------------------------------------------


def coded(request: Received) -> Iterable[Step]:
    """A gzip-coded answer to who accepts it."""
    accepted = any(name.lower() == b"accept-encoding" and b"gzip" in value for name, value in request.headers)
    if accepted:
        yield answer(CODED, b"Content-Encoding: gzip", b"Vary: Accept-Encoding")
    else:
        yield answer(PLAIN, b"Vary: Accept-Encoding")


def ranged(request: Received) -> Iterable[Step]:
    """The bytes that a Range of the form `bytes=a-b` asks for."""
    for name, value in request.headers:
        if name.lower() == b"range":
            first, _, last = value.removeprefix(b"bytes=").partition(b"-")
            part = PLAIN[int(first) : int(last) + 1]
            place = b"Content-Range: bytes %b-%b/%d" % (first, last, len(PLAIN))
            yield answer(part, place, b'ETag: "v1"', status=b"206 Partial Content")
            return
    yield answer(PLAIN, b"Accept-Ranges: bytes")


def headed(request: Received) -> Iterable[Step]:
    """A length, and the body only to who did not send a HEAD."""
    whole = answer(PLAIN, b"Content-Type: text/plain")
    yield whole[: -len(PLAIN)] if request.method == b"HEAD" else whole


def odd(request: Received) -> Iterable[Step]:
    """Header fields of every kind that may pass: duplicates, odd case, no value, bytes beyond ASCII."""
    yield answer(
        b"odd",
        b"Set-Cookie: a=1; Path=/",
        b"X-oDD: one",
        b"set-cookie: b=2; Path=/",
        b"X-Empty:",
        b"x-odd:   two\t ",
        b"SET-COOKIE: c=3; Path=/",
        b"X-Latin: caf\xe9",
        status=b"203 I Made This Up",
    )


def until_closed(request: Received) -> Iterable[Step]:
    """A body that the connection's end delimits."""
    yield b"HTTP/1.1 200 OK\r\nX-Kind: close\r\nConnection: close\r\n\r\n"
    yield PLAIN
    yield upstream.End.CLOSE


def bare(status: bytes, *headers: bytes) -> Script:
    """An answer without a body."""
    head = b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""])
    return lambda request: [head]


def hinted(request: Received) -> Iterable[Step]:
    """Early hints before the answer."""
    yield b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    yield answer(b"hinted")


SCRIPTS: Mapping[str, Script] = {
    "/echo": upstream.echo,
    "/coded": coded,
    "/ranged": ranged,
    "/headed": headed,
    "/odd": odd,
    "/chunks": upstream.chunked(PIECES, b"Content-Type: application/octet-stream", gap=0.002),
    "/closed": until_closed,
    "/empty": bare(b"204 No Content", b"X-Kind: empty"),
    "/same": bare(b"304 Not Modified", b'ETag: "v1"'),
    "/moved": bare(b"302 Found", b"Location: http://elsewhere.invalid/?a=%2F", b"Content-Length: 0"),
    "/hinted": hinted,
    "/zero": lambda request: [answer(b"")],
}
