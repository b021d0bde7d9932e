"""
The log directory: the only module that writes and deletes the files of captures.

Every name is built from an id and a time, opened relative to a directory descriptor, created exclusively,
and never followed if it is a link.  Existing files are not truncated; files of other users are not opened.

A half's base name (``2025-09-13_02-11-09.123_092d0424_request``) belongs to the exchange that created its
``.bin``.  `LogDirectory.claim` assigns it, and finds the same one after a crash, so that a replay of the
spool duplicates nothing.

Metadata of at most one page are written in place with one write; larger ones, of which a reader could see
a part, get a temporary name first.  After a crash an unfinished file of the first kind is not valid JSON:
readers, and `claim`, treat it as missing.

Uploads stay in `uploads.files` until they are complete.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from logging_proxy.captures.names import CAPTURE_FILE
from logging_proxy.logserver.store.system import CREATE, System, usual_system
from logging_proxy.recording.aligned import DirectWriter
from logging_proxy.recording.directories import check_private, make_directory_apart

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

MAX_NAMES = 32
"""
The most numbered names for exchanges with the same millisecond and the same first 8 hex digits.

More than this is an attack, not chance: further names have a hash in place of the digits.
"""

NOT_OURS = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOENT)
"""Errors of opening a path that another user or program has replaced."""

_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([0-9a-f-]{36})"')
"""The beginning of a metadata file, with any spacing."""


PAGE = 4096
"""Bytes that a reader sees completely or not at all."""


class Found(enum.Enum):
    """The result of a look at the name of a metadata file."""

    NOTHING = 0
    OURS = 1
    UNFINISHED = 2
    """An empty file, zeros, or the beginning of our metadata, as after a crash or on a full disk."""
    FOREIGN = 3


_FREE = (Found.NOTHING, Found.UNFINISHED)


@dataclass(slots=True)
class Claim:
    """
    A base name that belongs to one half.

    `fd` is the open `.bin`; None if `stored`, because the half was published before a restart.
    """

    base: str
    fd: int | None
    stored: bool = False


class LogDirectory:
    """
    The directory in which captures are kept, created with mode 0700 if it is missing.

    Not thread-safe: one thread does all storage work.
    """

    def __init__(self, path: str, system: System | None = None) -> None:
        self.path = os.path.abspath(path)
        self._system = system or usual_system()
        self._large = DirectWriter(lambda fd, data, at: self._system.pwrite(fd, data, at))
        self._fd = -1
        self._in_use: set[str] = set()

    @property
    def system(self) -> System:
        """The system calls of this directory, which `UploadFiles` uses as well."""
        return self._system

    # --- the directory itself

    def open(self) -> None:
        """Opens the directory, and creates it if it is missing.  Raises `UnsafeDirectory` or OSError."""
        if self._fd >= 0:
            return
        make_directory_apart(Path(self.path))
        fd = self._system.open(self.path, _DIRECTORY)
        try:
            check_private(self.path, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def check(self) -> None:
        """Raises OSError, and closes the directory, if the path leads to another directory by now."""
        try:
            there, here = os.stat(self.path), os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                return
        except OSError:
            pass
        self.close()
        raise FileNotFoundError(errno.ENOENT, "the log directory was removed or replaced", self.path)

    def probe(self) -> None:
        """Raises OSError unless a small file can be written and synced here now."""
        name = f".probe-{os.getpid()}.tmp"
        fd = self._create_over(name)
        try:
            self.write(fd, bytes(4096), 0)
            self._system.fdatasync(fd)
        finally:
            self._system.close(fd)
            self._system.unlink(name, dir_fd=self._fd)

    def open_folder(self, name: str) -> int:
        """The descriptor, to be closed, of a subdirectory: created if it is missing, never a link."""
        try:
            os.mkdir(name, 0o700, dir_fd=self._fd)
        except FileExistsError:
            pass
        return self._system.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)

    # --- names

    def claim(self, stamp: str, id: str, side: str, head: bytes) -> Claim:
        """
        Assigns a name to a half of exchange `id`, whose file begins with `head`.

        The same arguments find the same file after a crash.
        """
        for base in _names(stamp, id, side):
            if base in self._in_use:
                continue
            claim = self._try(base, id, head)
            if claim is not None:
                self._in_use.add(base)
                return claim
        raise FileExistsError(errno.EEXIST, "no free name", base)

    def reclaim(self, base: str, id: str) -> bool:
        """Takes over a name from a checkpoint; true if the half was published since."""
        self._in_use.add(base)
        return self.found_at(base, id) is Found.OURS

    def release(self, base: str) -> None:
        self._in_use.discard(base)

    def _try(self, base: str, id: str, head: bytes) -> Claim | None:
        try:
            fd = self._system.open(f"{base}.bin", CREATE | os.O_RDWR, 0o600, dir_fd=self._fd)
        except FileExistsError:
            return self._recognise(base, id, head)
        found = self.found_at(base, id)
        if found in _FREE:
            return Claim(base, fd)
        self._system.close(fd)
        self._system.unlink(f"{base}.bin", dir_fd=self._fd)
        return Claim(base, None, stored=True) if found is Found.OURS else None

    def _recognise(self, base: str, id: str, head: bytes) -> Claim | None:
        """Claims an existing `.bin` if its metadata have our id, or it is unfinished and matches `head`."""
        found = self.found_at(base, id)
        if found not in _FREE:
            return Claim(base, None, stored=True) if found is Found.OURS else None
        try:
            fd = self.reopen(base)
        except OSError as error:
            if error.errno in NOT_OURS:
                return None
            raise
        if self._begins_like(fd, head):
            return Claim(base, fd)
        self._system.close(fd)
        return None

    def _begins_like(self, fd: int, head: bytes) -> bool:
        found = os.fstat(fd)
        if found.st_nlink != 1:
            return False
        if not head:
            return found.st_size == 0
        return head.startswith(self._system.pread(fd, len(head), 0))

    # --- whole files

    def put(self, base: str, data: bytes) -> bool:
        """Creates a `.bin` with `data`, and reserves its name; False if the name exists."""
        if base in self._in_use or not self.put_file(f"{base}.bin", data):
            return False
        self._in_use.add(base)
        return True

    def put_file(self, name: str, data: bytes) -> bool:
        """Creates a file with `data`; False if the name exists.  For metadata of at most a `PAGE`."""
        return self._system.create(name, data, self._fd)

    def withdraw(self, base: str) -> None:
        """Deletes a `.bin` that is not needed, and releases its name."""
        self.release(base)
        self._system.unlink(f"{base}.bin", dir_fd=self._fd)

    def take_in(self, folder: int, name: str, base: str) -> None:
        """Moves the file `name` of `folder` over the `.bin` of a claimed name."""
        self._system.rename(name, f"{base}.bin", src_dir_fd=folder, dst_dir_fd=self._fd)

    def give_back(self, folder: int, name: str, base: str) -> None:
        """Reverts `take_in` and the claim."""
        self.release(base)
        self._system.rename(f"{base}.bin", name, src_dir_fd=self._fd, dst_dir_fd=folder)

    def found_at(self, base: str, id: str) -> Found:
        """What exists under the name of a half's metadata."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = self._system.open(f"{base}_metadata.json", flags, dir_fd=self._fd)
        except FileNotFoundError:
            return Found.NOTHING
        except OSError as error:
            if error.errno in NOT_OURS:
                return Found.FOREIGN
            raise
        try:
            return self._found(fd, id)
        finally:
            self._system.close(fd)

    def _found(self, fd: int, id: str) -> Found:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return Found.FOREIGN
        beginning = self._system.pread(fd, PAGE, 0)
        if found.st_nlink == 1 and found.st_size <= PAGE and not beginning.endswith(b"\n"):
            written, ours = beginning.rstrip(b"\0"), f'{{"id":"{id}"'.encode("ascii")
            if written[: len(ours)] == ours[: len(written)]:
                return Found.UNFINISHED
        match = _ID.match(beginning)
        return Found.OURS if match and match[1].decode("ascii") == id else Found.FOREIGN

    # --- bytes

    def reopen(self, base: str) -> int:
        """Opens an existing `.bin`.  Raises one of `NOT_OURS` unless it is a regular file of this user."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = self._system.open(f"{base}.bin", flags, dir_fd=self._fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            return fd
        self._system.close(fd)
        raise PermissionError(errno.EPERM, "not a file of ours", base)

    def write(self, fd: int, data: bytes | memoryview, at: int) -> None:
        """Writes all of `data` at offset `at`; may be repeated."""
        written = self._large.write(fd, data, at)
        if written < len(data):
            self._system.write(fd, data[written:] if written else data, at + written)

    def read(self, fd: int, start: int, length: int) -> Iterator[bytes]:
        """Up to `length` bytes from `start`, in chunks."""
        while length > 0:
            chunk = self._system.pread(fd, min(length, 1 << 20), start)
            if not chunk:
                return
            start, length = start + len(chunk), length - len(chunk)
            yield chunk

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def close_file(self, fd: int) -> None:
        self._system.close(fd)

    # --- metadata

    def write_temporary(self, base: str, id: str, data: bytes) -> str:
        """Writes the metadata of a half under a temporary name, which the caller has to sync."""
        name = _temporary(base, id)
        fd = self._create_over(name)
        try:
            self.write(fd, data, 0)
        finally:
            self._system.close(fd)
        return name

    def publish(self, base: str, id: str) -> None:
        """Renames the temporary metadata to their final name."""
        name = _temporary(base, id)
        self._system.rename(name, f"{base}_metadata.json", src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def sync_files(self, fds: Iterable[int]) -> None:
        for fd in fds:
            self._system.fdatasync(fd)

    def sync_named(self, names: Iterable[str]) -> None:
        """The same for files that are not open; a missing one is skipped."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        for name in names:
            try:
                fd = self._system.open(name, flags, dir_fd=self._fd)
            except OSError as error:
                if error.errno in NOT_OURS:
                    continue
                raise
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    self._system.fdatasync(fd)
            finally:
                self._system.close(fd)

    def sync_everything(self) -> None:
        """Syncs the whole file system, which is cheaper than many single syncs."""
        self._system.sync_filesystem(self._fd)

    def sync_names(self) -> None:
        self._system.fsync(self._fd)

    # --- deleting

    def delete(self, name: str) -> int:
        """Deletes a file of a capture; returns the bytes that this freed, 0 if it was missing."""
        if not CAPTURE_FILE.fullmatch(name):
            return 0
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return 0
            self._system.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return 0
        return found.st_size

    def _create_over(self, name: str) -> int:
        """Creates a file, in place of a leftover from before a restart: the name contains our whole id."""
        flags = CREATE | os.O_WRONLY
        try:
            return self._system.open(name, flags, 0o600, dir_fd=self._fd)
        except FileExistsError:
            self._system.unlink(name, dir_fd=self._fd)
            return self._system.open(name, flags, 0o600, dir_fd=self._fd)


def _names(stamp: str, id: str, side: str) -> Iterator[str]:
    """The base names that a half may have, in the order of preference, which never changes."""
    for number in range(1, MAX_NAMES):
        suffix = "" if number == 1 else f"-{number}"
        yield f"{stamp}_{id[:8]}{suffix}_{side}"
    for number in range(MAX_NAMES):
        digest = blake2b(f"{id} {number}".encode("ascii"), digest_size=4).hexdigest()
        yield f"{stamp}_{digest}_{side}"


def _temporary(base: str, id: str) -> str:
    return f".{base}_{id}.tmp"
