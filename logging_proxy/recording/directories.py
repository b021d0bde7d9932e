"""
Directories of captures: their permissions, and a place on the disk where creating files is fast.

ext4 allocates the inode of a new file near its directory, and without a journal it
steps over every inode that was freed there in the last minutes.  After many captures
were deleted (`logging_server.retention`, or by hand) that makes creating a file many
times slower.  ext4 spreads directories below one flagged as the top of a hierarchy over
the disk, by a hash of the name, so that the new directory lies in a group without
recent deletions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import struct
from pathlib import Path


class UnsafeDirectory(Exception):
    """The log directory may be written by others, or is not ours.  Text says which."""


_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_OF_HIERARCHY = 0x00020000
"""Linux's FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL (`man 2 ioctl_iflags`, `man 1 chattr`: +T)."""


def make_directory_apart(path: Path) -> None:
    """
    Create the directory `path`, mode 0700, with its parents, apart from its neighbours if possible.

    An existing directory stays as it is.  Raises OSError.
    """
    if not path.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            _make_elsewhere(path)
    path.mkdir(mode=0o700, exist_ok=True)


def _make_elsewhere(path: Path) -> None:
    """Create a directory with a random name below a flagged one, then move it to `path`."""
    top = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    top.mkdir(mode=0o700)
    try:
        _flag(top)
        made = top / secrets.token_hex(8)
        made.mkdir(mode=0o700)
        try:
            made.rename(path)
        except OSError:
            made.rmdir()
            raise
    finally:
        top.rmdir()


def _flag(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        (found,) = struct.unpack_from("i", flags)
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("q", found | _TOP_OF_HIERARCHY))
    finally:
        os.close(fd)


def check_private(path: str, found: os.stat_result) -> None:
    """Raise `UnsafeDirectory` unless the directory belongs to us and no other user may write to it."""
    if found.st_uid != os.geteuid():
        raise UnsafeDirectory(f"{path}: belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeDirectory(f"{path}: others may write to it (mode {stat.S_IMODE(found.st_mode):04o})")
