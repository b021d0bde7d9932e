"""
Reading the captures in a log directory: names, metadata, bodies.

Only files that the logging server could have written are opened: regular files of this user, with the
name of a capture's file, and never through a symbolic link.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from logging_proxy.captures.names import BINARY, CAPTURE_FILE, METADATA

METADATA_LIMIT = 64 << 20
"""Bytes of a metadata file that are read; the arrival times of a long stream take megabytes."""

HEAD_ROOM = 1 << 20
"""Bytes that are read along with a body for the head before it; no head is longer."""

NOT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOTDIR)
"""Errors that a reader raises for reasons that are not one file's: descriptors, or the directory is gone."""

_BEGINNING = 4096
"""Bytes of a metadata file in which the start is found, unless its URLs are very long."""

_STARTED = re.compile(rb'"started_at":\s*"([0-9TZ:.+-]+)"')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NOT_OURS = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM)


@dataclass(slots=True)
class OpenFile:
    """A `.bin` that is open for reading.  Its methods block on the disk."""

    fd: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self.fd, length, start)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class CaptureReader:
    """
    Reads the captures of one log directory, which need not exist yet.  Nothing stays open between calls.

    Methods block on the disk and may be called from any thread.  A file that is gone, or that is not a
    capture's, is reported as missing.  OSError is raised when there is no directory, and when the disk or
    the system fails.
    """

    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir

    def check(self) -> None:
        """Raises OSError when there is no directory that can be read."""
        os.close(os.open(self._log_dir, _DIRECTORY))

    def metadata_names(self) -> Iterator[str]:
        """The names of all metadata files, in no order."""
        with os.scandir(self._log_dir) as entries:
            for entry in entries:
                if entry.name.endswith(METADATA) and CAPTURE_FILE.fullmatch(entry.name):
                    yield entry.name

    def metadata(self, name: str) -> dict[str, Any] | None:
        """The content of a metadata file; None when it is missing, or no JSON object."""
        file = self._open(name) if name.endswith(METADATA) else None
        if file is None:
            return None
        try:
            document = json.loads(file.read(0, min(file.size, METADATA_LIMIT)))
        except (ValueError, RecursionError):
            return None
        finally:
            file.close()
        return document if isinstance(document, dict) else None

    def exists(self, name: str) -> bool:
        """Whether there is such a file.  If that cannot be told, there is."""
        try:
            os.stat(os.path.join(self._log_dir, name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        return True

    def started(self, name: str) -> int | None:
        """The start in a metadata file, in microseconds since 1970, from its beginning; None if it has none."""
        file = self._open(name) if name.endswith(METADATA) else None
        if file is None:
            return None
        try:
            found = _STARTED.search(file.read(0, _BEGINNING)) or _STARTED.search(
                file.read(0, min(file.size, METADATA_LIMIT))
            )
        finally:
            file.close()
        try:
            start = None if found is None else datetime.fromisoformat(found[1].decode("ascii"))
            return None if start is None else (start.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            return None

    def open(self, name: str) -> OpenFile | None:
        """The `.bin` of this name, to be closed by the caller; None when it is missing."""
        return self._open(name) if name.endswith(BINARY) else None

    def body(self, name: str, limit: int, start: int = 0) -> bytes:
        """At most `limit` bytes of the body in a `.bin`, from `start`; empty when it is missing."""
        file = self.open(name)
        if file is None:
            return b""
        try:
            if not start:
                content = file.read(0, min(file.size, limit + HEAD_ROOM))
                return content.partition(b"\r\n\r\n")[2][:limit]
            head, blank, _ = file.read(0, min(file.size, HEAD_ROOM)).partition(b"\r\n\r\n")
            return file.read(len(head) + len(blank) + start, limit)
        finally:
            file.close()

    def _open(self, name: str) -> OpenFile | None:
        if not CAPTURE_FILE.fullmatch(name):
            return None
        directory = os.open(self._log_dir, _DIRECTORY)
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        except OSError as error:
            if error.errno in _NOT_OURS:
                return None
            raise
        finally:
            os.close(directory)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            return OpenFile(fd, found.st_size)
        os.close(fd)
        return None
