"""What the log directory asks of the operating system, handed in so that tests can let it fail."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

from logging_proxy.net import shortcut

CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of `open`: a new file, or FileExistsError whatever there is of that name."""

_NEW = CREATE | os.O_WRONLY


def _load_syncfs() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


_syncfs = _load_syncfs()


class System:
    """The calls that the log directory rests on.  Tests hand in one whose calls fail."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(getattr(os, "fdatasync", os.fsync))

    def create(self, name: str, data: bytes, folder: int) -> bool:
        """A new file of mode 0600 in the directory `folder`; False when there is something of that name."""
        try:
            fd = self.open(name, _NEW, 0o600, dir_fd=folder)
        except FileExistsError:
            return False
        try:
            self.write(fd, data, 0)
        finally:
            self.close(fd)
        return True

    def write(self, fd: int, data: bytes | memoryview, at: int) -> None:
        """All of `data` at `at`.  Raises OSError, also where the file takes nothing without saying why."""
        written = 0
        while written < len(data):
            more = self.pwrite(fd, data[written:] if written else data, at + written)
            if more <= 0:
                raise OSError(errno.EIO, "the disk writes nothing")
            written += more

    @staticmethod
    def sync_filesystem(fd: int) -> None:
        """Everything of the file system that holds `fd` is on disk afterwards."""
        if _syncfs is None:
            os.sync()
        elif _syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def usual_system() -> System:
    """With `create` in C where that is compiled: the four files of an exchange cost 3 µs less."""
    system, create = System(), shortcut.creator()
    if create is not None:
        system.create = create  # type: ignore[assignment, method-assign]
    return system
