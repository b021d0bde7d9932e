"""
The state of one half of an exchange while its file is written.

Plain data: `gather` buffers the bytes of a half, `publishing` writes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logging_proxy.captures import metadata
from logging_proxy.captures.exchanges import Exchange, Side


class HalfFile:
    """A half and its `.bin`, which has no name until the first write."""

    __slots__ = (
        "base",
        "body",
        "digest",
        "exchange",
        "fd",
        "lost",
        "prefix",
        "read_back",
        "side",
        "stored",
        "waiting",
        "waiting_size",
        "whole",
        "written",
    )

    def __init__(self, exchange: Exchange, side: Side, prefix: bytes) -> None:
        self.exchange = exchange
        self.side = side
        self.prefix = prefix
        """The bytes in the file before the body."""
        self.base = ""
        self.fd: int | None = None
        self.waiting: list[bytes | memoryview] = []
        self.waiting_size = 0
        self.written = 0
        """Bytes of the file, prefix included, written by this process or one before it."""
        self.digest: Any = None
        """The hash state of the body; in a `whole` file, the digest in hexadecimal."""
        self.read_back = False
        """Whether the digest is computed from the file at the end, as the file was begun before a restart."""
        self.stored = False
        self.lost = False
        """Whether the file was removed or cut while it was being written."""
        self.whole = False
        """Whether the file was written and closed with one call."""
        self.body: bytes | None = None
        """The whole body, if it is small and was written at once."""

    @property
    def stamp(self) -> str:
        return metadata.file_stamp(metadata.half_started(self.exchange, self.side))

    def gathered(self) -> bytes | memoryview:
        """The buffered bytes, joined."""
        waiting = self.waiting
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    @property
    def content(self) -> bytes | memoryview:
        """The bytes to write next: the buffered ones, after the prefix if the file is new."""
        return self.gathered() if self.written else self.prefix + self.gathered()


class Finished(NamedTuple):
    """An exchange that has ended and is not published yet."""

    exchange: Exchange
    request: HalfFile
    response: HalfFile
