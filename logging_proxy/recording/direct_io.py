"""
Direct I/O (``O_DIRECT``) for large blocks on their way from the ring to the spool.

It saves the copy into the page cache and the allocation of its pages, which is
expensive in virtual machines.  A block written this way has the ordinary format,
except that padding around its payload brings it to whole pages.
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
"""Bytes of the smallest payload that is worth a direct write."""

SLOW = 64 << 20
"""Bytes a second.  Below this rate only the page cache can keep up with a client."""

PATIENCE = 10.0
"""Seconds before direct I/O is tried again on a disk that was slow or refused it."""

_DIRECT = getattr(os, "O_DIRECT", 0)
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | _DIRECT

WINDOW = 8 << 20
"""Bytes written between two judgements of the disk's speed."""

_HEADER, _FIRST, _LAST = 0, PAGE, 2 * PAGE
"""Offsets in the bounce buffer: block header, unaligned first page, unaligned last page."""


class Trial:
    """Whether direct I/O is worth it: not for `PATIENCE` seconds after the disk refused it or was slow."""

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
        """`size` bytes were written in `took` seconds."""
        self._passed += size
        self._took += took
        if self._passed >= WINDOW:
            self.judge()

    def judge(self) -> None:
        """Judge the disk by the writes since the last judgement."""
        if self._passed < SLOW * self._took:
            self.failed()
        self._passed, self._took = 0, 0.0


class DirectBlockWriter:
    """
    Writes whole blocks to the current segment, around the page cache.

    It writes nothing where the file system does not support that, or the disk is slow.
    """

    def __init__(
        self,
        open: Callable[[Path, int, int], int],
        write: Callable[[int, list[bytes | memoryview], int], int],
        salt: int = 0,
    ) -> None:
        """`salt` is the salt of the segments' ordinary blocks."""
        self._open = open
        self._write = write
        self._salt = salt
        self._path: Path | None = None
        self._fd = -1
        self._trial = Trial()
        self._bounce_buffer = memoryview(mmap.mmap(-1, 3 * PAGE))

    def begin(self, path: Path) -> None:
        """
        Write blocks to the segment at `path` from now on.

        The file is opened at once, so that a spool's number of descriptors does not depend on its traffic.
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
        """Whether `write` is worth trying: the payload is large, and lies in writable, fixed memory."""
        return (
            len(payload) >= LEAST
            and isinstance(payload, memoryview)
            and not payload.readonly
            and self._trial.is_due
        )

    def write(self, start: int, payload: memoryview, at: int, sums: Sequence[Sum] = ()) -> int:
        """
        Write the block of `payload` at offset `at` of the segment, a multiple of `PAGE`; its size there.

        0 if the block has to be written another way; the file's content after `at` is then undefined.
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
        Whole pages: the block header, then the payload in place.

        The payload's first and last page are copied to the bounce buffer: the reactor may be storing to the
        rest of these pages, and a file system that keeps checksums would take the change for damage.
        """
        buffer, length = self._bounce_buffer, len(payload)
        first, last = -offset % PAGE, (offset + length) % PAGE
        buffer[_HEADER : len(header)] = header
        buffer[_FIRST + offset : _FIRST + offset + first] = payload[:first]
        buffer[_LAST : _LAST + last] = payload[length - last :]
        pages: list[bytes | memoryview] = [
            buffer[: _LAST if first else _FIRST],
            payload[first : length - last],
        ]
        if last:
            pages.append(buffer[_LAST:])
        return pages


def _offset_in_page(payload: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(payload)) % PAGE
