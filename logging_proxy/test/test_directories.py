"""Where a directory of many files is made."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording import directories
from logging_proxy.recording.directories import make_directory_apart


class DirectoryApartTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.above = Path(self.mktemp()).absolute()

    def test_makes_it_and_all_above(self) -> None:
        """The directory is there, private, and nothing else is left beside it."""
        path = self.above / "deep" / "logs"
        make_directory_apart(path)
        self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        self.assertEqual(os.listdir(path), [])
        self.assertEqual(os.listdir(path.parent), ["logs"])

    def test_keeps_what_is_there(self) -> None:
        """A directory that exists stays the same one, with its files."""
        path = self.above / "logs"
        path.mkdir(parents=True)
        (path / "capture").write_bytes(b"kept")
        before = path.stat().st_ino
        make_directory_apart(path)
        self.assertEqual(path.stat().st_ino, before)
        self.assertEqual((path / "capture").read_bytes(), b"kept")

    def test_does_without_where_the_disk_cannot(self) -> None:
        """A file system that knows no such flag gets an ordinary directory."""

        def refuse(directory: Path) -> None:
            raise OSError(95, "Operation not supported")

        self.patch(directories, "_flag", refuse)
        path = self.above / "logs"
        make_directory_apart(path)
        self.assertEqual(os.listdir(self.above), ["logs"])

    def test_a_race_for_the_name_is_no_mistake(self) -> None:
        """Somebody else has made the directory, and put something in it, in the meantime."""
        path = self.above / "logs"

        def overtake(directory: Path) -> None:
            path.mkdir()
            (path / "theirs").write_bytes(b"")

        self.patch(directories, "_flag", overtake)
        make_directory_apart(path)
        self.assertEqual(os.listdir(self.above), ["logs"])
        self.assertEqual(os.listdir(path), ["theirs"])

    def test_says_what_cannot_be_made(self) -> None:
        """A file in the way is an error, as with any directory."""
        self.above.mkdir()
        (self.above / "logs").write_bytes(b"")
        self.assertRaises(NotADirectoryError, make_directory_apart, self.above / "logs")
