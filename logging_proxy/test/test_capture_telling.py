"""What a proxy tells of a spool that it cannot write."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.ring import Ring
from logging_proxy.recording.telling import told_trouble

SIZE = 1 << 16


class TellingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.spool = Path(self.mktemp()).absolute()
        self.spool.mkdir()

    def ring(self, path: Path) -> Ring:
        with open(path, "w+b") as file:
            ring = Ring.create(file.fileno(), SIZE, 0)
        self.addCleanup(ring.close)
        return ring

    def told(self) -> str:
        return told_trouble(str(self.spool))

    def test_told(self) -> None:
        """The reason is told until there is none, and does not touch what the ring holds."""
        ring = self.ring(self.spool / "ring")
        ring.store(b"record")
        for trouble in ("No space left on device", "EIO", ""):
            ring.tell(trouble)
            self.assertEqual(self.told(), trouble)
        with ring.peek() as piece:
            self.assertEqual(bytes(piece), b"record")

    def test_elsewhere(self) -> None:
        """The ring may lie in memory, where the spool's link leads."""
        elsewhere = Path(self.mktemp()).absolute()
        os.symlink(elsewhere, self.spool / "ring")
        self.ring(elsewhere).tell("No space left on device")
        self.assertEqual(self.told(), "No space left on device")

    def test_long(self) -> None:
        """A long reason is cut, and what is cut within a character is told all the same."""
        self.ring(self.spool / "ring").tell("x" + "é" * 200)
        self.assertTrue(self.told().startswith("x" + "é" * 127))
        self.assertLessEqual(len(self.told()), 129)

    def test_closed(self) -> None:
        """A ring that is closed is told nothing any more, and keeps what it was told."""
        ring = self.ring(self.spool / "ring")
        ring.tell("EIO")
        ring.close()
        ring.tell("")
        self.assertEqual(self.told(), "EIO")

    def test_nothing(self) -> None:
        """Nothing is told where there is no spool, no ring, none of ours, or something else of that name."""
        self.assertEqual(self.told(), "")
        os.symlink("/absent", self.spool / "ring")
        self.assertEqual(self.told(), "")
        (self.spool / "ring").unlink()
        for content in (b"", b"\0" * 4096, b"x" * 4096):
            (self.spool / "ring").write_bytes(content)
            self.assertEqual(self.told(), "")
        (self.spool / "ring").unlink()
        os.mkfifo(self.spool / "ring")
        self.assertEqual(self.told(), "")
        self.assertEqual(told_trouble("/absent"), "")
