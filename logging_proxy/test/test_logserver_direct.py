"""Large bodies past the page cache: the same bytes, in whole pages, or the usual way."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.system import System
from logging_proxy.recording import aligned, direct_io
from logging_proxy.recording.aligned import DirectReader, DirectWriter
from logging_proxy.recording.direct_io import PATIENCE, SLOW, WINDOW
from logging_proxy.recording.ring import PAGE

LEAST = 2 * PAGE


class Pages(System):
    """Takes nothing but whole pages from the right place when a descriptor is to go past the page cache."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.direct = self.usual = 0
        self.took = 0.0
        self.refuses = False
        self.short = 0
        self.pwrite = self._pwrite

    def _pwrite(self, fd: int, data: Any, at: int) -> int:
        if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            self.usual += len(data)
            return os.pwrite(fd, data, at)
        if self.refuses:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        assert address % PAGE == len(data) % PAGE == at % PAGE == 0
        self.clock.advance(self.took)
        written = os.pwrite(fd, data[: len(data) - self.short], at)
        self.direct += written
        return written


class DirectCase(SynchronousTestCase):
    def setUp(self) -> None:
        if not hasattr(os, "O_DIRECT"):
            raise self.skipTest("there is no such way here")
        self.patch(aligned, "LEAST", LEAST)
        self.patch(aligned, "BEYOND", 0)
        self.clock = Clock()
        self.patch(direct_io, "monotonic", self.clock.seconds)
        self.patch(aligned, "monotonic", self.clock.seconds)
        self.system = Pages(self.clock)
        path = self.mktemp()
        os.mkdir(path, 0o700)
        self.directory = LogDirectory(path, self.system)
        self.path = os.path.join(path, "body")
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.fd)
        try:
            with aligned._directly(self.fd):
                pass
        except OSError:
            raise self.skipTest("this file system has no such way") from None

    @property
    def content(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()


class WritingTests(DirectCase):
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(1, 6 * PAGE), min_size=1, max_size=6))
    def test_any_sizes(self, sizes: list[int]) -> None:
        """Whatever follows whatever, the file has the bytes, and most of the large ones went directly."""
        os.ftruncate(self.fd, 0)
        written, before = b"", self.system.direct
        for size in sizes:
            data = os.urandom(size)
            self.directory.write(self.fd, data, len(written))
            written += data
        self.assertEqual(self.content, written)
        least = sum(size // PAGE * PAGE - PAGE for size in sizes if size >= LEAST)
        self.assertGreaterEqual(self.system.direct - before, least)

    def test_beginning(self) -> None:
        """What the index will read goes the usual way."""
        self.patch(aligned, "BEYOND", 4 * PAGE)
        for number in range(6):
            self.directory.write(self.fd, bytes(LEAST), number * LEAST)
        self.assertEqual((self.system.usual, self.system.direct), (2 * LEAST, 4 * LEAST))

    def test_larger_than_the_memory(self) -> None:
        """The rest of what is too much at a time goes the usual way."""
        data = os.urandom(aligned.MOST + LEAST)
        self.directory.write(self.fd, data, 7)
        self.assertEqual(self.content[7:], data)
        self.assertEqual(self.system.direct, aligned.MOST)

    def test_refused(self) -> None:
        """Where it cannot be done, or only in part, it is left alone for a while."""
        for refuses, short in ((True, 0), (False, PAGE)):
            data = os.urandom(4 * PAGE)
            self.system.refuses, self.system.short = refuses, short
            self.directory.write(self.fd, data, 5)
            self.system.refuses, self.system.short = False, 0
            before = self.system.direct
            self.directory.write(self.fd, data, 5 + len(data))
            self.assertEqual(self.system.direct, before)
            self.assertEqual(self.content[5:], data * 2)
            self.clock.advance(PATIENCE)
            self.directory.write(self.fd, data, 5)
            self.assertGreater(self.system.direct, before)

    def test_slow(self) -> None:
        """A slow disk is left to the page cache for a while."""
        self.system.took = 2 * aligned.MOST / SLOW
        data = bytes(aligned.MOST)
        for _ in range(2 * WINDOW // aligned.MOST):
            self.directory.write(self.fd, data, 0)
        self.assertEqual(self.system.direct, WINDOW)
        self.clock.advance(PATIENCE)
        self.directory.write(self.fd, data, 0)
        self.assertGreater(self.system.direct, WINDOW)

    def test_as_it_was(self) -> None:
        """A descriptor is what it was before, also after a failure."""
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        for refuses in (False, True):
            self.system.refuses = refuses
            DirectWriter(self.system.pwrite).write(self.fd, bytes(LEAST), 0)
            self.assertEqual(fcntl.fcntl(self.fd, fcntl.F_GETFL), flags)


class ReadingTests(DirectCase):
    def setUp(self) -> None:
        super().setUp()
        self.data = os.urandom(5 * PAGE + 17)
        os.write(self.fd, self.data)

    def test_anywhere(self) -> None:
        """The bytes from any place, as far as there are some."""
        reader = DirectReader(3 * PAGE)
        for at in (0, 1, PAGE - 1, PAGE, 4 * PAGE + 3, 5 * PAGE + 16, len(self.data), len(self.data) + PAGE):
            for size in (0, 1, PAGE, 3 * PAGE):
                found = reader.read(self.fd, size, at)
                assert found is not None
                self.assertEqual(bytes(found), self.data[at : at + size], (at, size))

    def test_too_much(self) -> None:
        """More than it has memory for is for others to read."""
        self.assertIsNone(DirectReader(PAGE).read(self.fd, PAGE + 1, 0))

    def test_not_here(self) -> None:
        """Where there is no such way, it says so, and does not ask again."""
        asked = []

        def refuse(*args: Any) -> int:
            asked.append(args)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        self.patch(os, "preadv", refuse)
        reader = DirectReader(PAGE)
        self.assertIsNone(reader.read(self.fd, 1, 0))
        self.assertIsNone(reader.read(self.fd, 1, 0))
        self.assertEqual(len(asked), 1)
