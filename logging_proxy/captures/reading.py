"""Opening the files of captures for readers: only what we could have written is opened."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from logging_proxy.captures.names import CAPTURE_FILE

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES)

METADATA_LIMIT = 64 << 20


@dataclass(slots=True)
class OpenFile:
    """A `.bin` that is open for reading.  Blocks on the disk, so it is used from threads."""

    fd: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self.fd, length, start)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_capture(log_dir: str, name: str) -> OpenFile | None:
    """The `.bin` of this name; None when it is gone, or is no file of ours."""
    return _open(log_dir, name) if _is_bin(name) else None


def read_metadata(log_dir: str, bin_name: str) -> dict[str, Any] | None:
    """The metadata beside a `.bin`; None when they are gone or not ours."""
    if not _is_bin(bin_name):
        return None
    file = _open(log_dir, bin_name.removesuffix(".bin") + "_metadata.json")
    if file is None:
        return None
    try:
        document = json.loads(file.read(0, min(file.size, METADATA_LIMIT)))
    except (ValueError, RecursionError):
        return None
    finally:
        file.close()
    return document if isinstance(document, dict) else None


def _is_bin(name: str) -> bool:
    return name.endswith(".bin") and CAPTURE_FILE.fullmatch(name) is not None


def _open(log_dir: str, name: str) -> OpenFile | None:
    directory = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    finally:
        os.close(directory)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return OpenFile(fd, found.st_size)
    os.close(fd)
    return None
