"""The system calls of the log directory, injected so that tests can make them fail."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

from logging_proxy.net import shortcut

CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of `open` for a new file; FileExistsError if the name exists, whatever it is."""

_NEW = CREATE | os.O_WRONLY


def _load_syncfs() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


_syncfs = _load_syncfs()


class System:
    """The system calls that the log directory uses."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(getattr(os, "fdatasync", os.fsync))

    def create(self, name: str, data: bytes, folder: int) -> bool:
        """Creates a file of mode 0600 in the directory `folder`; False if the name exists."""
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
        """Writes all of `data` at offset `at`.  Raises OSError, also if a write makes no progress."""
        written = 0
        while written < len(data):
            more = self.pwrite(fd, data[written:] if written else data, at + written)
            if more <= 0:
                raise OSError(errno.EIO, "the disk writes nothing")
            written += more

    @staticmethod
    def sync_filesystem(fd: int) -> None:
        """Syncs the file system that contains `fd`."""
        if _syncfs is None:
            os.sync()
        elif _syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def usual_system() -> System:
    """The system calls of the operating system, with `create` in C if that is compiled."""
    system, create = System(), shortcut.creator()
    if create is not None:
        system.create = create  # type: ignore[assignment, method-assign]
    return system
