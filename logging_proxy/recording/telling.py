"""Reads, from a ring, why its proxy cannot write the spool: the spool's own disk may refuse."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from logging_proxy.recording.disk import PRIVATE
from logging_proxy.recording.ring import MAGIC, TROUBLE
from logging_proxy.recording.rings import ring_path

_MAGIC = slice(24, 32)


def told_trouble(spool: str) -> str:
    """Why the proxy cannot write its spool; empty when it can, or if that is not known."""
    try:
        path = ring_path(Path(spool))
        return "" if path is None else _told(path)
    except OSError:
        return ""


def _told(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | PRIVATE)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            return ""
        page = os.pread(fd, TROUBLE.stop, 0)
    finally:
        os.close(fd)
    if int.from_bytes(page[_MAGIC], "little") != MAGIC:
        return ""
    return page[TROUBLE].rstrip(b"\0").decode("utf-8", "replace")
