"""
The files of uploads, which stay in a folder of their own until they are complete.

There they are not taken for captures, and are found again after a crash.
"""

from __future__ import annotations

import errno
import os

from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.system import CREATE

UPLOADS = ".uploads"
"""Below the log directory."""


class UploadFiles:
    """
    The folder for uploads in a log directory.

    Not thread-safe, like `LogDirectory`: only for the storage thread.
    """

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._system = directory.system

    def create_upload(self, name: str) -> int:
        """Creates the file of an upload; returns its descriptor."""
        folder = self._directory.open_folder(UPLOADS)
        try:
            return self._system.open(name, CREATE | os.O_RDWR, 0o600, dir_fd=folder)
        finally:
            self._system.close(folder)

    def upload_names(self) -> list[str]:
        """The names of all uploads, of this process or from before a restart."""
        self._directory.open()
        folder = self._directory.open_folder(UPLOADS)
        try:
            return sorted(name for name in os.listdir(folder) if name.endswith(".tmp"))
        finally:
            self._system.close(folder)

    def open_upload(self, name: str) -> tuple[int, int]:
        """Opens an existing upload; its descriptor, and the time of its last write in ns since 1970."""
        folder = self._directory.open_folder(UPLOADS)
        try:
            fd = self._system.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            self._system.close(folder)
        try:
            return fd, os.fstat(fd).st_mtime_ns
        except BaseException:
            self._system.close(fd)
            raise

    def remove_upload(self, name: str) -> None:
        folder = self._directory.open_folder(UPLOADS)
        try:
            self._system.unlink(name, dir_fd=folder)
        finally:
            self._system.close(folder)

    def adopt_upload(self, name: str, fd: int, stamp: str, id: str, side: str) -> str:
        """Makes the upload `name`, open as `fd`, the `.bin` of a half; its base name, to be released."""
        self._system.fdatasync(fd)
        claim = self._directory.claim(stamp, id, side, b"")
        if claim.fd is None:
            self._directory.release(claim.base)
            raise FileExistsError(errno.EEXIST, "stored already", claim.base)
        self._system.close(claim.fd)
        folder = self._directory.open_folder(UPLOADS)
        try:
            self._directory.take_in(folder, name, claim.base)
        except BaseException:
            self._directory.withdraw(claim.base)
            raise
        finally:
            self._system.close(folder)
        return claim.base

    def give_back(self, base: str, name: str) -> None:
        """Reverts `adopt_upload`: the file is an upload again, to be dropped or recovered later."""
        folder = self._directory.open_folder(UPLOADS)
        try:
            self._directory.give_back(folder, name, base)
        finally:
            self._system.close(folder)
