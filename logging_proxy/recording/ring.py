"""
The ring buffer: a record is safe as soon as it has been copied into it.

The ring is a memory-mapped file of fixed size.  Storing bytes is a copy into memory that
belongs to the kernel's page cache: the bytes survive the death of the process, at no system
call, and a stalled disk delays nothing.

One thread stores (the reactor's), one takes out (the spool's).  The file's first
page holds a magic number, the stream offsets up to which bytes were stored and
taken, and the path of the spool that the ring belongs to.  Behind that page the byte with stream
offset `offset` lies at `offset % capacity`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from contextlib import suppress

from zlib_ng.zlib_ng import crc32

from logging_proxy.recording.mapping import map_file
from logging_proxy.recording.segments import Sum

PAGE = 4096
MAGIC = int.from_bytes(b"LPRING2\n", "little")

PIECE = 512 << 10
"""Approximate distance of two marks, in bytes."""

LEAST_SUMMED = 64 << 10
"""Bytes of the smallest piece whose checksum is computed on its own."""

NEVER = 1 << 63
"""A stream offset that is never reached."""

_STORED, _CAPACITY, _TAKEN, _MAGIC = 0, 1, 2, 3
_NUMBERS = struct.Struct("=4Q")
_SPOOL_AT, _LENGTH = 512, struct.Struct("=H")
"""Position of the spool's path in the first page; its length precedes it."""

_NEXT_MARK, _WAKE_AT = 4, 5
"""Used by the running process only; they are in the header because the C extension reads them there."""


TROUBLE = slice(256, 512)
"""The bytes of the first page that say why the spool cannot be written; zeros while it can."""


class Ring:
    """
    A ring buffer over a memory-mapped file.

    `stored` is the stream offset after the last stored byte; bytes before the
    offset `taken` have been written elsewhere.
    """

    def __init__(self, mapped: memoryview, capacity: int, taken: int, stored: int, piece: int) -> None:
        """Use `create` or `recover`."""
        self.capacity = capacity
        self.stored = stored
        self.taken = taken
        self._map = mapped
        self._header = mapped[:PAGE].cast("Q")
        self._bytes = mapped[PAGE : PAGE + capacity]
        self._piece = piece
        self._marks: deque[int] = deque()
        """Ends of stores, about `piece` bytes apart, at which the result of `peek` may end."""
        self._next_mark = stored + piece
        self.wake_at = 0
        self._sums: deque[Sum] = deque()
        """Checksums of pieces that were read into the ring; their positions are stream offsets."""
        self._buffer_offset = -1
        """The stream offset at which `read_buffer` last returned memory."""

    @classmethod
    def create(cls, fd: int, capacity: int, start: int, piece: int = PIECE, spool: bytes = b"") -> Ring:
        """
        Create a ring in the empty file `fd`; its first byte will have stream offset `start`.

        `spool` is the path of the spool that the ring belongs to.

        The descriptor can be closed afterwards; a lock taken on it lasts until `close`.
        Raises OSError when the file system has no room: all of it is allocated
        now, since a page that cannot be allocated later would be a SIGBUS.
        """
        _reserve(fd, PAGE + capacity)
        ring = cls(map_file(fd, PAGE + capacity), capacity, start, start, piece)
        for page in range(0, capacity, PAGE):
            ring._bytes[page] = 0  # fault in every page now, and none later on the data path
        if len(spool) <= PAGE - _SPOOL_AT - _LENGTH.size:
            place = ring._map[_SPOOL_AT : _SPOOL_AT + _LENGTH.size + len(spool)]
            place[:] = _LENGTH.pack(len(spool)) + spool
        header = ring._header
        header[_STORED] = header[_TAKEN] = start
        header[_CAPACITY] = capacity
        header[_MAGIC] = MAGIC
        return ring

    @classmethod
    def recover(cls, fd: int, kept: int, piece: int = PIECE) -> Ring | None:
        """
        The ring that a dead process left in the file `fd`, with its content after stream offset `kept`.

        None if the file holds no ring, or one that ends before `kept`, which belongs to another stream.
        """
        numbers = _numbers(fd)
        if numbers is None:
            return None
        stored, capacity, taken, _ = numbers
        taken = max(taken, kept)
        if not taken <= stored <= taken + capacity:
            return None
        mapped = map_file(fd, PAGE + capacity)
        return cls(mapped, capacity, taken, stored, piece)

    @property
    def wake_at(self) -> int:
        """The stream offset from which on every store must notify the spool; initially every store must."""
        return self._header[_WAKE_AT]

    @wake_at.setter
    def wake_at(self, offset: int) -> None:
        self._header[_WAKE_AT] = offset

    @property
    def _next_mark(self) -> int:
        return self._header[_NEXT_MARK]

    @_next_mark.setter
    def _next_mark(self, offset: int) -> None:
        self._header[_NEXT_MARK] = offset

    @property
    def room(self) -> int:
        """How many bytes can be stored now."""
        return self.capacity - (self.stored - self.taken)

    def store(self, data: bytes) -> None:
        """Store `data`, which must fit into `room`.  When this returns, the data survives this process."""
        start = self.stored % self.capacity
        end = start + len(data)
        if end <= self.capacity:
            self._bytes[start:end] = data
            self._advance(len(data))
        else:
            self._store_around(data, self.capacity - start)

    def _store_around(self, data: bytes, fits: int) -> None:
        """Store across the ring's end, between two marks, so that `peek` copies this part only."""
        self._mark()
        self._bytes[self.capacity - fits :] = data[:fits]
        self._bytes[: len(data) - fits] = data[fits:]
        self._next_mark = self.stored
        self._advance(len(data))

    def _advance(self, size: int) -> None:
        stored = self.stored + size
        # One aligned store of 8 bytes: if the process is killed, the offset is either the old or the new one.
        self._header[_STORED] = stored
        self.stored = stored
        if stored >= self._header[_NEXT_MARK]:
            self._mark()

    def _mark(self) -> None:
        self._marks.append(self.stored)
        self._next_mark = self.stored + self._piece

    def read_buffer(self, ahead: int, least: int, most: int) -> memoryview | None:
        """
        Free memory to read into before `store_read`, `least` to `most` bytes; None if there is none.

        The `ahead` bytes before it are free as well.
        """
        start = self.stored % self.capacity + ahead
        size = min(self.capacity - start, self.room - ahead, most)
        if size < least:
            return None
        self._buffer_offset = self.stored
        return self._bytes[start : start + size]

    def store_read(self, ahead: bytes, size: int) -> None:
        """Store `ahead`, then `size` bytes of the last `read_buffer`, with no other store in between."""
        assert self._buffer_offset == self.stored
        if size >= self._piece:
            self._mark()  # separate this piece, so that none is much larger than one read
        start = self.stored % self.capacity
        self._bytes[start : start + len(ahead)] = ahead
        self.sum_up(self.stored + len(ahead), size)
        self._advance(len(ahead) + size)
        if not self.stored % self.capacity:
            self._mark()  # a piece that continued at the ring's beginning would have to be copied

    def sum_up(self, offset: int, size: int) -> None:
        """
        Compute the checksum of a piece that is about to be stored at `offset`, while it is in the cache.

        The spool's thread, which needs it later, would have to fetch the memory again.
        """
        if size >= LEAST_SUMMED:
            start = offset % self.capacity
            with self._bytes[start : start + size] as piece:
                self._sums.append((offset, size, crc32(piece)))

    def sums(self, size: int) -> list[Sum]:
        """The checksums of the pieces within the first `size` bytes that `peek` returned, in order."""
        sums, taken = self._sums, self.taken
        found: list[Sum] = []
        # By index, since the other thread appends meanwhile.
        for number in range(len(sums)):
            offset, length, of = sums[number]
            if offset + length > taken + size:
                break
            found.append((offset - taken, length, of))
        return found

    def peek(self, most: int = 0) -> memoryview:
        """
        The oldest bytes not yet taken: whole stores, up to the last mark within `most` bytes.

        If the first mark is farther away, up to the first mark.  Only whole stores, so that the spool
        ends with a whole record, and the stream can continue there even if the rest is lost.
        """
        start, size = self.taken % self.capacity, self._marked(most) - self.taken
        fits = self.capacity - start
        if size <= fits:
            return self._bytes[start : start + size]
        return memoryview(b"".join((self._bytes[start:], self._bytes[: size - fits])))

    def _marked(self, most: int) -> int:
        """The stream offset at which `peek` ends: not beyond the ring's end, except for a single piece."""
        marks, stored = self._marks, self.stored
        while marks and marks[0] <= self.taken:
            marks.popleft()
        end = marks[0] if marks else stored
        within = min(self.taken + most, self.taken // self.capacity * self.capacity + self.capacity)
        # By index: the other thread appends meanwhile, which would invalidate an iterator.
        for number in range(1, len(marks)):
            if marks[number] > within:
                return end
            end = marks[number]
        return stored if stored <= within else end

    def take(self, size: int) -> None:
        """Release the first `size` bytes that `peek` returned; they are stored elsewhere now."""
        taken = self.taken + size
        self._header[_TAKEN] = taken
        self.taken = taken
        sums = self._sums
        while sums and sums[0][0] < taken:
            sums.popleft()

    def tell(self, trouble: str) -> None:
        """
        Publish to the logging server why the spool cannot be written; an empty text says that it can.

        Does nothing if the ring is closed, which another thread may do at any time.
        """
        size = TROUBLE.stop - TROUBLE.start
        with suppress(ValueError):
            self._map[TROUBLE] = trouble.encode("utf-8", "replace")[:size].ljust(size, b"\0")

    def close(self) -> None:
        self._header.release()
        self._bytes.release()
        self._map.release()


def unsaved_content(fd: int) -> tuple[int, bytes] | None:
    """
    How many bytes of the ring in the file `fd` exist nowhere else, and the path of its spool.

    The path is empty if it is not known.  None if the file holds no ring.
    """
    numbers = _numbers(fd)
    if numbers is None:
        return None
    stored, _, taken, _ = numbers
    page = os.pread(fd, PAGE, 0)
    (length,) = _LENGTH.unpack_from(page, _SPOOL_AT)
    at = _SPOOL_AT + _LENGTH.size
    return max(0, stored - taken), page[at : at + length]


def _numbers(fd: int) -> tuple[int, ...] | None:
    """The numbers of the header of the ring in a file, in their order; None if it holds no ring."""
    size = os.fstat(fd).st_size
    if size <= PAGE:
        return None
    numbers = _NUMBERS.unpack(os.pread(fd, _NUMBERS.size, 0))
    return numbers if numbers[_MAGIC] == MAGIC and numbers[_CAPACITY] == size - PAGE else None


def _reserve(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    nothing, at = bytes(1 << 20), 0  # macOS
    while at < size:
        written = os.pwrite(fd, nothing[: size - at], at)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        at += written
