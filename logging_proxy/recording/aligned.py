"""
Large bodies past the page cache (``O_DIRECT``), out of the spool and into their files.

Nobody reads them again soon: the index looks at no more than the first 16 MiB.
Through the page cache a MiB costs its copy and 256 pages each way, 250 µs of the
processor or 1,200 where a virtual machine has to ask its host for them, and
drives out what others keep there; this way it costs 100.
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
"""What stands before this in a file is read again when it is whole, and by then still in the page cache."""

MOST = 1 << 20
"""Bytes of one write."""

_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectReader:
    """Reads whole pages into memory of its own, which the next read uses again."""

    def __init__(self, most: int) -> None:
        """`most` bytes can be read at a time."""
        self._most = most
        self._memory: memoryview | None = None
        self._works = _DIRECT != 0

    def read(self, fd: int, size: int, at: int) -> memoryview | None:
        """Up to `size` bytes from `at`, good until the next read; None when that is for `pread`."""
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
    """Writes what can go in whole pages, unless the file system or a slow disk is better off without."""

    def __init__(self, pwrite: Callable[[int, bytes | memoryview, int], int]) -> None:
        self._pwrite = pwrite
        self._trial = Trial()
        self._memory: memoryview | None = None

    def write(self, fd: int, data: bytes | memoryview, at: int) -> int:
        """How many bytes, from the beginning of `data`, now stand in the file at `at`; maybe none."""
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
    if hasattr(mmap, "MADV_HUGEPAGE"):  # the fewer pages, the less work to find and hold them
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


@contextlib.contextmanager
def _directly(fd: int) -> Iterator[None]:
    """Reads and writes of `fd` go past the page cache.  Raises OSError where they cannot."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | _DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
