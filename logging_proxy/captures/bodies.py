"""
Reading finished captures of a log directory: names, metadata, bodies.

Only files that we could have written are opened: names of our form, regular, ours, no links.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from logging_proxy.captures.names import CAPTURE_FILE, METADATA

METADATA_LIMIT = 64 << 20
"""A stream's arrival times are megabytes; more than this is none of ours."""

HEAD_ROOM = 1 << 20
"""Heads are read along with bodies; none is longer."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Captures:
    """Reads below one directory descriptor, so that a path that is replaced leads nowhere else."""

    def __init__(self, log_dir: str) -> None:
        self._fd = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def metadata_names(self) -> Iterator[str]:
        """The names of all metadata files, in no order."""
        with os.scandir(self._fd) as entries:
            for entry in entries:
                if entry.name.endswith(METADATA) and CAPTURE_FILE.fullmatch(entry.name):
                    yield entry.name

    def metadata(self, name: str) -> dict[str, Any] | None:
        """A metadata document; None when it is gone or not ours."""
        content = self._read(name, METADATA_LIMIT)
        try:
            document = json.loads(content or b"")
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def body(self, name: str, limit: int) -> bytes:
        """The first `limit` bytes of the body in a `.bin`; empty when it is gone or not ours."""
        content = self._read(name, limit + HEAD_ROOM) or b""
        return content.partition(b"\r\n\r\n")[2][:limit]

    def _read(self, name: str, limit: int) -> bytes | None:
        if not CAPTURE_FILE.fullmatch(name):
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO):
                raise
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return None
            return os.read(fd, min(limit, found.st_size))
        finally:
            os.close(fd)
