"""
Where rings lie, who holds them, and what becomes of those that dead proxies left.

A spool has a name `ring` in its directory: the ring itself, or, where there is
a directory in memory for it, a link to it.  The ring's file is locked as long
as a proxy uses it, so that a ring is left behind exactly when nobody holds its lock.

Memory is scarce in places (Docker gives `/dev/shm` 64 MiB): a ring takes its share of
the room that there is, and where that is too little, or the directory can not be
written, the ring lies on the disk, in the spool.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from logging_proxy.recording.disk import PRIVATE, SegmentFiles, last_offset, next_offset
from logging_proxy.recording.ring import PAGE, Ring, what_is_left

_NAME, _LOCK = "ring", "lock"

_NO_LIMIT = 1 << 62

LEAST_SIZE = 2 << 20
"""Bytes of a ring that is worth having in memory; the pieces of a large body have up to one MiB."""

SHARE = 4
"""All rings of a proxy take no more than one part in so many of the room in memory: it is not ours alone."""

UNCLAIMED = 24 * 3600
"""Seconds after which a ring whose spool is gone is removed: the spool's disk may be mounted late."""

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


def open_ring(spool: Path, ring_directory: Path, size: int, workers: int = 1) -> tuple[Ring, Path]:
    """
    The ring for a spool, and its file.

    A ring that was left behind is used on: what it holds is written to the
    spool when that can be done, so that a full disk does not hold up a start.
    A new one has `size` bytes, or fewer where there is little room for those of all `workers`.
    Raises `SpoolBusy` and OSError.
    """
    path = ring_path(spool)
    ring = _take_up_if_possible(path, last_offset(spool)) if path is not None else None
    if path is None or ring is None:
        forget_ring(spool)
        return _new_ring(spool, ring_directory, size, workers)
    if ring.stored > ring.taken:
        left = ring.stored - ring.taken
        _log.info("{size} bytes were left in the ring of {spool}", size=left, spool=str(spool))
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
    """Remove the ring of a spool; one on a file system that cannot be written any more stays there."""
    path = ring_path(spool)
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
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


# --- rings that nobody uses -----------------------------------------------------------


def remove_unused(ring_directory: Path, now: float | None = None) -> None:
    """
    Remove rings of ours that nobody uses or comes back for: memory is lost to them.

    Those are empty, or their spool has another ring by now, or it has been gone for a while.
    `now` is in seconds since 1970.
    """
    now = time.time() if now is None else now
    try:
        found = sorted(ring_directory.absolute().glob(f"{_ring_prefix()}*.ring"))
    except OSError:
        return
    for path in found:
        with contextlib.suppress(OSError, SpoolBusy):
            if _remove_if_unused(path, now):
                _log.info("{path}: removed, a ring that nobody uses", path=str(path))


def _remove_if_unused(path: Path, now: float) -> bool:
    fd = _open_ours(path)
    try:
        _lock(fd, path)
        if not _is_unused(path, fd, now):
            return False
        path.unlink()
        return True
    finally:
        os.close(fd)


def _is_unused(path: Path, fd: int, now: float) -> bool:
    left = what_is_left(fd)
    if left is None:
        return now - os.fstat(fd).st_mtime > UNCLAIMED  # no ring at all: its making was cut short
    size, spool = left
    if not size:
        return True
    if not spool:
        return False
    if not os.path.isdir(spool):
        return now - os.fstat(fd).st_mtime > UNCLAIMED
    other = ring_path(Path(os.fsdecode(spool)))
    return other is None or not other.samefile(path)


# --- files --------------------------------------------------------------------------


def _new_ring(spool: Path, ring_directory: Path, size: int, workers: int) -> tuple[Ring, Path]:
    """In memory, as large as there is room for; else on the disk."""
    start = next_offset(spool)
    if ring_directory.is_dir():
        try:
            return _ring_in_memory(spool, ring_directory, size, workers, start)
        except OSError as error:
            why = error.strerror or str(error)
            text = "{directory}: {why}; the ring of {spool} lies on the disk"
            _log.warn(text, directory=str(ring_directory), why=why, spool=str(spool))
        forget_ring(spool)
    return _ring_on_disk(spool, size, start), spool / _NAME


def _ring_in_memory(
    spool: Path, ring_directory: Path, size: int, workers: int, start: int
) -> tuple[Ring, Path]:
    fitting = _fitting(ring_directory, size, workers)
    if fitting < min(size, LEAST_SIZE):
        raise OSError(errno.ENOSPC, "too little room for a ring")
    if fitting < size:
        text = "{directory}: little room; the ring of {spool} has {fitting} bytes instead of {size}"
        _log.warn(text, directory=str(ring_directory), spool=str(spool), fitting=fitting, size=size)
    path = _new_path(spool, ring_directory)
    return _create(path, fitting, start, spool), path


def _ring_on_disk(spool: Path, size: int, start: int) -> Ring:
    """Raises OSError when not even a small one can be had."""
    while True:
        try:
            return _create(spool / _NAME, size, start, spool)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or size // 2 < LEAST_SIZE:
                raise
        size //= 2


def _ring_prefix() -> str:
    return f"logging-proxy-{os.geteuid()}-"


def _new_path(spool: Path, ring_directory: Path) -> Path:
    """
    A name for a new ring in memory, already told by the spool.

    It cannot be guessed: in a directory of many nobody can have taken it.
    """
    path = ring_directory.absolute() / f"{_ring_prefix()}{secrets.token_hex(8)}.ring"
    name_ring(spool, path)
    return path


def _fitting(directory: Path, size: int, workers: int) -> int:
    """How many bytes of `size` one of so many rings may have, in whole pages."""
    found = os.statvfs(directory)
    share = found.f_bavail * found.f_frsize // (SHARE * workers) // PAGE * PAGE
    return min(size, share)


def _create(path: Path, size: int, start: int, spool: Path) -> Ring:
    # Locked before it has its name: who looks for rings that nobody uses takes it for one in use.
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | PRIVATE, 0o600)
    try:
        _lock(fd, new)
        new.rename(path)
        return Ring.create(fd, size, start, spool=os.fsencode(spool.absolute()))
    except OSError as error:
        new.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


def _take_up_if_possible(path: Path, kept: int) -> Ring | None:
    """None also for one whose file system cannot be written any more; it stays there then."""
    try:
        return _take_up(path, kept)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        _log.critical(
            "{path}: what this ring held cannot be taken up: {why}", path=str(path), why=error.strerror
        )
        return None


def _take_up(path: Path, kept: int) -> Ring | None:
    """The ring in a file of ours; one that somebody else planted is not read."""
    fd = _open_ours(path)
    try:
        _lock(fd, path)
        return Ring.take_up(fd, kept)
    finally:
        os.close(fd)


def _open_ours(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | PRIVATE)
    found = os.fstat(fd)
    if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode):
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, "not a file of ours", str(path))


def _lock(fd: int, path: Path) -> None:
    """The lock stays until every copy of `fd` is closed; the mapping of a ring has one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpoolBusy(f"{path}: another process writes this spool") from None
