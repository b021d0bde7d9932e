"""
The files of rings: where they lie, their locks, and recovery of rings that dead proxies left behind.

A spool's directory has an entry `ring`: the ring itself, or a link to it where there
is a directory in memory (`/dev/shm`).  A proxy holds a lock on the ring's file as long as it
uses the ring, so a ring without a lock is abandoned.

Memory may be scarce (Docker gives `/dev/shm` 64 MiB).  A ring takes a share of
the free space; if that is too small, or the directory cannot be written,
the ring lies on the disk, in the spool.
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
from logging_proxy.recording.ring import PAGE, Ring, unsaved_content

_NAME, _LOCK = "ring", "lock"

_NO_LIMIT = 1 << 62

LEAST_SIZE = 2 << 20
"""Bytes of the smallest ring worth having in memory; one piece of a large body is up to 1 MiB."""

SHARE = 4
"""All rings of a proxy together take at most 1/`SHARE` of the free memory, which other programs use too."""

UNCLAIMED = 24 * 3600
"""Seconds after which a ring whose spool is missing is removed; the spool's disk may be mounted late."""

_log = Logger()


class SpoolBusy(Exception):
    """Another process has locked this spool."""


def lock_spool(directory: Path) -> int:
    """A descriptor that holds a spool's lock until it is closed.  Raises `SpoolBusy` and OSError."""
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

    A ring that a dead proxy left behind is used again, with its content: that is written to
    the spool later, so that a full disk does not delay the start.
    A new ring has `size` bytes, or fewer if the rings of all `workers` would not fit.
    Raises `SpoolBusy` and OSError.
    """
    path = ring_path(spool)
    ring = _recover_unless_read_only(path, last_offset(spool)) if path is not None else None
    if path is None or ring is None:
        forget_ring(spool)
        return _new_ring(spool, ring_directory, size, workers)
    if ring.stored > ring.taken:
        left = ring.stored - ring.taken
        _log.info("{size} bytes recovered in the ring of {spool}", size=left, spool=str(spool))
    return ring, path


def ring_path(spool: Path) -> Path | None:
    """The file of a spool's ring; None if it has none."""
    name = spool / _NAME
    if name.is_symlink():
        name = Path(os.readlink(name))
    return name if name.is_file() else None


def link_ring(spool: Path, path: Path) -> None:
    """Create the spool's entry for its ring."""
    if path != spool / _NAME:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spool / _NAME)
        os.symlink(path, spool / _NAME)


def forget_ring(spool: Path) -> None:
    """Remove a spool's ring; on a file system that has become read-only its file stays."""
    path = ring_path(spool)
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
    (spool / _NAME).unlink(missing_ok=True)


# --- rings of dead proxies -----------------------------------------------------------


def salvage_all(root: Path) -> None:
    """
    Write the content of abandoned rings to their spools below `root`.

    A proxy that starts again recovers its own ring; this is for rings of proxies that
    will not, because their port has changed.  After a failure the ring stays for the next attempt.
    """
    for spool in _spools_with_rings(root):
        try:
            saved = salvage(spool)
        except SpoolBusy:
            continue
        except OSError as error:
            _log.warn("{spool}: the ring could not be recovered: {why}", spool=str(spool), why=error.strerror)
            continue
        if saved:
            _log.info("{size} bytes recovered from the ring of {spool}", size=saved, spool=str(spool))


def salvage(spool: Path) -> int:
    """
    Write the content of a spool's abandoned ring to the spool; how many bytes it held.

    Raises `SpoolBusy` and OSError.
    """
    lock = lock_spool(spool)
    try:
        path = ring_path(spool)
        ring = _recover(path, last_offset(spool)) if path is not None else None
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


# --- unused rings ---------------------------------------------------------------------


def remove_unused(ring_directory: Path, now: float | None = None) -> None:
    """
    Remove rings of this user that nothing will use again, to free their memory.

    Such a ring is empty, or its spool has another ring by now, or has been missing for `UNCLAIMED` seconds.
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
                _log.info("{path}: unused ring removed", path=str(path))


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
    left = unsaved_content(fd)
    if left is None:
        return now - os.fstat(fd).st_mtime > UNCLAIMED  # not a ring: its creation was interrupted
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
    """A ring in memory, as large as the space permits, else one on the disk."""
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
    """A ring of `size` bytes, halved until it fits.  Raises OSError if not even a small one does."""
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
    A file name for a new ring in memory, which the spool's entry already points to.

    It is random: in a directory shared with other users it cannot have been taken in advance.
    """
    path = ring_directory.absolute() / f"{_ring_prefix()}{secrets.token_hex(8)}.ring"
    link_ring(spool, path)
    return path


def _fitting(directory: Path, size: int, workers: int) -> int:
    """How many of `size` bytes the ring of one of `workers` may have, in whole pages."""
    found = os.statvfs(directory)
    share = found.f_bavail * found.f_frsize // (SHARE * workers) // PAGE * PAGE
    return min(size, share)


def _create(path: Path, size: int, start: int, spool: Path) -> Ring:
    # Locked before it gets its name, as `remove_unused` takes any ring without a lock for an abandoned one.
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


def _recover_unless_read_only(path: Path, kept: int) -> Ring | None:
    """Like `_recover`; None, with the file left in place, if its file system has become read-only."""
    try:
        return _recover(path, kept)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        _log.critical(
            "{path}: the content of this ring cannot be recovered: {why}", path=str(path), why=error.strerror
        )
        return None


def _recover(path: Path, kept: int) -> Ring | None:
    """The ring in a file of this user; a file of another user is refused."""
    fd = _open_ours(path)
    try:
        _lock(fd, path)
        return Ring.recover(fd, kept)
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
    """Lock a file until every duplicate of `fd` is closed; the mapping of a ring holds one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpoolBusy(f"{path}: another process writes this spool") from None
