"""
Counters in memory shared by all workers, so that each worker knows how many connections the others have.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import IO

ABSENT = -1
"""The connection count of a worker that accepts no connections."""

_BYTES = 16
"""Two numbers of eight bytes for each worker; the processor reads and writes each atomically."""


class Board:
    """
    For each worker, numbered from 1: its number of connections, and how often it has looked for new ones.

    A worker writes its own counters and reads those of the others.
    """

    def __init__(self, fd: int) -> None:
        """Map the board in the file `fd`.  The mapping remains valid after the caller closes `fd`."""
        size = os.fstat(fd).st_size
        self.workers = size // _BYTES
        self._map = mmap.mmap(fd, size)
        self._numbers = memoryview(self._map).cast("q")

    def join(self, worker: int) -> None:
        """Mark a worker as accepting: the others leave connections to it from now on."""
        if self._numbers[2 * worker - 2] == ABSENT:
            self._numbers[2 * worker - 2] = 0

    def leave(self, worker: int) -> None:
        """Mark a worker as no longer accepting."""
        self._numbers[2 * worker - 2] = ABSENT

    def set_connections(self, worker: int, count: int) -> None:
        """Set a worker's number of connections."""
        self._numbers[2 * worker - 2] = count

    def connections(self) -> dict[int, int]:
        """The number of connections of every worker that accepts connections."""
        counts = enumerate(self._numbers[::2].tolist(), 1)
        return {worker: count for worker, count in counts if count != ABSENT}

    def looked(self, worker: int) -> None:
        """Count that a worker has checked whether it may accept."""
        self._numbers[2 * worker - 1] += 1

    def looks(self, worker: int) -> int:
        """How often a worker has checked.  The count of a stuck worker does not change."""
        return self._numbers[2 * worker - 1]


def new_board_file(workers: int) -> IO[bytes]:
    """An unnamed file for a board on which all workers are absent; it is freed with its last descriptor."""
    if sys.platform == "linux":
        # In memory: a write to a page that is being written back to a disk may block.
        file = os.fdopen(os.memfd_create("workers"), "w+b")
    else:
        file = tempfile.TemporaryFile()
    file.write((ABSENT.to_bytes(8, sys.byteorder, signed=True) + bytes(8)) * workers)
    file.flush()
    return file
