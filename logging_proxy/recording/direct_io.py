"""
Large blocks on their way to the disk past the page cache (``O_DIRECT``).

A MiB that goes through the page cache costs 250 µs of the processor where its
memory was in use just before, and in a virtual machine that has to ask its host for
the pages 1,200 µs; directly it costs 80 µs, whatever was in use.  The way back, for
the logging server, is the same: a block lies in the file as any other, but for
the bytes around its payload that bring it to whole pages.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TypeGuard

from logging_proxy.recording.ring import PAGE
from logging_proxy.recording.segments import BLOCK, Sum, block_header

LEAST = 256 << 10
"""Bytes of a payload that is worth it."""

SLOW = 64 << 20
"""Bytes a second.  Behind a disk that takes no more than that only the page cache keeps up with a client."""

PATIENCE = 10.0
"""Seconds after which a disk that was slow is tried again."""

_DIRECT = getattr(os, "O_DIRECT", 0)
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | _DIRECT

WINDOW = 8 << 20
"""Bytes after which a disk is judged."""

_HEADER, _FIRST, _LAST = 0, PAGE, 2 * PAGE
"""Where in the memory beside the payload its header, and those ends of it that fill no page, are put."""


class Trial:
    """Whether the direct way is worth it: not for `PATIENCE` seconds after the disk refused or was slow."""

    def __init__(self) -> None:
        self._not_before = float("-inf") if _DIRECT else float("inf")
        self._passed, self._took = 0, 0.0

    @property
    def is_due(self) -> bool:
        return monotonic() >= self._not_before

    def failed(self) -> None:
        self._not_before = monotonic() + PATIENCE
        self._passed, self._took = 0, 0.0

    def passed(self, size: int, took: float) -> None:
        """So many bytes went, in so many seconds."""
        self._passed += size
        self._took += took
        if self._passed >= WINDOW:
            self.judge()

    def judge(self) -> None:
        """Now, and by what has passed since the last time."""
        if self._passed < SLOW * self._took:
            self.failed()
        self._passed, self._took = 0, 0.0


class Bypass:
    """
    Writes whole blocks past the page cache, one segment's after the other's.

    Where a file system cannot do that, or the disk is slow, nothing is written.
    """

    def __init__(
        self,
        open: Callable[[Path, int, int], int],
        write: Callable[[int, list[bytes | memoryview], int], int],
        salt: int = 0,
    ) -> None:
        """`salt` is that of the segments' other blocks."""
        self._open = open
        self._write = write
        self._salt = salt
        self._path: Path | None = None
        self._fd = -1
        self._trial = Trial()
        self._beside = memoryview(mmap.mmap(-1, 3 * PAGE))

    def begin(self, path: Path) -> None:
        """
        From now on blocks are for the segment at `path`.

        It is opened at once, so that a spool has as many descriptors before its first large block as after.
        """
        self.end()
        self._path = path
        self._trial.judge()
        if self._trial.is_due:
            try:
                self._open_segment()
            except OSError:
                self._trial.failed()

    def end(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def takes(self, payload: bytes | memoryview) -> TypeGuard[memoryview]:
        """Whether to try: a payload in memory that does not move, and large enough."""
        return (
            len(payload) >= LEAST
            and isinstance(payload, memoryview)
            and not payload.readonly
            and self._trial.is_due
        )

    def write(self, start: int, payload: memoryview, at: int, sums: Sequence[Sum] = ()) -> int:
        """
        The block with `payload`, from `at` in the segment on, a multiple of `PAGE`; its size there.

        0 if it has to be written another way; what is behind `at` is undefined then.
        """
        began = monotonic()
        offset = _offset_in_page(payload)
        before, after = PAGE - BLOCK.size + offset, -(offset + len(payload)) % PAGE
        header = block_header(start, payload, before, after, sums, self._salt)
        size = len(header) + before + len(payload) + after
        try:
            self._open_segment()
            written = self._write(self._fd, self._pages(header, payload, offset), at)
        except OSError:
            written = 0
        if written != size:
            self._trial.failed()
            return 0
        self._trial.passed(size, monotonic() - began)
        return size

    def _open_segment(self) -> None:
        if self._fd < 0:
            assert self._path is not None
            self._fd = self._open(self._path, _FLAGS, 0o600)

    def _pages(self, header: bytes, payload: memoryview, offset: int) -> list[bytes | memoryview]:
        """
        Whole pages with the header, and behind it the payload where it lies.

        Its first and last page are copied: somebody may be writing to the other bytes
        of theirs, and a file system that keeps checksums would take that for damage.
        """
        beside, length = self._beside, len(payload)
        first, last = -offset % PAGE, (offset + length) % PAGE
        beside[_HEADER : len(header)] = header
        beside[_FIRST + offset : _FIRST + offset + first] = payload[:first]
        beside[_LAST : _LAST + last] = payload[length - last :]
        pages: list[bytes | memoryview] = [
            beside[: _LAST if first else _FIRST],
            payload[first : length - last],
        ]
        if last:
            pages.append(beside[_LAST:])
        return pages


def _offset_in_page(payload: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(payload)) % PAGE
