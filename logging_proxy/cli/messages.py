"""
A request or response read from its `.bin`: the head, and the body, which is read when it is asked for.

Nothing is formatted here, and no captured content raises an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from logging_proxy.captures.heads import Head, parse_head
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.decoding import codings_of

LONGEST_HEAD = 16 << 20
"""Bytes in which the end of a head is looked for."""

OpenBytes = Callable[[], Iterator[bytes]]
"""Opens stored bytes anew, from their beginning."""


class Message:
    """A message; its body is read from the source at each call, and never held."""

    def __init__(self, head: Head, open_body: OpenBytes) -> None:
        self.head = head
        self._open_body = open_body

    def header(self, name: str) -> str:
        """The values of a header, joined as in RFC 9110 §5.2."""
        return ", ".join(value for each, value in self.head.headers if each.lower() == name)

    @property
    def content_type(self) -> str:
        return self.header("content-type")

    @property
    def codings(self) -> list[str]:
        return codings_of(self.header("content-encoding"))

    @property
    def has_body(self) -> bool:
        return any(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as sent."""
        return self._open_body()

    def body(self) -> Body:
        """The body decoded, to be read once."""
        return Body(self.pieces(), self.content_type, self.header("content-encoding"))


def open_message(open_half: OpenBytes) -> Message:
    """The message in a `.bin`."""
    head, _, _ = head_first(open_half())
    return Message(parse_head(head), lambda: head_first(open_half())[2])


def head_first(pieces: Iterator[bytes]) -> tuple[bytes, bytes, Iterator[bytes]]:
    """The head, the blank line after it, and the remaining pieces; a head without an end is all of it."""
    start = bytearray()
    for piece in pieces:
        at = max(0, len(start) - 3)
        start += piece
        if start.find(b"\r\n\r\n", at) >= 0 or len(start) > LONGEST_HEAD:
            break
    head, blank, body = bytes(start).partition(b"\r\n\r\n")
    del start
    return head, blank, itertools.chain([body] if body else [], pieces)


def up_to(offset: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a `.bin`: its head, and `offset` bytes of its body."""
    head, blank, body = head_first(iter(pieces))
    yield head + blank
    for piece in body:
        if offset <= 0:
            return
        yield piece[:offset]
        offset -= len(piece)


def start_of(pieces: Iterable[bytes], limit: int) -> bytes:
    """The first `limit` bytes."""
    start = bytearray()
    for piece in pieces:
        start += piece
        if len(start) >= limit:
            break
    return bytes(start[:limit])
