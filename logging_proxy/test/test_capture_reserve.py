"""A spool that goes on when the process has no descriptors left."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.disk import SegmentFiles
from logging_proxy.recording.reserve import SIZE, Reserve
from logging_proxy.test.capture_stage import let_go, segments, stream


def lowest_free() -> int:
    fd = os.dup(0)
    os.close(fd)
    return fd


class NoDescriptorsCase(SynchronousTestCase):
    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """There are no more descriptors than are open, at the beginning and at the end."""
        old = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free(), old[1]))
        try:
            self.assertEqual(self.assertRaises(OSError, os.dup, 0).errno, errno.EMFILE)
            yield
            self.assertEqual(self.assertRaises(OSError, os.dup, 0).errno, errno.EMFILE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, old)


class SpoolTests(NoDescriptorsCase):
    def test_next_segments(self) -> None:
        """Segments are begun, and synced with their names, though nothing else can be opened."""
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        files = SegmentFiles(directory, 0, 8 * 100)
        self.addCleanup(let_go, files)
        files.append(b"x" * 60)
        with self.exhausted():
            for _ in range(7):
                files.append(b"x" * 60)
                files.sync()
        self.assertEqual(segments(directory), [0, 120, 240, 360])
        self.assertEqual(stream(directory), b"x" * 480)

    def test_nothing_is_kept(self) -> None:
        """A spool that is closed, or has not begun, holds no descriptor."""
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        before = len(os.listdir("/proc/self/fd"))
        files = SegmentFiles(directory, 0, 8 * 100)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        files.append(b"abc")
        files.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_dropped(self) -> None:
        """What a reserve holds is let go with it."""
        before = len(os.listdir("/proc/self/fd"))
        reserve = Reserve()
        reserve.fill()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + SIZE)
        del reserve
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class ReserveTests(NoDescriptorsCase):
    def setUp(self) -> None:
        self.reserve = Reserve()
        self.addCleanup(self.reserve.close)

    def test_given_back(self) -> None:
        """A step without descriptors is tried again with what was held, and what it leaves is held again."""
        self.reserve.fill()

        def step() -> int:
            fds = [os.dup(0) for _ in range(SIZE)]
            for fd in fds:
                os.close(fd)
            return len(fds)

        with self.exhausted():
            for _ in range(2):
                self.assertEqual(self.reserve.run(step), SIZE)

    def test_other_errors(self) -> None:
        """Any other error is the step's own, at once."""
        tries = []

        def step() -> None:
            tries.append(1)
            raise OSError(errno.ENOSPC, "full")

        self.reserve.fill()
        self.assertEqual(self.assertRaises(OSError, self.reserve.run, step).errno, errno.ENOSPC)
        self.assertEqual(len(tries), 1)
