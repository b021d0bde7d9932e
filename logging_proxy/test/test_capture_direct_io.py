"""Blocks past the page cache lie in the file as any other; what cannot go that way goes the usual one."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording import direct_io
from logging_proxy.recording.direct_io import PATIENCE, SLOW, DirectBlockWriter
from logging_proxy.recording.disk import Disk, SegmentFiles, last_offset
from logging_proxy.recording.ring import PAGE
from logging_proxy.recording.segments import BLOCK, read_block
from logging_proxy.recording.tail import SpoolTail
from logging_proxy.test.capture_stage import FULL, LIMIT, blocks, let_go, segments, stream

MEMORY = 16 * PAGE


def address(part: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(part))


class DirectDisk:
    """A disk that takes nothing but whole pages on the direct way; what it does then can be set."""

    def __init__(self, clock: Clock) -> None:
        self.direct: set[int] = set()
        self.opened: list[str] = []
        self.writes = 0
        self.refuses: int | None = None
        self.short = 0
        self.took = 0.0
        self.full = False
        self._clock = clock

    def open(self, path: Path, flags: int, mode: int) -> int:
        fd = os.open(path, flags & ~os.O_DIRECT, mode)
        if flags & os.O_DIRECT:
            self.direct.add(fd)
            self.opened.append(path.name)
        else:
            self.direct.discard(fd)
        return fd

    def write(self, fd: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fd not in self.direct:
            return os.pwritev(fd, parts, at)
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        for part in parts:
            assert isinstance(part, memoryview)
            assert address(part) % PAGE == len(part) % PAGE == at % PAGE == 0
        self.writes += 1
        self._clock.advance(self.took)
        written = os.pwritev(fd, parts, at)
        return written - self.short

    @property
    def disk(self) -> Disk:
        return Disk(self.open, self.write)


class DirectCase(SynchronousTestCase):
    def setUp(self) -> None:
        if not hasattr(os, "O_DIRECT"):
            raise self.skipTest("there is no such way here")
        self.patch(direct_io, "LEAST", 2 * PAGE)
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)
        self.clock = Clock()
        self.patch(direct_io, "monotonic", self.clock.seconds)
        self.disk = DirectDisk(self.clock)
        self.memory = memoryview(mmap.mmap(-1, MEMORY))
        self.memory[:] = os.urandom(MEMORY)

    def files(self, limit: int = LIMIT) -> SegmentFiles:
        files = SegmentFiles(self.directory, last_offset(self.directory), limit, disk=self.disk.disk)
        self.addCleanup(let_go, files)
        return files


class LayoutTests(DirectCase):
    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 2 * PAGE), st.integers(2 * PAGE, 10 * PAGE), st.integers(0, 1 << 40))
    def test_whole_pages(self, offset: int, length: int, start: int) -> None:
        """Wherever a payload lies and ends, whole pages are written, and a reader finds it."""
        path = self.directory / "one.seg"
        path.write_bytes(b"")
        way = DirectBlockWriter(self.disk.open, self.disk.write)
        way.begin(path)
        payload = self.memory[offset : offset + length]
        self.assertTrue(way.takes(payload))
        size = way.write(start, payload, 3 * PAGE)
        way.end()
        data = path.read_bytes()
        self.assertEqual((size % PAGE, len(data)), (0, 3 * PAGE + size))
        block = read_block(memoryview(data), 3 * PAGE, start)
        assert block is not None
        self.assertEqual(bytes(block.payload), bytes(payload))
        self.assertEqual(block.end_in_file, len(data))

    def test_what_it_takes(self) -> None:
        """Neither what is small nor what may move."""
        way = DirectBlockWriter(self.disk.open, self.disk.write)
        self.assertFalse(way.takes(self.memory[: 2 * PAGE - 1]))
        self.assertFalse(way.takes(bytes(MEMORY)))
        self.assertFalse(way.takes(memoryview(bytes(MEMORY))))

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.one_of(st.integers(1, 200), st.integers(2 * PAGE, 4 * PAGE)), max_size=12))
    def test_among_others(self, sizes: list[int]) -> None:
        """Blocks of both kinds follow each other in any order, for every reader, and a next life goes on."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)
        files, written = self.files(limit=16 * 6 * PAGE), b""
        for number, size in enumerate(sizes):
            payload = self.memory[number * 100 : number * 100 + size]
            files.append(payload)
            written += payload
            self.assertEqual(files.end, len(written))
        self.assertEqual(stream(self.directory), written)
        self.assertEqual(last_offset(self.directory), len(written))
        tail, found = SpoolTail(str(self.directory)), b""
        while (piece := tail.read()) is not None:
            found += piece.data
        tail.close()
        self.assertEqual(found, written)
        large = sum(size >= 2 * PAGE for size in sizes)
        self.assertEqual(sum(len(data) >= 2 * PAGE for _, data in blocks(self.directory)), large)

    def test_on_this_disk(self) -> None:
        """The same with what the file system here makes of it."""
        files = SegmentFiles(self.directory, 0, LIMIT)
        self.addCleanup(let_go, files)
        for payload in (self.memory[:50], self.memory[50:-1], self.memory[:10], self.memory[7:]):
            files.append(payload)
        self.assertEqual(
            stream(self.directory),
            bytes(self.memory[:-1]) + bytes(self.memory[:10]) + bytes(self.memory[7:]),
        )


class RefusalTests(DirectCase):
    def test_not_here(self) -> None:
        """Where it cannot be done, or only in part, blocks go the usual way for a while."""
        for refuses, short in ((errno.EINVAL, 0), (None, PAGE)):
            self.disk.refuses, self.disk.short = refuses, short
            files, before = self.files(), self.disk.writes
            start = files.end
            files.append(self.memory)
            self.disk.refuses, self.disk.short = None, 0
            files.append(self.memory)
            self.assertEqual(self.disk.writes - before, 1 if short else 0)
            self.clock.advance(PATIENCE)
            files.append(self.memory)
            self.assertEqual(self.disk.writes - before, 2 if short else 1)
            self.assertEqual(stream(self.directory)[start:], bytes(self.memory) * 3)

    def test_slow(self) -> None:
        """A disk that is slower than clients are left to the page cache from the next segment on."""
        self.disk.took = 2 * MEMORY / SLOW
        files = self.files(limit=8 * 3 * MEMORY)
        for _ in range(8):
            files.append(self.memory)
        self.assertEqual((self.disk.writes, len(segments(self.directory))), (3, 3))
        self.clock.advance(PATIENCE)
        self.disk.took = 0.0
        files.append(self.memory)
        self.assertEqual(self.disk.writes, 4)
        self.assertEqual(stream(self.directory), bytes(self.memory) * 9)

    def test_full(self) -> None:
        """A full disk refuses the block whole, as ever; later it is where it belongs."""
        files = self.files()
        files.append(b"first")
        self.disk.full = True
        self.assertEqual(self.assertRaises(OSError, files.append, self.memory).errno, FULL)
        self.disk.full = False
        files.append(self.memory)
        self.assertEqual(stream(self.directory), b"first" + bytes(self.memory))

    def test_descriptors(self) -> None:
        """Each segment has its own, closed with it."""
        files = self.files(limit=8 * MEMORY)
        for _ in range(3):
            files.append(self.memory)
        self.assertEqual(len(set(self.disk.opened)), 3)
        files.close()
        for fd in self.disk.direct:
            self.assertRaises(OSError, os.fstat, fd)


class HeaderTests(DirectCase):
    def test_room(self) -> None:
        """What stands around a payload fits into the header's 16 bits."""
        self.assertLess(2 * PAGE + BLOCK.size, 1 << 16)
