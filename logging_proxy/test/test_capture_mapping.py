"""Mapped files: what is written is in the file, and nothing is unmapped while somebody may look at it."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.recording import mapping
from logging_proxy.recording.mapping import HUGE, map_file

SIZE = 2 * HUGE + 4096


class MapCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.addCleanup(self.file.close)
        self.file.truncate(SIZE)

    def map(self, size: int = SIZE) -> memoryview:
        return map_file(self.file.fileno(), size)

    def mapped(self) -> bool:
        """Whether this process has the file mapped."""
        gc.collect()
        if sys.platform != "linux":
            raise SkipTest("only Linux tells what is mapped")
        return self.file.name in Path("/proc/self/maps").read_text()


class MapTests(MapCase):
    def test_shared(self) -> None:
        """The view is the file: each sees at once what is written to the other."""
        for size in (4096, HUGE - 1, HUGE, SIZE):
            view = self.map(size)
            self.assertEqual((len(view), view.format, view.readonly), (size, "B", False))
            view[size - 3 :] = b"end"
            self.assertEqual(os.pread(self.file.fileno(), 3, size - 3), b"end")
            os.pwrite(self.file.fileno(), b"begin", 0)
            self.assertEqual(bytes(view[:5]), b"begin")

    def test_lasts(self) -> None:
        """It stays mapped as long as there is a view of any part of it, and no longer."""
        view = self.map()
        part = view[HUGE : HUGE + 5]
        view.release()
        self.assertTrue(self.mapped())
        part[:] = b"still"
        self.assertEqual(os.pread(self.file.fileno(), 5, HUGE), b"still")
        del view, part
        self.assertFalse(self.mapped())

    def test_lock(self) -> None:
        """A lock on the descriptor stays while the file is mapped, though the descriptor is closed."""
        fd = os.open(self.file.name, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        view = map_file(fd, SIZE)
        os.close(fd)
        self.assertRaises(BlockingIOError, fcntl.flock, self.file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        del view
        gc.collect()
        fcntl.flock(self.file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_in_step(self) -> None:
        """On Linux a large file lies where it can have huge pages."""
        if sys.platform != "linux":
            raise SkipTest("Linux has them")
        view = self.map()
        self.assertTrue(self.mapped())
        (line,) = (
            line for line in Path("/proc/self/maps").read_text().splitlines() if self.file.name in line
        )
        self.assertEqual(int(line.split("-")[0], 16) % HUGE, 0)
        view.release()


class RefusedTests(MapCase):
    """A C library that refuses: the file is mapped the ordinary way."""

    def refuse(self, calls: int) -> list[str]:
        """Let the `calls`th call of mmap and all later ones fail; the names of all calls."""
        real, called = mapping._libc(), []

        class Refusing:
            def mmap(self, *arguments: Any) -> int | None:
                called.append("mmap")
                return real.mmap(*arguments) if called.count("mmap") < calls else mapping._FAILED

            def munmap(self, *arguments: Any) -> int:
                called.append("munmap")
                return int(real.munmap(*arguments))

            def madvise(self, *arguments: Any) -> int:
                called.append("madvise")
                return -errno.EINVAL

        self.patch(mapping, "_libc", Refusing)
        return called

    def works(self) -> None:
        view = self.map()
        view[-1:] = b"x"
        self.assertEqual(os.pread(self.file.fileno(), 1, SIZE - 1), b"x")

    def test_no_room(self) -> None:
        called = self.refuse(1)
        self.works()
        self.assertEqual(called, ["mmap"] if sys.platform == "linux" else [])

    def test_file_refused(self) -> None:
        """What was reserved for it is given back, and no descriptor is left."""
        called = self.refuse(2)
        self.works()
        gc.collect()
        before = len(os.listdir("/dev/fd"))
        self.works()
        gc.collect()
        self.assertEqual(len(os.listdir("/dev/fd")), before)
        if sys.platform == "linux":
            self.assertEqual(called[:3], ["mmap", "mmap", "munmap"])

    def test_advice_refused(self) -> None:
        """Then it has ordinary pages."""
        called = self.refuse(9)
        self.works()
        gc.collect()
        self.assertFalse(self.mapped())
        self.assertEqual(called, ["mmap", "mmap", "madvise", "munmap"])
