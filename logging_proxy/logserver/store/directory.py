"""
The log directory: captures are written and deleted here and nowhere else.

Every name is made from our own ids and clock, opened relative to a directory
descriptor, created exclusively and never followed when it is a link.  Nothing
that is there already is truncated, and nothing that is not ours is opened.

A half's base name (``2025-09-13_02-11-09.123_092d0424_request``) belongs to the
exchange that made its ``.bin``.  `LogDirectory.claim` gives it out and, after a
crash, finds its own again, so that a replay of the spool doubles nothing.

Metadata of a page at most are written in place, at once; larger ones, of which a
reader could see a part, under a temporary name first.  What a crash leaves of the
first kind is no JSON: readers take that for no metadata, and so does `claim`.

Messages that are put one by one wait in `upload_files` until they are whole.
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
Exchanges with one millisecond and 8 equal hex digits that have names in a row: one other is a wonder.

Beyond it they are somebody's intent, and get names that cannot be told from their ids.
"""

NOT_OURS = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOENT)
"""Errors of opening what somebody else put under a name of ours."""

_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([0-9a-f-]{36})"')
"""How our metadata begin, however they are spaced."""


PAGE = 4096
"""Bytes that a reader sees all at once or not at all."""


class Found(enum.Enum):
    """What is found where metadata are to be."""

    NOTHING = 0
    OURS = 1
    UNFINISHED = 2
    """The beginning of ours, or nothing or zeros: what a crash or a full disk leaves."""
    FOREIGN = 3


_FREE = (Found.NOTHING, Found.UNFINISHED)


@dataclass(slots=True)
class Claim:
    """
    A base name that is this half's alone.

    `fd` is the open `.bin`, None when `stored`: an earlier life published the
    half already, so there is nothing left to write.
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
        """Whose calls are made; `UploadFiles` makes its own through it as well."""
        return self._system

    # --- the directory itself

    def open(self) -> None:
        """Makes it if need be.  Raises `UnsafeDirectory` or OSError; does nothing when it is open."""
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
        """Raises OSError, and forgets its descriptor, when the path leads elsewhere by now."""
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
        """A directory in this one, made if need be, never a link; its descriptor, to be closed."""
        try:
            os.mkdir(name, 0o700, dir_fd=self._fd)
        except FileExistsError:
            pass
        return self._system.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)

    # --- names

    def claim(self, stamp: str, id: str, side: str, head: bytes) -> Claim:
        """
        A name for a half of exchange `id`, whose file begins with `head`.

        The same arguments after a crash find the same file.
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
        """Takes a name out of a checkpoint; true when the half was published since."""
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
        """Ours when the metadata says so, or when it is unfinished, has one name and begins like ours."""
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
        """A new `.bin` with `data`, its name in use; False when there is something of that name."""
        if base in self._in_use or not self.put_file(f"{base}.bin", data):
            return False
        self._in_use.add(base)
        return True

    def put_file(self, name: str, data: bytes) -> bool:
        """A new file with `data`; False when there is something of that name.  Metadata: at most a `PAGE`."""
        return self._system.create(name, data, self._fd)

    def withdraw(self, base: str) -> None:
        """Takes back a `.bin` that is of no use, and its name."""
        self.release(base)
        self._system.unlink(f"{base}.bin", dir_fd=self._fd)

    def take_in(self, folder: int, name: str, base: str) -> None:
        """The file `name` of `folder` becomes the `.bin` of a claimed name, in place of the one there."""
        self._system.rename(name, f"{base}.bin", src_dir_fd=folder, dst_dir_fd=self._fd)

    def give_back(self, folder: int, name: str, base: str) -> None:
        """Undoes `take_in`, and the claim."""
        self.release(base)
        self._system.rename(f"{base}.bin", name, src_dir_fd=self._fd, dst_dir_fd=folder)

    def found_at(self, base: str, id: str) -> Found:
        """What there is under the name of a half's metadata."""
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
        """A `.bin` that is there: a regular file of ours.  Raises one of `NOT_OURS` otherwise."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = self._system.open(f"{base}.bin", flags, dir_fd=self._fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            return fd
        self._system.close(fd)
        raise PermissionError(errno.EPERM, "not a file of ours", base)

    def write(self, fd: int, data: bytes | memoryview, at: int) -> None:
        """All of `data` at `at`; doing it again changes nothing."""
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
        """The metadata of a half under a temporary name, which is still to be synced."""
        name = _temporary(base, id)
        fd = self._create_over(name)
        try:
            self.write(fd, data, 0)
        finally:
            self._system.close(fd)
        return name

    def publish(self, base: str, id: str) -> None:
        """Gives the temporary metadata its name."""
        name = _temporary(base, id)
        self._system.rename(name, f"{base}_metadata.json", src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def sync_files(self, fds: Iterable[int]) -> None:
        for fd in fds:
            self._system.fdatasync(fd)

    def sync_named(self, names: Iterable[str]) -> None:
        """The same for files that are not open; one that is gone needs nothing more."""
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
        """All files at once: cheaper than many single syncs."""
        self._system.sync_filesystem(self._fd)

    def sync_names(self) -> None:
        self._system.fsync(self._fd)

    # --- deleting

    def delete(self, name: str) -> int:
        """Deletes a file of a capture; the bytes that this freed, 0 when it was gone."""
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
        """A new file; what an earlier life left under this name goes (the name holds our whole id)."""
        flags = CREATE | os.O_WRONLY
        try:
            return self._system.open(name, flags, 0o600, dir_fd=self._fd)
        except FileExistsError:
            self._system.unlink(name, dir_fd=self._fd)
            return self._system.open(name, flags, 0o600, dir_fd=self._fd)


def _names(stamp: str, id: str, side: str) -> Iterator[str]:
    """The base names that a half may have, the best first, always in the same order."""
    for number in range(1, MAX_NAMES):
        suffix = "" if number == 1 else f"-{number}"
        yield f"{stamp}_{id[:8]}{suffix}_{side}"
    for number in range(MAX_NAMES):
        digest = blake2b(f"{id} {number}".encode("ascii"), digest_size=4).hexdigest()
        yield f"{stamp}_{digest}_{side}"


def _temporary(base: str, id: str) -> str:
    return f".{base}_{id}.tmp"
