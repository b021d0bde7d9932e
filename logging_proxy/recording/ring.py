"""
The ring: where a record is safe the moment it is copied.

A memory-mapped file of fixed size.  Storing bytes in it is a copy into memory
that belongs to the kernel's page cache, so what was stored survives the death
of the process, and no system call is made: 0.4 µs for a small record, where a
write to a file costs from 1 µs up to however long a disk stalls.

One thread stores (the reactor's), one takes out (the spool's).  The file's
first page holds a magic number and the stream offsets up to which bytes were
stored and taken, and the path of the spool that the ring belongs to; byte
`offset % capacity` of the rest is where a stream offset lives.
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
"""About how many bytes lie between two marks."""

LEAST_SUMMED = 64 << 10
"""Bytes of a piece that is worth a sum of its own."""

NEVER = 1 << 63
"""A stream offset that nothing reaches."""

_STORED, _CAPACITY, _TAKEN, _MAGIC = 0, 1, 2, 3
_NUMBERS = struct.Struct("=4Q")
_SPOOL_AT, _LENGTH = 512, struct.Struct("=H")
"""Where the spool's path lies in the first page, behind its length."""

_NEXT_MARK, _WAKE_AT = 4, 5
"""For the running process alone; they lie there because the part in C looks there (`storing.c`)."""


TROUBLE = slice(256, 512)
"""The bytes of the first page that say why nothing can be written to the spool; zeros when it can."""


class Ring:
    """
    A ring over a memory-mapped file.

    `stored` is the stream offset after the last byte put in; `taken` the one
    up to which bytes need not be kept any more.
    """

    def __init__(self, mapped: memoryview, capacity: int, taken: int, stored: int, piece: int) -> None:
        """Use `create` or `take_up`."""
        self.capacity = capacity
        self.stored = stored
        self.taken = taken
        self._map = mapped
        self._header = mapped[:PAGE].cast("Q")
        self._bytes = mapped[PAGE : PAGE + capacity]
        self._piece = piece
        self._marks: deque[int] = deque()
        """Ends of stores, about `piece` bytes apart: where what `peek` gives may end."""
        self._next_mark = stored + piece
        self.wake_at = 0
        self._sums: deque[Sum] = deque()
        """Of pieces that landed; their places are stream offsets here."""
        self._landing = -1
        """The offset at which the last landing was given."""

    @classmethod
    def create(cls, fd: int, capacity: int, start: int, piece: int = PIECE, spool: bytes = b"") -> Ring:
        """
        A new ring in the empty file `fd`, whose first byte will have stream offset `start`.

        `spool` is the path of the spool that it belongs to.

        The descriptor can be closed afterwards; a lock taken on it lasts until `close`.
        Raises OSError when the file system has no room: all of it is reserved
        now, for a page that cannot be had later would be a SIGBUS.
        """
        _reserve(fd, PAGE + capacity)
        ring = cls(map_file(fd, PAGE + capacity), capacity, start, start, piece)
        for page in range(0, capacity, PAGE):
            ring._bytes[page] = 0  # every page is faulted in now, none later on the data path
        if len(spool) <= PAGE - _SPOOL_AT - _LENGTH.size:
            place = ring._map[_SPOOL_AT : _SPOOL_AT + _LENGTH.size + len(spool)]
            place[:] = _LENGTH.pack(len(spool)) + spool
        header = ring._header
        header[_STORED] = header[_TAKEN] = start
        header[_CAPACITY] = capacity
        header[_MAGIC] = MAGIC
        return ring

    @classmethod
    def take_up(cls, fd: int, kept: int, piece: int = PIECE) -> Ring | None:
        """
        The ring that a dead process left in the file `fd`, with what it holds beyond stream offset `kept`.

        None if the file holds no ring, or one that ends before `kept`: it is another stream's.
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
        """The stream offset from which on who stores must say so to the spool; at first it always must."""
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
        """Store `data`, which must fit into `room`.  Once this returns, it survives this process."""
        start = self.stored % self.capacity
        end = start + len(data)
        if end <= self.capacity:
            self._bytes[start:end] = data
            self._advance(len(data))
        else:
            self._store_around(data, self.capacity - start)

    def _store_around(self, data: bytes, fits: int) -> None:
        """A piece of its own: what goes around the end must be joined by `peek`, all other need not."""
        self._mark()
        self._bytes[self.capacity - fits :] = data[:fits]
        self._bytes[: len(data) - fits] = data[fits:]
        self._next_mark = self.stored
        self._advance(len(data))

    def _advance(self, size: int) -> None:
        stored = self.stored + size
        # One aligned store of 8 bytes: a kill between two instructions leaves the old or the new offset.
        self._header[_STORED] = stored
        self.stored = stored
        if stored >= self._header[_NEXT_MARK]:
            self._mark()

    def _mark(self) -> None:
        self._marks.append(self.stored)
        self._next_mark = self.stored + self._piece

    def landing(self, ahead: int, least: int, most: int) -> memoryview | None:
        """
        Free memory of the ring, `least` to `most` bytes, for what `land` will store; None if there is none.

        In front of it is room for `ahead` bytes.
        """
        start = self.stored % self.capacity + ahead
        size = min(self.capacity - start, self.room - ahead, most)
        if size < least:
            return None
        self._landing = self.stored
        return self._bytes[start : start + size]

    def land(self, ahead: bytes, size: int) -> None:
        """Store `ahead` and the first `size` bytes of the last `landing`, after which nothing was stored."""
        assert self._landing == self.stored
        if size >= self._piece:
            self._mark()  # a piece of its own, so that none is much larger than a landing
        start = self.stored % self.capacity
        self._bytes[start : start + len(ahead)] = ahead
        self.sum_up(self.stored + len(ahead), size)
        self._advance(len(ahead) + size)
        if not self.stored % self.capacity:
            self._mark()  # what goes on from the ring's end at its beginning would have to be joined

    def sum_up(self, offset: int, size: int) -> None:
        """
        Take the sum of a piece that is about to be stored at `offset`, while it is in the processor's cache.

        The spool's thread, which needs it later, would wait 100 µs a MiB for the memory.
        """
        if size >= LEAST_SUMMED:
            start = offset % self.capacity
            with self._bytes[start : start + size] as piece:
                self._sums.append((offset, size, crc32(piece)))

    def sums(self, size: int) -> list[Sum]:
        """Of pieces among the first `size` bytes, those that `peek` gave; in order."""
        sums, taken = self._sums, self.taken
        found: list[Sum] = []
        # By index, for the other thread adds some meanwhile.
        for number in range(len(sums)):
            offset, length, of = sums[number]
            if offset + length > taken + size:
                break
            found.append((offset - taken, length, of))
        return found

    def peek(self, most: int = 0) -> memoryview:
        """
        What was stored first and not yet taken: whole stores, up to the last mark within `most` bytes.

        Up to the first mark if that is farther.  Whole, so that what is written of it ends with
        a whole record, and the stream can go on behind it whatever becomes of the rest.
        """
        start, size = self.taken % self.capacity, self._marked(most) - self.taken
        fits = self.capacity - start
        if size <= fits:
            return self._bytes[start : start + size]
        return memoryview(b"".join((self._bytes[start:], self._bytes[: size - fits])))

    def _marked(self, most: int) -> int:
        """The stream offset up to which `peek` gives, never past the ring's end but for a single piece."""
        marks, stored = self._marks, self.stored
        while marks and marks[0] <= self.taken:
            marks.popleft()
        end = marks[0] if marks else stored
        within = min(self.taken + most, self.taken // self.capacity * self.capacity + self.capacity)
        # By index, for the other thread adds marks meanwhile, which an iterator would not bear.
        for number in range(1, len(marks)):
            if marks[number] > within:
                return end
            end = marks[number]
        return stored if stored <= within else end

    def take(self, size: int) -> None:
        """The first `size` bytes, those that `peek` gave, are kept elsewhere now."""
        taken = self.taken + size
        self._header[_TAKEN] = taken
        self.taken = taken
        sums = self._sums
        while sums and sums[0][0] < taken:
            sums.popleft()

    def tell(self, trouble: str) -> None:
        """
        Let the logging server know why the spool cannot be written, or with an empty text that it can.

        Nothing happens once the ring is closed, as another thread may do meanwhile.
        """
        size = TROUBLE.stop - TROUBLE.start
        with suppress(ValueError):
            self._map[TROUBLE] = trouble.encode("utf-8", "replace")[:size].ljust(size, b"\0")

    def close(self) -> None:
        self._header.release()
        self._bytes.release()
        self._map.release()


def what_is_left(fd: int) -> tuple[int, bytes] | None:
    """
    Bytes of the ring in the file `fd` that are kept nowhere else yet, and the path of its spool.

    That path is empty where it is not known.  None if there is no ring.
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
    """Those of the ring in a file, in the order of its header; None if it holds none."""
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
