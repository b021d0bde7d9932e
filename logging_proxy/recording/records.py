"""
The records of the spool, which the proxy appends and the logging server reads.

The spool is one endless stream of bytes, records back to back.  A record is a
fixed header and a payload::

    length    u32   of the payload, in bytes
    kind      u8    a `Kind`
    flags     u8    a `Flag` set
    (unused)  u16
    exchange  u64   number of the exchange, unique within a session; 0 for none
    time      u64   monotonic clock of the proxy, nanoseconds

Integers are little-endian.  Nothing here touches a file: `encode` makes bytes,
`RecordReader` takes them back in pieces of any size.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from logging_proxy.net import shortcut

HEADER = struct.Struct("<IBBHQQ")

MAX_PAYLOAD = 16 << 20
"""A larger length is damage.  The largest valid payload is a message head or one read of a socket."""


class Kind(enum.IntEnum):
    """The meaning of a record for its exchange."""

    SESSION = 0
    """
    A proxy started: JSON `version`, `pid`, `wall_ns`, and `run` if the session's exchanges belong to one.

    Exchanges still open were interrupted.
    """

    REQUEST_HEAD = 1
    """An exchange starts: a `RequestHead` payload."""

    REQUEST_PIECE = 2
    """Bytes of the request's body, transfer coding removed."""

    REQUEST_TRAILERS = 3
    """The raw trailer section of the request, each line with its CRLF."""

    INFORMATIONAL = 4
    """The raw head of a 1xx response, blank line included."""

    RESPONSE_HEAD = 5
    """The raw head of the final response as the destination sent it, blank line included."""

    RESPONSE_PIECE = 6
    """Bytes of the response's body, transfer coding removed."""

    RESPONSE_TRAILERS = 7
    """The raw trailer section of the response, each line with its CRLF."""

    NOTE = 8
    """JSON merged into the exchange's metadata: a retry, the upstream's address, a count of lost bytes."""

    END = 9
    """The exchange is over: a byte `OUTCOMES[n]`, then the error text in UTF-8 (may be empty)."""

    TUNNEL_CLIENT = 10
    """Bytes that the client sent into the tunnel after a 101."""

    TUNNEL_UPSTREAM = 11
    """Bytes that the upstream sent into the tunnel after a 101."""

    LOST = 12
    """Captures could not be written for some time: JSON `exchanges`, `bytes`, `reason`."""


class Flag(enum.IntFlag):
    LAST = 1
    """On a piece (which may be empty): this half's body ends here, according to its framing."""

    OURS = 2
    """On a RESPONSE_HEAD: the proxy generated the response, not a destination."""

    REFUSED = 4
    """
    On a piece, the last of its half: raw bytes that were not forwarded, because they are malformed or
    incomplete.  In the capture file they follow the body.  Without a REQUEST_HEAD the exchange has nothing
    else; without a RESPONSE_HEAD its response has nothing else.
    """


OUTCOMES = (
    "complete",
    "client_closed",
    "upstream_closed",
    "upstream_reset",
    "upstream_timeout",
    "connect_failed",
    "tls_failed",
    "protocol_error",
    "interrupted",
)
"""The outcomes of design.md; END records hold the index.  Append only: old spools must stay readable."""


class SpoolDamage(ValueError):
    """Bytes that cannot be records.  The text names the fault and its place."""


_KINDS = tuple(Kind)
_LAST_KIND = int(max(Kind))
_PIECES = {Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE, Kind.TUNNEL_CLIENT, Kind.TUNNEL_UPSTREAM}

LEAST_VIEW = 512 << 10
"""Pieces of at least this size are yielded as views; the caller must use them before the next `feed`."""

_new = tuple.__new__


class Record(NamedTuple):
    """A named tuple, since there is one for every piece: it is created faster than a dataclass."""

    kind: Kind
    flags: int
    exchange: int
    time: int
    payload: bytes | memoryview
    """A view only in the cases that `RecordReader.feed` describes."""

    @property
    def content(self) -> bytes:
        """The payload as bytes; copies only if it is a view."""
        return bytes(self.payload)


def encode(kind: int, flags: int, exchange: int, time: int, payload: bytes) -> bytes:
    """One record as bytes."""
    return HEADER.pack(len(payload), kind, flags, 0, exchange, time) + payload


class RecordReader:
    """
    Splits a stream of bytes, fed in pieces of any size, into records.

    `consumed` counts the bytes of all records yielded so far, which is where reading resumes
    after a restart.
    """

    def __init__(self) -> None:
        self._carry = bytearray()
        self._needed = 0
        self.consumed = 0

    def feed(self, data: bytes | memoryview) -> Iterator[Record]:
        """
        The records that `data` completes, in order.  Raises `SpoolDamage`.

        If `data` is a view, body pieces of `LEAST_VIEW` bytes and more are views of it as well, since
        copying them would be the main cost of handling them.
        """
        if self._carry:
            self._carry += data
            if len(self._carry) < self._needed:
                return
            data = bytes(self._carry)
        start, size, available = 0, HEADER.size, len(data)
        if type(data) is bytes and (split := shortcut.splitter()) is not None:
            # Most records are small, and for them the C function takes about half the time of the loop below.
            found, start = split(data, Record, _KINDS, MAX_PAYLOAD)
            self.consumed += start
            yield from found
        before, unpack, viewed = self.consumed - start, HEADER.unpack_from, type(data) is memoryview
        self._needed = size
        try:
            while available - start >= size:
                length, kind, flags, _, exchange, time = unpack(data, start)
                if length > MAX_PAYLOAD or kind > _LAST_KIND:
                    raise SpoolDamage(f"no record at {self.consumed}: kind {kind}, length {length}")
                end = start + size + length
                if available < end:
                    self._needed = end - start
                    break
                payload = data[start + size : end]
                if viewed and (length < LEAST_VIEW or kind not in _PIECES):
                    payload = bytes(payload)
                record = _new(Record, (_KINDS[kind], flags, exchange, time, payload))
                self.consumed = before + end
                start = end
                yield record
        finally:
            self._carry = bytearray(data[start:])


# --- the payload of REQUEST_HEAD -------------------------------------------

_ID_AND_WALL = struct.Struct("<16sQ")
_LENGTH = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """
    The payload of a REQUEST_HEAD record.

    `route`, `pattern` and `destination_url` are empty if no route matched.
    `head` is the request line and the header lines as sent to the destination,
    each with its CRLF, without the blank line.
    """

    id: bytes
    wall_ns: int
    client: bytes
    route: bytes
    pattern: bytes
    source_url: bytes
    destination_url: bytes
    head: bytes


def field(text: bytes) -> bytes:
    """`text`, truncated to 65,535 bytes, preceded by its length."""
    text = text[:0xFFFF]
    return _LENGTH.pack(len(text)) + text


def encode_request_head(head: RequestHead) -> bytes:
    return (
        _ID_AND_WALL.pack(head.id, head.wall_ns)
        + field(head.client)
        + describe(head.route, head.pattern, head.source_url, head.destination_url, head.head)
    )


def describe(route: bytes, pattern: bytes, source_url: bytes, destination_url: bytes, head: bytes) -> bytes:
    """The part of a REQUEST_HEAD payload that is the same whenever the same head takes the same route."""
    return field(route) + field(pattern) + field(source_url) + field(destination_url) + head


def identify(id: bytes, wall_ns: int, client_field: bytes) -> bytes:
    """The part of a REQUEST_HEAD payload that is new for each exchange; `client_field` is a `field`."""
    return _ID_AND_WALL.pack(id, wall_ns) + client_field


def decode_request_head(payload: bytes) -> RequestHead:
    """The inverse of `encode_request_head`.  Raises `SpoolDamage`."""
    try:
        id, wall_ns = _ID_AND_WALL.unpack_from(payload)
        at = _ID_AND_WALL.size
        texts = []
        for _ in range(5):
            (length,) = _LENGTH.unpack_from(payload, at)
            at += _LENGTH.size
            texts.append(payload[at : at + length])
            at += length
    except struct.error as error:
        raise SpoolDamage(f"a request head cut short: {error}") from None
    if at > len(payload):
        raise SpoolDamage("a request head cut short")
    client, route, pattern, source_url, destination_url = texts
    return RequestHead(id, wall_ns, client, route, pattern, source_url, destination_url, payload[at:])
