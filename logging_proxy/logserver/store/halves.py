"""
The halves of exchanges on their way to their files, and once they are there.

Plain data: `store` gathers what belongs to a half, `publishing` brings it to the disk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logging_proxy.captures import metadata
from logging_proxy.captures.exchanges import Exchange, Side


class HalfFile:
    """A half on its way to its `.bin`.  Without a name until it is written to the first time."""

    __slots__ = (
        "base",
        "body",
        "digest",
        "exchange",
        "fd",
        "gone",
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
        """What stands in the file before the body."""
        self.base = ""
        self.fd: int | None = None
        self.waiting: list[bytes | memoryview] = []
        self.waiting_size = 0
        self.written = 0
        """Bytes of the file, prefix included, that were written by this life or an earlier one."""
        self.digest: Any = None
        """Of the body, in hexadecimal when it is `whole`."""
        self.read_back = False
        """The digest is computed from the file when the half ends: it was begun in an earlier life."""
        self.stored = False
        self.gone = False
        self.whole = False
        """Whether the file was written in one go, and closed again."""
        self.body: bytes | None = None
        """All of the body, if it was written at once and is small."""

    @property
    def stamp(self) -> str:
        return metadata.file_stamp(metadata.half_started(self.exchange, self.side))

    def gathered(self) -> bytes | memoryview:
        """What waits, in one piece."""
        waiting = self.waiting
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    @property
    def content(self) -> bytes | memoryview:
        """What waits, and before it what the file begins with."""
        return self.gathered() if self.written else self.prefix + self.gathered()


class Finished(NamedTuple):
    """An exchange that has ended, and is not published yet."""

    exchange: Exchange
    request: HalfFile
    response: HalfFile
