"""Messages when the C extension is missing, and its behaviour when the ring's figures are invalid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.net import shortcut
from logging_proxy.recording.records import HEADER, Kind
from logging_proxy.recording.ring import Ring
from logging_proxy.test import shortcut_stage
from logging_proxy.test.shortcut_stage import require_compiled

PROGRAM = "from logging_proxy.net import shortcut; print(shortcut.compiled, shortcut.trouble)"


class MissingTests(SynchronousTestCase):
    """The package in a directory of its own, without the built extension."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        package = self.folder / "logging_proxy" / "net" / "shortcut"
        package.mkdir(parents=True)
        for each in (package.parent, package.parent.parent):
            (each / "__init__.py").write_text("")
        shutil.copy(shortcut.__file__, package)
        self.built = package / "_compiled.py"

    def said(self, **variables: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PURE_PYTHON"}
        done = subprocess.run(
            [sys.executable, "-S", "-c", PROGRAM],
            env={**environment, "PYTHONPATH": str(self.folder), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    def test_there(self) -> None:
        """Where it is there it is used, and there is nothing to say."""
        self.built.write_text("")
        self.assertEqual(self.said(), "True None")

    def test_not_built(self) -> None:
        """That it was not built is said."""
        self.assertEqual(self.said(), "False it was not built")

    def test_broken(self) -> None:
        """That it cannot be loaded is said, with the reason."""
        self.built.write_text("raise ImportError('undefined symbol: _PyLong_AsInt')")
        self.assertEqual(self.said(), "False undefined symbol: _PyLong_AsInt")

    def test_wished(self) -> None:
        """With PURE_PYTHON there is no message."""
        self.assertEqual(self.said(PURE_PYTHON="1"), "False None")

    def test_tests(self) -> None:
        """Tests that need it fail where it could have been built, and are skipped where it could not."""
        without = {name: value for name, value in os.environ.items() if name != "PURE_PYTHON"}
        with mock.patch.object(shortcut, "compiled", False), mock.patch.dict(os.environ, without, clear=True):
            with mock.patch.object(shortcut_stage, "can_compile", lambda: True):
                self.assertRaises(AssertionError, require_compiled)
            with mock.patch.object(shortcut_stage, "can_compile", lambda: False):
                self.assertRaises(SkipTest, require_compiled)


class Writer:
    """As much of a `CaptureWriter` as a `Writing` looks at."""

    def __init__(self) -> None:
        self._waiting = self._losing = False
        self.written: list[object] = []

    def write(self, *records: object) -> None:
        self.written.append(records)


class BoundsTests(SynchronousTestCase):
    """The ring's numbers lie in a file, and may be anything."""

    def setUp(self) -> None:
        require_compiled()
        fd = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, fd)
        self.ring = Ring.create(fd, 8192, 0)
        self.addCleanup(self.ring.close)
        self.writer = Writer()
        writing = shortcut.writing(self.writer, self.ring, lambda: None, lambda: 1)
        assert writing is not None
        self.writing = writing

    def test_numbers(self) -> None:
        """For any figures, no byte is written outside the ring: invalid ones are left to Python."""
        record = ((int(Kind.RESPONSE_PIECE), 0, b"x" * 100),)
        biggest = (1 << 64) - 1
        for stored, capacity, taken in (
            (0, 0, 0),
            (0, 1 << 40, 0),
            (1 << 40, 1 << 50, 0),
            (biggest, 8192, 0),
            (biggest, 8192, biggest),
            (1 << 63, 8192, 1 << 63),
            (5, 8192, 9),
            (8192, 8192, 0),
            (20_000, 8192, 0),
        ):
            self.ring._header[0], self.ring._header[1], self.ring._header[2] = stored, capacity, taken
            self.writer.written.clear()
            self.writing(7, record)
            inside = (stored, taken) == (0, 0)
            self.assertEqual(self.writer.written, [] if inside else [(7, record)], (stored, capacity, taken))
        self.ring._header[0] = self.ring._header[2] = 0
        self.ring._header[1] = 8192

    def test_usual(self) -> None:
        """With a ring's own figures, the records are in it."""
        self.writing(7, ((int(Kind.RESPONSE_PIECE), 0, b"abc"),))
        with self.ring.peek() as stored:
            self.assertEqual(bytes(stored[HEADER.size :]), b"abc")

    def test_another_size(self) -> None:
        """A ring whose memory has another size than it says is refused at the beginning."""
        self.ring.capacity = 16384
        try:
            self.assertRaises(ValueError, shortcut.writing, self.writer, self.ring, lambda: None, lambda: 1)
        finally:
            self.ring.capacity = 8192
