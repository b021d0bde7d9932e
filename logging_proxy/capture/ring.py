"""
The ring: where a record is safe the moment it is copied.

A memory-mapped file of fixed size.  Storing bytes in it is a copy into memory
that belongs to the kernel's page cache, so what was stored survives the death
of the process, and no system call is made: 0.4 µs for a small record, where a
write to a file costs from 1 µs up to however long a disk stalls.

One thread stores (the reactor's), one takes out (the spool's).  The file's
first page holds a magic number and the stream offset up to which bytes were
stored; byte `offset % capacity` of the rest is where a stream offset lives.
"""

from __future__ import annotations

import mmap
import os

PAGE = 4096
MAGIC = int.from_bytes(b"LPRING1\n", "little")

_STORED, _CAPACITY, _FIRST, _MAGIC = 0, 1, 2, 3


class Ring:
    """
    A ring over the file descriptor `fd`, which it owns.

    `stored` is the stream offset after the last byte put in; `taken` the one
    up to which bytes need not be kept any more.
    """

    def __init__(self, fd: int, capacity: int, start: int) -> None:
        """
        A new ring whose first byte has stream offset `start`.

        Raises OSError when the file system has no room: all of it is reserved
        now, for a page that cannot be had later would be a SIGBUS.
        """
        os.posix_fallocate(fd, 0, PAGE + capacity)
        self._map(fd, capacity)
        self._header[_STORED] = start
        self._header[_CAPACITY] = capacity
        self._header[_FIRST] = start
        self._header[_MAGIC] = MAGIC
        self.stored = self.taken = start

    def _map(self, fd: int, capacity: int) -> None:
        self._map_ = mmap.mmap(fd, PAGE + capacity)
        os.close(fd)
        self._header = memoryview(self._map_)[:PAGE].cast("Q")
        self._bytes = memoryview(self._map_)[PAGE:]
        self.capacity = capacity
        for page in range(0, capacity, PAGE):
            self._bytes[page] = 0  # every page is faulted in now, none later on the data path

    @property
    def room(self) -> int:
        """How many bytes can be stored now."""
        return self.capacity - (self.stored - self.taken)

    def store(self, data: bytes) -> None:
        """Store `data`, which must fit into `room`.  Once this returns, it survives this process."""
        start = self.stored % self.capacity
        end = start + len(data)
        if end <= self.capacity:
            self._bytes[start:end] = data
        else:
            fits = self.capacity - start
            self._bytes[start:] = data[:fits]
            self._bytes[: len(data) - fits] = data[fits:]
        self.stored += len(data)
        # One aligned store of 8 bytes: a kill between two instructions leaves the old or the new offset.
        self._header[_STORED] = self.stored

    def peek(self, most: int) -> memoryview:
        """What was stored first and not yet taken: at most `most` bytes that lie together."""
        start = self.taken % self.capacity
        size = min(self.stored - self.taken, self.capacity - start, most)
        return self._bytes[start : start + size]

    def take(self, size: int) -> None:
        """The first `size` bytes are kept elsewhere now."""
        self.taken += size

    def close(self) -> None:
        self._header.release()
        self._bytes.release()
        self._map_.close()


def left_behind(data: bytes, kept: int) -> bytes:
    """
    What `data`, the content of a dead process's ring file, holds beyond stream offset `kept`.

    Empty if it is no ring, or was overwritten beyond `kept` (then `kept` is of another stream).
    """
    if len(data) <= PAGE:
        return b""
    header = memoryview(data)[:PAGE].cast("Q")
    stored, capacity, first = header[_STORED], header[_CAPACITY], header[_FIRST]
    body = data[PAGE : PAGE + capacity]
    if (
        header[_MAGIC] != MAGIC
        or len(body) != capacity
        or not max(first, stored - capacity) <= kept <= stored
    ):
        return b""
    start, size = kept % capacity, stored - kept
    return (body[start:] + body[:start])[:size]
