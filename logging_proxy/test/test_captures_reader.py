"""The one reader of capture files: what it opens, what it reports as missing, what it raises."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.names import binary_name, metadata_name, short_id
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index.rebuild import rebuild
from logging_proxy.index.sqlite import SqliteIndex

BASE = "2026-01-02_03-04-05.678_0123abcd_request"
BINARY, METADATA = f"{BASE}.bin", f"{BASE}_metadata.json"


class ReaderTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = self.mktemp()
        os.mkdir(self.log_dir, 0o700)
        self.reader = CaptureReader(self.log_dir)

    def path(self, name: str) -> str:
        return os.path.join(self.log_dir, name)

    def write(self, name: str, data: bytes) -> None:
        with open(self.path(name), "wb") as file:
            file.write(data)

    def read_all(self) -> list[Any]:
        """What each way of reading gives for the capture."""
        return [self.reader.metadata(METADATA), self.reader.open(BINARY), self.reader.body(BINARY, 10)]


class ReadTests(ReaderTestCase):
    """Captures as they are stored."""

    def test_metadata(self) -> None:
        """The metadata are the JSON object in their file."""
        self.write(METADATA, b'{"id": "x"}')
        self.assertEqual(self.reader.metadata(METADATA), {"id": "x"})

    def test_no_object(self) -> None:
        """Metadata that are no JSON object, whole or not, are missing."""
        for content in (b"", b"[1]", b'{"id"', b"[" * 100_000):
            self.write(METADATA, content)
            self.assertIsNone(self.reader.metadata(METADATA))

    def test_body(self) -> None:
        """A body begins after the head, and ends at the limit."""
        self.write(BINARY, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n0123456789")
        self.assertEqual(self.reader.body(BINARY, 4), b"0123")
        self.assertEqual(self.reader.body(BINARY, 100), b"0123456789")

    def test_open(self) -> None:
        """An open file is read from any position."""
        self.write(BINARY, b"0123456789")
        file = self.reader.open(BINARY)
        assert file is not None
        self.addCleanup(file.close)
        self.assertEqual((file.size, file.read(3, 4)), (10, b"3456"))

    def test_names(self) -> None:
        """The names of metadata files are found among all others."""
        for name in (METADATA, BINARY, f".{BASE}_metadata.json", "x_metadata.json"):
            self.write(name, b"{}")
        self.assertEqual([*self.reader.metadata_names()], [METADATA])

    def test_replaced(self) -> None:
        """A directory that was replaced is read as it is now."""
        os.rename(self.log_dir, f"{self.log_dir}.old")
        os.mkdir(self.log_dir)
        self.write(METADATA, b'{"id": "new"}')
        self.assertEqual(self.reader.metadata(METADATA), {"id": "new"})


class MissingTests(ReaderTestCase):
    """What is no capture's file is missing, whichever way it is asked for."""

    def test_gone(self) -> None:
        """A file that does not exist is missing."""
        self.assertEqual(self.read_all(), [None, None, b""])

    def test_links(self) -> None:
        """Symbolic links are not followed."""
        self.write("secret", b'{"id": "x"}\r\n\r\nx')
        for name in (METADATA, BINARY):
            os.symlink("secret", self.path(name))
        self.assertEqual(self.read_all(), [None, None, b""])

    def test_no_files(self) -> None:
        """Directories and pipes are not opened, and nothing waits for them."""
        os.mkdir(self.path(METADATA))
        os.mkfifo(self.path(BINARY))
        self.assertEqual(self.read_all(), [None, None, b""])

    def test_other_names(self) -> None:
        """A name that no capture has is missing, and so is the wrong one of two files."""
        for name in ("secret", METADATA, BINARY):
            self.write(name, b"{}")
        for name in ("secret", "../secret", f"./{METADATA}", BINARY):
            self.assertIsNone(self.reader.metadata(name))
        for name in ("secret", f"./{BINARY}", METADATA):
            self.assertIsNone(self.reader.open(name))
            self.assertEqual(self.reader.body(name, 10), b"")


class TroubleTests(ReaderTestCase):
    """What a disk or the system does is raised, whichever way a file is asked for."""

    def fail_opening(self, code: int) -> None:
        real = os.open

        def fail(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if path in (METADATA, BINARY):
                raise OSError(code, os.strerror(code))
            return real(path, flags, *rest, **more)

        self.patch(os, "open", fail)

    def test_raised(self) -> None:
        """A failing disk and a lack of descriptors or memory are raised by every method."""
        for code in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE):
            self.fail_opening(code)
            for ask in (
                lambda: self.reader.metadata(METADATA),
                lambda: self.reader.open(BINARY),
                lambda: self.reader.body(BINARY, 10),
            ):
                self.assertEqual(self.assertRaises(OSError, ask).errno, code)

    def test_no_directory(self) -> None:
        """Without a directory every method raises FileNotFoundError."""
        os.rmdir(self.log_dir)
        for ask in (
            self.reader.check,
            self.read_all,
            lambda: [*self.reader.metadata_names()],
            lambda: self.reader.body(BINARY, 10),
        ):
            self.assertRaises(FileNotFoundError, ask)

    def test_rebuild(self) -> None:
        """A rebuild counts a file that cannot be read for a reason of its own, and ends for any other."""
        self.write(METADATA, b"{}")
        index = SqliteIndex(os.path.join(self.mktemp(), "index.sqlite3"))
        self.addCleanup(index.close)
        for code in (errno.EIO, errno.ESTALE):
            self.fail_opening(code)
            *_, last = rebuild(self.reader, index)
            self.assertEqual(last.unreadable, 1)
        self.fail_opening(errno.EMFILE)
        self.assertRaises(OSError, list, rebuild(self.reader, index))


class NameTests(SynchronousTestCase):
    """Names of the files of one half."""

    def test_pair(self) -> None:
        """The two files of a half are found from each other."""
        self.assertEqual((metadata_name(BINARY), binary_name(METADATA)), (METADATA, BINARY))

    def test_short_id(self) -> None:
        """The first digits of the id are in every name of a capture, and in no other."""
        self.assertEqual([short_id(BINARY), short_id(METADATA)], ["0123abcd"] * 2)
        self.assertEqual([short_id("secret"), short_id(f"x{BINARY}")], [None, None])
