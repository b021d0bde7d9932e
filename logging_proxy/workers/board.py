"""
The board: a few numbers in memory that all workers share, so that each knows how much the others have.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import IO

ABSENT = -1
"""In place of the number of connections of a worker that takes none."""

_BYTES = 16
"""For each worker two numbers of eight bytes, which the processor writes and reads as a whole."""


class Board:
    """
    For each worker, by number from 1: how many connections it has, and how often it has looked for new ones.

    A worker writes its own numbers, and reads the others'.
    """

    def __init__(self, fd: int) -> None:
        """The board in the file `fd`, of which a copy is made."""
        size = os.fstat(fd).st_size
        self.workers = size // _BYTES
        self._map = mmap.mmap(fd, size)
        self._numbers = memoryview(self._map).cast("q")

    def come(self, worker: int) -> None:
        """A worker takes connections from now on: others leave some to it."""
        if self._numbers[2 * worker - 2] == ABSENT:
            self._numbers[2 * worker - 2] = 0

    def go(self, worker: int) -> None:
        """A worker does not take any more."""
        self._numbers[2 * worker - 2] = ABSENT

    def set_connections(self, worker: int, count: int) -> None:
        """Say how many connections a worker has."""
        self._numbers[2 * worker - 2] = count

    def connections(self) -> dict[int, int]:
        """How many each worker has, of those that take any."""
        counts = enumerate(self._numbers[::2].tolist(), 1)
        return {worker: count for worker, count in counts if count != ABSENT}

    def looked(self, worker: int) -> None:
        """A worker has looked whether it may accept."""
        self._numbers[2 * worker - 1] += 1

    def looks(self, worker: int) -> int:
        """How often a worker has looked: one that is stuck does not."""
        return self._numbers[2 * worker - 1]


def new_board_file(workers: int) -> IO[bytes]:
    """A file for a board, with all workers absent, that vanishes with the last who has it open."""
    if sys.platform == "linux":
        # In memory: a page that is on its way to a disk may hold up who writes to it.
        file = os.fdopen(os.memfd_create("workers"), "w+b")
    else:
        file = tempfile.TemporaryFile()
    file.write((ABSENT.to_bytes(8, sys.byteorder, signed=True) + bytes(8)) * workers)
    file.flush()
    return file
