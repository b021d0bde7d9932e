"""A file that is made in one go: in Python, and where it is compiled in C."""

from __future__ import annotations

import errno
import os
import resource
import stat

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.system import System, usual_system
from logging_proxy.test.shortcut_stage import InPython, require_compiled

NAME = "2025-09-13_02-11-09.123_092d0424_request.bin"


class Create(SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        os.mkdir(self.path)
        self.folder = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, self.folder)

    def create(self, data: bytes, name: str = NAME) -> bool:
        """What `create` gives; whatever happens it leaves no descriptor open."""
        before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
        try:
            return usual_system().create(name, data, self.folder)
        finally:
            after = os.listdir("/proc/self/fd") if before else []
            self.assertEqual(len(after), len(before))

    def content(self, name: str = NAME) -> bytes:
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def test_content(self) -> None:
        """A new file has all of the data, be it nothing, and is its owner's alone whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        for number, data in enumerate((b"", b"one\x00two", bytes(range(256)) * 5000)):
            self.assertIs(self.create(data, f"{number}.bin"), True)
            self.assertEqual(self.content(f"{number}.bin"), data)
            mode = os.stat(os.path.join(self.path, f"{number}.bin")).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_taken(self) -> None:
        """What there is under the name stays as it is, and is not followed."""
        os.mkdir(os.path.join(self.path, "folder"))
        os.symlink("elsewhere", os.path.join(self.path, "link"))
        self.create(b"first")
        for name in (NAME, "folder", "link"):
            self.assertIs(self.create(b"second", name), False)
        self.assertEqual(self.content(), b"first")
        self.assertEqual(sorted(os.listdir(self.path)), [NAME, "folder", "link"])

    def test_directory_gone(self) -> None:
        """Without the directory it is an OSError with the number and the name."""
        os.rmdir(self.path)
        error = self.assertRaises(FileNotFoundError, self.create, b"data")
        self.assertEqual((error.errno, error.filename), (errno.ENOENT, NAME))

    def test_no_room(self) -> None:
        """What fits is written, and then the error is raised."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            error = self.assertRaises(OSError, self.create, b"0123456789abcdef")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual((error.errno, self.content()), (errno.EFBIG, b"0123456789"))

    def test_no_name(self) -> None:
        """A name that no file can have is refused."""
        self.assertRaises(ValueError, self.create, b"data", "one\x00two")


class CreateInPython(InPython, Create):
    """Without the C extension."""


class Chosen(SynchronousTestCase):
    def test_in_c(self) -> None:
        """Where it is compiled the C extension makes the files, but those of a system that was handed in."""
        require_compiled()
        self.assertNotEqual(usual_system().create, System().create)
        made: list[str] = []
        system = System()
        system.create = lambda name, data, folder: made.append(name) or True  # type: ignore[method-assign, func-returns-value]
        LogDirectory(self.mktemp(), system).put_file(NAME, b"")
        self.assertEqual(made, [NAME])

    def test_takes_nothing(self) -> None:
        """A file system that writes nothing and says nothing is an error, not asked for ever."""
        system = System()
        system.pwrite = lambda fd, data, at: 0
        directory = LogDirectory(self.mktemp(), system)
        directory.open()
        self.addCleanup(directory.close)
        self.assertEqual(self.assertRaises(OSError, directory.put_file, NAME, b"data").errno, errno.EIO)
        self.assertEqual(self.assertRaises(OSError, directory.probe).errno, errno.EIO)
