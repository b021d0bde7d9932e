"""
Bodies: where one ends, and what of it is payload (RFC 9112 §6, §7).

A reader is fed what a connection receives and tells two things apart: the
payload (what is recorded) and the wire bytes (what can be passed on in the same
framing, byte for byte).  Readers do no I/O and hold at most one chunk line or
trailer section.
"""

from __future__ import annotations

import re
from typing import Protocol

from logging_proxy.http import grammar
from logging_proxy.http.heads import RequestHead, ResponseHead

LONGEST_CHUNK_LINE = 4096
"""Size and extensions of one chunk: nginx has no limit of its own, Go 4096 as here."""

LONGEST_TRAILERS = 16384

CHUNKED_END = b"0\r\n\r\n"

_NO_TRAILERS = b"\r\n"


class BodyFault(ValueError):
    """The body is not framed as it has to be.  The caller knows whose fault it is."""


class BodyReader(Protocol):
    """
    Splits a connection's bytes into one body and what follows it.

    `done` is True as soon as the body's end has been read; `trailers` are then
    the raw trailer lines, empty for most bodies.
    """

    done: bool
    trailers: bytes

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """
        Payload, wire bytes, and the bytes after the body's end.

        Raises `BodyFault`; the reader must not be used after that.
        """

    def finish(self) -> bool:
        """The connection has ended: whether that was the body's proper end."""


class NoBody:
    """Nothing follows the head."""

    done = True
    trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        return b"", b"", data

    def finish(self) -> bool:
        return True


NO_BODY = NoBody()


class LengthReader:
    """A body of a known length, greater than zero."""

    __slots__ = ("done", "left")
    trailers = b""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        left = self.left - len(data)
        if left > 0:
            self.left = left
            return data, data, b""
        self.left = 0
        self.done = True
        if left == 0:
            return data, data, b""
        return data[:left], data[:left], data[left:]

    def finish(self) -> bool:
        return self.done


class CloseReader:
    """A response's body that ends when the connection does."""

    __slots__ = ()
    done = False
    trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        return data, data, b""

    def finish(self) -> bool:
        return True


class ChunkedReader:
    """
    A chunked body (RFC 9112 §7.1).

    The wire bytes are the sender's own, chunk boundaries included, less chunk
    extensions.  A size line, a chunk's closing CRLF and the trailer section
    are passed on only when they are whole and valid.
    """

    __slots__ = ("_held", "_left", "_last", "done", "trailers")

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        """Bytes of the current chunk still to come, its CRLF included; 0 before a size line."""
        self._last = False
        self.done = False
        self.trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        if not self._held and not self._left and not self._last:
            match = grammar.chunk_line.match(data)
            # One whole chunk in one read, as servers send events: 1 µs instead of 4.
            if match is not None and not match[2]:
                start = match.end()
                end = start + int(match[1], 16)
                if end + 2 == len(data) and end > start and data.endswith(b"\r\n"):
                    return data[start:end], data, b""
        return self._feed_slowly(data)

    def _feed_slowly(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        if self._held:
            data = self._held + data
            self._held = b""
        payload: list[bytes] = []
        wire: list[bytes] = []
        at = 0
        while at < len(data):
            if self._last:
                at = self._read_trailers(data, at, wire)
            elif self._left:
                at = self._read_chunk(data, at, payload, wire)
            else:
                at = self._read_size(data, at, wire)
            if self.done:
                return b"".join(payload), b"".join(wire), data[at:]
            if self._held:
                break
        return b"".join(payload), b"".join(wire), b""

    def _read_size(self, data: bytes, at: int, wire: list[bytes]) -> int:
        match = grammar.chunk_line.match(data, at)
        if match is None:
            self._hold(data, at, LONGEST_CHUNK_LINE, "chunk line")
            return len(data)
        if match.end() - at > LONGEST_CHUNK_LINE:
            raise BodyFault("a chunk line too long")
        size = int(match[1], 16)
        if size:
            wire.append(match[1] + b"\r\n")
            self._left = size + 2
        else:
            self._last = True
        return match.end()

    def _read_chunk(self, data: bytes, at: int, payload: list[bytes], wire: list[bytes]) -> int:
        here = min(len(data) - at, self._left)
        inside = min(here, self._left - 2)
        if inside > 0:
            payload.append(data[at : at + inside])
            wire.append(payload[-1])
            at += inside
            self._left -= inside
        if self._left <= 2 and at < len(data):
            return self._read_chunk_end(data, at, wire)
        return at

    def _read_chunk_end(self, data: bytes, at: int, wire: list[bytes]) -> int:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            raise BodyFault("a chunk longer than its size")
        if len(end) == 1:
            self._held = end
            return len(data)
        wire.append(end)
        self._left = 0
        return at + 2

    def _read_trailers(self, data: bytes, at: int, wire: list[bytes]) -> int:
        match = grammar.trailer_section.match(data, at)
        if match is None:
            self._hold(data, at, LONGEST_TRAILERS, "trailer section")
            return len(data)
        if match.end() - at > LONGEST_TRAILERS:
            raise BodyFault("a trailer section too long")
        self.trailers = match[0][:-2]
        self.done = True
        wire.append(b"0\r\n" + match[0])
        return match.end()

    def _hold(self, data: bytes, at: int, longest: int, what: str) -> None:
        """Keep the incomplete rest; refuse it as soon as no continuation can mend it."""
        rest = data[at:]
        if len(rest) > longest:
            raise BodyFault(f"a {what} too long")
        if not _may_become(rest, what):
            raise BodyFault(f"a malformed {what}")
        self._held = rest

    def finish(self) -> bool:
        return self.done


def _may_become(rest: bytes, what: str) -> bool:
    """Whether more bytes could turn `rest` into a valid chunk line or trailer section."""
    if what == "trailer section":
        end = rest.rfind(b"\r\n") + 2 if b"\r\n" in rest else 0
        whole, open_line = rest[:end], rest[end:]
        return bool(_FIELD_LINES.fullmatch(whole)) and bool(_OPEN_FIELD.fullmatch(open_line))
    return bool(_OPEN_CHUNK_LINE.fullmatch(rest))


_FIELD_LINES = re.compile(grammar.FIELD_LINES)
_OPEN_FIELD = re.compile(rb"(?:" + grammar.TOKEN + rb"(?::" + grammar.FIELD_VALUE + rb")?)?\r?")
_OPEN_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,15}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?")


def chunk(payload: bytes) -> bytes:
    """`payload`, which must not be empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def request_body(head: RequestHead) -> BodyReader:
    """The reader for a request's body (RFC 9112 §6.3)."""
    if head.content_length:
        return LengthReader(head.content_length)
    return ChunkedReader() if head.chunked else NO_BODY


def response_body(head: ResponseHead, method: bytes) -> BodyReader:
    """The reader for the body of the final response to a `method` request (RFC 9112 §6.3)."""
    if method == b"HEAD" or head.status in (204, 304):
        return NO_BODY
    if head.chunked:
        return ChunkedReader()
    if head.content_length is None:
        return CloseReader()
    return LengthReader(head.content_length) if head.content_length else NO_BODY
