"""
Direct I/O (``O_DIRECT``) for large bodies: read from the spool and written to their capture files.

Such bodies are not read again soon (the index looks at their first 16 MiB only).  Going
around the page cache saves a copy and the allocation of its pages in each direction,
which is expensive in virtual machines, and leaves other data in the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from time import monotonic

from logging_proxy.recording.direct_io import LEAST, Trial
from logging_proxy.recording.ring import PAGE

BEYOND = 16 << 20
"""File offset from which writes are direct; the index reads earlier bytes back from the page cache."""

MOST = 1 << 20
"""Bytes of one write, and the size of the bounce buffer."""

_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectReader:
    """Reads whole pages into a bounce buffer, which the next read overwrites."""

    def __init__(self, most: int) -> None:
        """`most` is the largest read, in bytes."""
        self._most = most
        self._memory: memoryview | None = None
        self._works = _DIRECT != 0

    def read(self, fd: int, size: int, at: int) -> memoryview | None:
        """Up to `size` bytes from `at`, valid until the next read; None if the caller has to use `pread`."""
        if not self._works or size > self._most:
            return None
        before = at % PAGE
        if self._memory is None:
            self._memory = _pages(PAGE + self._most)
        try:
            with _directly(fd):
                found = os.preadv(fd, [self._memory], at - before)
                return self._memory[before : max(before, min(before + size, found))]
        except OSError:
            self._works = False
            return None


class DirectWriter:
    """Writes whole pages directly, unless the file system cannot, or the disk is too slow without a cache."""

    def __init__(self, pwrite: Callable[[int, bytes | memoryview, int], int]) -> None:
        self._pwrite = pwrite
        self._trial = Trial()
        self._memory: memoryview | None = None

    def write(self, fd: int, data: bytes | memoryview, at: int) -> int:
        """How many leading bytes of `data` were written to the file at `at`; possibly 0."""
        if at < BEYOND or len(data) < LEAST or not self._trial.is_due:
            return 0
        view = memoryview(data)
        first = -at % PAGE
        if first and self._pwrite(fd, view[:first], at) != first:
            return 0
        size = min((len(data) - first) // PAGE * PAGE, MOST)
        return first + self._write_pages(fd, view[first : first + size], at + first)

    def _write_pages(self, fd: int, pages: memoryview, at: int) -> int:
        if self._memory is None:
            self._memory = _pages(MOST)
        memory = self._memory[: len(pages)]
        memory[:] = pages
        began = monotonic()
        try:
            with _directly(fd):
                written = self._pwrite(fd, memory, at)
        except OSError:
            written = 0
        if written < len(pages):
            self._trial.failed()
        else:
            self._trial.passed(written, monotonic() - began)
        return written


def _pages(size: int) -> memoryview:
    memory = mmap.mmap(-1, -(-size // PAGE) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # fewer pages for the kernel to look up and pin
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


@contextlib.contextmanager
def _directly(fd: int) -> Iterator[None]:
    """Reads and writes of `fd` bypass the page cache.  Raises OSError where that is not supported."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | _DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
