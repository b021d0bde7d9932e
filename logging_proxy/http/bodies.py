"""
Bodies: where one ends, and which of its bytes are content (RFC 9112 §6, §7).

A reader is fed what a connection receives and returns it as pieces: their content is recorded, and the
same content with its framing can be passed on.  Readers do no I/O and hold at most one chunk line or
trailer section.
"""

from __future__ import annotations

import re
import sys
from typing import Protocol

from logging_proxy.http import grammar
from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.trailers import end_to_end

LONGEST_CHUNK_LINE = 4096
"""Size and extensions of one chunk: nginx has no limit of its own, Go 4096 as here."""

LONGEST_TRAILERS = 16384
"""Bytes of a trailer section, its blank line included."""

CHUNKED_END = b"0\r\n\r\n"

_LONGER = "a chunk longer than its size"


class Piece:
    """
    A piece of a message's body, perhaps an empty one.

    `content` is without transfer coding (RFC 9110 §6.4), `framed` the same with the sender's framing
    (RFC 9112 §6): the bytes to pass on.  In both ways the bytes may be a view that is valid only during
    the call.  `last` says that the body ends here.  Then there may be `trailers`, the trailer section's
    lines as they came; `onward_trailers` are those of them that are in `framed`, see `http.trailers`.
    """

    __slots__ = ("content", "framed", "last", "onward_trailers", "trailers")

    def __init__(
        self,
        content: bytes,
        framed: bytes,
        last: bool,
        trailers: bytes = b"",
        onward_trailers: bytes = b"",
    ) -> None:
        self.content = content
        self.framed = framed
        self.last = last
        self.trailers = trailers
        self.onward_trailers = onward_trailers


NOTHING_YET = Piece(b"", b"", False)
"""The piece of a message of which only the head has been received."""

BARE_END = Piece(b"", b"", True)
"""The end of a body that has no bytes of its own: where there is no body, or the connection's end ends it."""


class BodyReader(Protocol):
    """
    Splits a connection's bytes into one body and what follows it.

    `ahead` is the least number of bytes to come that are content alone, if any bytes come.  `done` is True
    as soon as the body's end has been read.  `fault` says what is wrong with the framing, once something
    is; the reader must not be fed after that.
    """

    done: bool
    fault: str

    @property
    def ahead(self) -> int: ...

    @property
    def held(self) -> bytes:
        """Bytes that were received and are in no piece, since more have to come first."""

    def feed(self, data: bytes) -> tuple[Piece, bytes]:
        """
        A piece of the body, and the bytes after the body's end.

        With a `fault`, the piece ends before it, and the rest is all input that is in no piece: it begins
        with the faulty line (or chunk's end), or with the last chunk's line if the fault is in the
        trailers.  Together the pieces and the rest are the same however the
        input was cut.
        """

    def finish(self) -> bool:
        """The connection has ended: whether that was the body's proper end."""


class NoBody:
    """Nothing follows the head."""

    done = True
    fault = ""
    ahead = 0
    held = b""

    def feed(self, data: bytes) -> tuple[Piece, bytes]:
        return BARE_END, data

    def finish(self) -> bool:
        return True


NO_BODY = NoBody()


class LengthReader:
    """A body of a known length, greater than zero."""

    __slots__ = ("ahead", "done")
    fault = ""
    held = b""

    def __init__(self, length: int) -> None:
        self.ahead = length
        self.done = False

    def feed(self, data: bytes) -> tuple[Piece, bytes]:
        left = self.ahead - len(data)
        if left > 0:
            self.ahead = left
            return Piece(data, data, False), b""
        self.ahead = 0
        self.done = True
        if left == 0:
            return Piece(data, data, True), b""
        return Piece(data[:left], data[:left], True), data[left:]

    def finish(self) -> bool:
        return self.done


class CloseReader:
    """A response's body that ends when the connection does."""

    __slots__ = ()
    done = False
    fault = ""
    ahead = sys.maxsize
    held = b""

    def feed(self, data: bytes) -> tuple[Piece, bytes]:
        return Piece(data, data, False), b""

    def finish(self) -> bool:
        return True


class ChunkedReader:
    """
    A chunked body (RFC 9112 §7.1).

    The framing is the sender's own, chunk boundaries included, without chunk extensions and blanks, and
    without the trailers that are not end-to-end.  A size line, a chunk's closing CRLF and the trailer
    section are in a piece only when they are whole and valid.

    A `lenient` reader also takes blanks around a chunk's size, any extension
    without control characters, and blanks before a trailer field's colon.
    """

    __slots__ = (
        "_grammar",
        "_held",
        "_last",
        "_left",
        "_options",
        "_section",
        "_section_size",
        "done",
        "fault",
    )
    ahead = 0

    def __init__(self, lenient: bool = False, options: frozenset[bytes] = frozenset()) -> None:
        """`options` are the message's connection options, which name fields that are not end-to-end."""
        self._options = options
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

    def feed(self, data: bytes) -> tuple[Piece, bytes]:
        content: list[bytes] = []
        at = 0
        if not (self._held or self._left or self._last):
            # Whole chunks in one read, as servers send events, are read in a quarter of the time.
            at = _read_whole_chunks(data, 0, content)
            if at == len(data):
                return Piece(b"".join(content), data, False), b""
        return self._feed_slowly(data, at, content)

    def _feed_slowly(self, data: bytes, at: int, content: list[bytes]) -> tuple[Piece, bytes]:
        """Read `data` from `at` on, where it may begin or end within a line or a chunk."""
        if self._held:
            data = self._held + data
            self._held = b""
        framed = [data[:at]]
        while at < len(data) and not (self.done or self._held or self.fault):
            if self._left > 2:
                at = self._read_chunk(data, at, content, framed)
            elif self._left:
                at = self._read_chunk_end(data, at, framed)
            elif self._last:
                at = self._read_trailer(data, at)
            else:
                at = self._read_size(data, at, content, framed)
        rest = data[at:]
        if self.fault:
            rest = b"".join(self._section) + rest
        return self._piece(b"".join(content), b"".join(framed)), rest

    def _piece(self, content: bytes, framed: bytes) -> Piece:
        """A piece of the body; its last one has the trailer section at its end."""
        if not self.done:
            return Piece(content, framed, False)
        trailers = b"".join(self._section[1:])
        onward = end_to_end(trailers, self._options) if trailers else b""
        return Piece(content, framed + b"0\r\n" + onward + b"\r\n", True, trailers, onward)

    def _read_size(self, data: bytes, at: int, content: list[bytes], framed: list[bytes]) -> int:
        end = _read_whole_chunks(data, at, content)
        if end > at:
            framed.append(data[at:end])
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
            framed.append(match[1] + b"\r\n")
            self._left = size + 2
        else:
            self._last = True
            self._section.append(data[at:end])
        return end

    def _read_chunk(self, data: bytes, at: int, content: list[bytes], framed: list[bytes]) -> int:
        piece = data[at : at + self._left - 2]
        content.append(piece)
        framed.append(piece)
        self._left -= len(piece)
        return at + len(piece)

    def _read_chunk_end(self, data: bytes, at: int, framed: list[bytes]) -> int:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            self.fault = _LONGER
            return at
        if len(end) == 1:
            self._held = end
        else:
            framed.append(end)
            self._left = 0
        return at + len(end)

    def _read_trailer(self, data: bytes, at: int) -> int:
        """One line of the trailer section: lines that are complete are not looked at again."""
        room = LONGEST_TRAILERS - self._section_size
        end = data.find(b"\n", at, at + room) + 1
        if not end:
            return self._await_line(data, at, room, self._grammar.open_field_line, "trailer field")
        line = data[at:end]
        if line == b"\r\n":
            self.done = True
        elif self._grammar.field_line.fullmatch(line):
            self._section.append(line)
            self._section_size += len(line)
        else:
            self.fault = "a malformed trailer field"
            return at
        return end

    def _await_line(self, data: bytes, at: int, room: int, begun: re.Pattern[bytes], name: str) -> int:
        """Keep a line that has no end yet, as long as it can still become one that is allowed."""
        if not begun.fullmatch(data, at, at + room):
            self.fault = f"a malformed {name}"
        elif len(data) - at >= room:
            self.fault = "a trailer section too long" if self._last else f"a {name} too long"
        else:
            self._held = data[at:]
            return len(data)
        return at

    @property
    def held(self) -> bytes:
        return b"".join(self._section) + self._held

    def finish(self) -> bool:
        return self.done


def _read_whole_chunks(data: bytes, at: int, content: list[bytes]) -> int:
    """
    Read the chunks from `at` on that are complete and without extensions, but not the last chunk.

    Returns where they end.
    """
    size_line = grammar.plain_chunk_line.match
    while at < len(data):
        match = size_line(data, at)
        if match is None:
            return at
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or data[end : end + 2] != b"\r\n":
            return at
        content.append(data[start:end])
        at = end + 2
    return at


def faulty_line(body: BodyReader, kept: bytes) -> bytes:
    """The line that is at fault in `body`; `kept` begins with the rest that `feed` has returned last."""
    if body.fault == _LONGER:
        return b""  # the line would be content
    start = len(body.held)
    end = kept.find(b"\n", start) + 1
    return kept[start:end] if end else kept[start:]


def lacking(body: BodyReader) -> str:
    """What a body that has not come to its end is known to lack, for an error's text."""
    if isinstance(body, LengthReader):
        return f"with {body.ahead} B still to come"
    return "without the last chunk" if isinstance(body, ChunkedReader) else ""


def chunk(content: bytes) -> bytes:
    """`content`, which must not be empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def request_body(head: RequestHead) -> BodyReader:
    """The reader for a request's body (RFC 9112 §6.3)."""
    if head.content_length:
        return LengthReader(head.content_length)
    return ChunkedReader(options=head.connection_options) if head.chunked else NO_BODY


def response_body(head: ResponseHead, method: bytes) -> BodyReader:
    """The reader for the body of the final response to a `method` request (RFC 9112 §6.3)."""
    if method == b"HEAD" or head.status in (204, 304):
        return NO_BODY
    if head.chunked:
        return ChunkedReader(lenient=True, options=head.connection_options)
    if head.content_length is None:
        return CloseReader()
    return LengthReader(head.content_length) if head.content_length else NO_BODY
