"""
Bodies: where one ends, and what of it is payload (RFC 9112 §6, §7).

A reader is fed what a connection receives and tells two things apart: the
payload (what is recorded) and the wire bytes (what can be passed on in the same
framing, byte for byte).  Readers do no I/O and hold at most one chunk line or
trailer section.
"""

from __future__ import annotations

import re
import sys
from typing import Protocol

from logging_proxy.http import grammar
from logging_proxy.http.heads import RequestHead, ResponseHead

LONGEST_CHUNK_LINE = 4096
"""Size and extensions of one chunk: nginx has no limit of its own, Go 4096 as here."""

LONGEST_TRAILERS = 16384
"""Bytes of a trailer section, its blank line included."""

CHUNKED_END = b"0\r\n\r\n"

_LONGER = "a chunk longer than its size"


class BodyReader(Protocol):
    """
    Splits a connection's bytes into one body and what follows it.

    `ahead` bytes at least will come that are nothing but payload, if any come.
    `done` is True as soon as the body's end has been read; `trailers` are then
    the raw trailer lines, empty for most bodies.  `fault` says what is wrong with
    the framing, once something is; the reader must not be fed after that.
    """

    done: bool
    trailers: bytes
    fault: str

    @property
    def ahead(self) -> int: ...

    @property
    def held(self) -> bytes:
        """What has come and is in no wire bytes, since more of it has to come first."""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """
        Payload, wire bytes, and the bytes after the body's end.

        With a `fault`, the first two are what is good before it, and the third is everything that
        came and is in no wire bytes: it begins with the line (or chunk's end) that is at fault, or
        with the last chunk's line if the fault is in the trailers.  All of it is the same however
        the body was cut into pieces.
        """

    def finish(self) -> bool:
        """The connection has ended: whether that was the body's proper end."""


class NoBody:
    """Nothing follows the head."""

    done = True
    trailers = b""
    fault = ""
    ahead = 0
    held = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        return b"", b"", data

    def finish(self) -> bool:
        return True


NO_BODY = NoBody()


class LengthReader:
    """A body of a known length, greater than zero."""

    __slots__ = ("ahead", "done")
    trailers = b""
    fault = ""
    held = b""

    def __init__(self, length: int) -> None:
        self.ahead = length
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        left = self.ahead - len(data)
        if left > 0:
            self.ahead = left
            return data, data, b""
        self.ahead = 0
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
    fault = ""
    ahead = sys.maxsize
    held = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        return data, data, b""

    def finish(self) -> bool:
        return True


class ChunkedReader:
    """
    A chunked body (RFC 9112 §7.1).

    The wire bytes are the sender's own, chunk boundaries included, less chunk
    extensions and blanks.  A size line, a chunk's closing CRLF and the trailer
    section are passed on only when they are whole and valid.

    A `lenient` reader also takes blanks around a chunk's size, any extension
    without control characters, and blanks before a trailer field's colon.
    """

    __slots__ = (
        "_grammar",
        "_held",
        "_last",
        "_left",
        "_section",
        "_section_size",
        "done",
        "fault",
        "trailers",
    )
    ahead = 0

    def __init__(self, lenient: bool = False) -> None:
        self._grammar = grammar.LENIENT_CHUNKS if lenient else grammar.STRICT_CHUNKS
        self._held = b""
        """The beginning of a line that is not complete yet."""
        self._left = 0
        """Bytes of the current chunk still to come, its CRLF included; 0 before a size line."""
        self._last = False
        self._section: list[bytes] = []
        """The line of the last chunk as it came, then the trailer lines."""
        self._section_size = 0
        self.done = False
        self.fault = ""
        self.trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        payload: list[bytes] = []
        at = 0
        if not (self._held or self._left or self._last):
            # Whole chunks in one read, as servers send events: 1 µs instead of 4.
            at = _read_whole_chunks(data, 0, payload)
            if at == len(data):
                return b"".join(payload), data, b""
        return self._feed_slowly(data, at, payload)

    def _feed_slowly(self, data: bytes, at: int, payload: list[bytes]) -> tuple[bytes, bytes, bytes]:
        """What begins or ends in the middle of something."""
        if self._held:
            data = self._held + data
            self._held = b""
        wire = [data[:at]]
        while at < len(data) and not (self.done or self._held or self.fault):
            if self._left > 2:
                at = self._read_chunk(data, at, payload, wire)
            elif self._left:
                at = self._read_chunk_end(data, at, wire)
            elif self._last:
                at = self._read_trailer(data, at, wire)
            else:
                at = self._read_size(data, at, payload, wire)
        rest = data[at:]
        if self.fault:
            rest = b"".join(self._section) + rest
        return b"".join(payload), b"".join(wire), rest

    def _read_size(self, data: bytes, at: int, payload: list[bytes], wire: list[bytes]) -> int:
        end = _read_whole_chunks(data, at, payload)
        if end > at:
            wire.append(data[at:end])
            return end
        end = data.find(b"\n", at, at + LONGEST_CHUNK_LINE) + 1
        if not end:
            return self._await_line(data, at, LONGEST_CHUNK_LINE, self._grammar.open_size_line, "chunk line")
        match = self._grammar.size_line.fullmatch(data, at, end)
        if match is None:
            self.fault = "a malformed chunk line"
            return at
        size = int(match[1], 16)
        if size:
            wire.append(match[1] + b"\r\n")
            self._left = size + 2
        else:
            self._last = True
            self._section.append(data[at:end])
        return end

    def _read_chunk(self, data: bytes, at: int, payload: list[bytes], wire: list[bytes]) -> int:
        piece = data[at : at + self._left - 2]
        payload.append(piece)
        wire.append(piece)
        self._left -= len(piece)
        return at + len(piece)

    def _read_chunk_end(self, data: bytes, at: int, wire: list[bytes]) -> int:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            self.fault = _LONGER
            return at
        if len(end) == 1:
            self._held = end
        else:
            wire.append(end)
            self._left = 0
        return at + len(end)

    def _read_trailer(self, data: bytes, at: int, wire: list[bytes]) -> int:
        """One line of the trailer section: lines that are complete are not looked at again."""
        room = LONGEST_TRAILERS - self._section_size
        end = data.find(b"\n", at, at + room) + 1
        if not end:
            return self._await_line(data, at, room, self._grammar.open_field_line, "trailer field")
        line = data[at:end]
        if line == b"\r\n":
            self.trailers = b"".join(self._section[1:])
            self.done = True
            wire.append(b"0\r\n" + self.trailers + line)
        elif self._grammar.field_line.fullmatch(line):
            self._section.append(line)
            self._section_size += len(line)
        else:
            self.fault = "a malformed trailer field"
            return at
        return end

    def _await_line(self, data: bytes, at: int, room: int, begun: re.Pattern[bytes], what: str) -> int:
        """Keep a line that has no end yet, as long as it can still become one that is allowed."""
        if not begun.fullmatch(data, at, at + room):
            self.fault = f"a malformed {what}"
        elif len(data) - at >= room:
            self.fault = "a trailer section too long" if self._last else f"a {what} too long"
        else:
            self._held = data[at:]
            return len(data)
        return at

    @property
    def held(self) -> bytes:
        return b"".join(self._section) + self._held

    def finish(self) -> bool:
        return self.done


def _read_whole_chunks(data: bytes, at: int, payload: list[bytes]) -> int:
    """Take chunks that are here from size line to CRLF, without extensions; the end of the last of them."""
    size_line = grammar.plain_chunk_line.match
    while at < len(data):
        match = size_line(data, at)
        if match is None:
            return at
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or data[end : end + 2] != b"\r\n":
            return at
        payload.append(data[start:end])
        at = end + 2
    return at


def faulty_line(body: BodyReader, kept: bytes) -> bytes:
    """The line that `body`'s fault is about; `kept` begins as what `feed` returned last."""
    if body.fault == _LONGER:
        return b""  # the line would be payload
    start = len(body.held)
    end = kept.find(b"\n", start) + 1
    return kept[start:end] if end else kept[start:]


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
        return ChunkedReader(lenient=True)
    if head.content_length is None:
        return CloseReader()
    return LengthReader(head.content_length) if head.content_length else NO_BODY
