"""
Where rings lie, who holds them, and what becomes of those that dead proxies left.

A spool has a name `ring` in its directory: the ring itself, or, where there is
a directory in memory for it, a link to it.  The ring's file is locked as long
as a proxy uses it, so that a ring is left behind exactly when nobody holds its lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from logging_proxy.capture.disk import PRIVATE, SegmentFiles, last_offset
from logging_proxy.capture.ring import PAGE, Ring

_NAME, _LOCK = "ring", "lock"

_NO_LIMIT = 1 << 62

LEAST_SIZE, SHARE = 8 << 20, 8
"""A ring of more bytes takes no more than one part in so many of its file system: Docker gives 64 MiB."""

_log = Logger()


class SpoolBusy(Exception):
    """Another process writes this spool."""


def lock_spool(directory: Path) -> int:
    """A descriptor that holds the lock of a spool while it is open.  Raises `SpoolBusy` and OSError."""
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
    try:
        _lock(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_ring(spool: Path, ring_directory: Path, size: int, kept: int) -> tuple[Ring, Path]:
    """
    The ring for a spool of which everything up to stream offset `kept` is on disk, and its file.

    A ring that was left behind is used on: what it holds is written to the
    spool when that can be done, so that a full disk does not hold up a start.
    A new one has `size` bytes, or fewer where its directory is on a small file system.
    Raises `SpoolBusy` and OSError.
    """
    path = ring_path(spool)
    ring = _take_up(path, kept) if path is not None else None
    if path is None or ring is None:
        forget_ring(spool)
        path = _new_path(spool, ring_directory)
        ring = _create(path, _fitting(path.parent, size), kept)
    elif ring.stored > ring.taken:
        size = ring.stored - ring.taken
        _log.info("{size} bytes were left in the ring of {spool}", size=size, spool=str(spool))
    return ring, path


def ring_path(spool: Path) -> Path | None:
    """Where the ring of a spool lies, if it has one."""
    name = spool / _NAME
    if name.is_symlink():
        name = Path(os.readlink(name))
    return name if name.is_file() else None


def name_ring(spool: Path, path: Path) -> None:
    """Let the spool say where its ring lies."""
    if path != spool / _NAME:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spool / _NAME)
        os.symlink(path, spool / _NAME)


def forget_ring(spool: Path) -> None:
    """Remove the ring of a spool."""
    path = ring_path(spool)
    if path is not None:
        path.unlink(missing_ok=True)
    (spool / _NAME).unlink(missing_ok=True)


# --- what dead proxies left ---------------------------------------------------------


def salvage_all(root: Path) -> None:
    """
    Empty the rings that were left behind in the spools below `root` into their spools.

    A proxy that comes back empties its own ring; this is for those that will
    not, for their port has changed.  What cannot be done now is left for the next time.
    """
    for spool in _spools_with_rings(root):
        try:
            saved = salvage(spool)
        except SpoolBusy:
            continue
        except OSError as error:
            _log.warn("{spool}: its ring could not be emptied: {why}", spool=str(spool), why=error.strerror)
            continue
        if saved:
            _log.info("{size} bytes were saved from the ring of {spool}", size=saved, spool=str(spool))


def salvage(spool: Path) -> int:
    """
    Empty the ring that was left behind in a spool; how many bytes it held.

    Raises `SpoolBusy` and OSError.
    """
    lock = lock_spool(spool)
    try:
        path = ring_path(spool)
        ring = _take_up(path, last_offset(spool)) if path is not None else None
        size = 0
        if ring is not None:
            size = ring.stored - ring.taken
            with contextlib.closing(ring):
                _empty(ring, SegmentFiles(spool, ring.taken, _NO_LIMIT))
        forget_ring(spool)
        return size
    finally:
        os.close(lock)


def _empty(ring: Ring, files: SegmentFiles) -> None:
    with contextlib.closing(files):
        while ring.stored != ring.taken:
            with ring.peek() as piece:
                files.append(piece)
                size = len(piece)
            ring.take(size)


def _spools_with_rings(root: Path) -> Iterator[Path]:
    try:
        found = sorted(root.iterdir())
    except OSError:
        return
    for spool in found:
        if spool.is_dir() and not spool.is_symlink() and ring_path(spool) is not None:
            yield spool


# --- files --------------------------------------------------------------------------


def _new_path(spool: Path, ring_directory: Path) -> Path:
    """
    A name for a new ring, already told by the spool.

    It cannot be guessed: in a directory of many nobody can have taken it.
    Where there is no such directory the ring lies in the spool itself.
    """
    if not ring_directory.is_dir():
        return spool / _NAME
    path = ring_directory.absolute() / f"logging-proxy-{os.geteuid()}-{secrets.token_hex(8)}.ring"
    name_ring(spool, path)
    return path


def _fitting(directory: Path, size: int) -> int:
    found = os.statvfs(directory)
    share = found.f_blocks * found.f_frsize // SHARE // PAGE * PAGE
    return min(size, max(LEAST_SIZE, share))


def _create(path: Path, size: int, start: int) -> Ring:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | PRIVATE, 0o600)
    try:
        _lock(fd, path)
        return Ring.create(fd, size, start)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


def _take_up(path: Path, kept: int) -> Ring | None:
    """The ring in a file of ours; one that somebody else planted is not read."""
    fd = os.open(path, os.O_RDWR | PRIVATE)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise PermissionError(errno.EPERM, "not a file of ours", str(path))
        _lock(fd, path)
        return Ring.take_up(fd, kept)
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    """The lock stays until every copy of `fd` is closed; the mapping of a ring has one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpoolBusy(f"{path}: another process writes this spool") from None
