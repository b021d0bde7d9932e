"""
A twistd whose spool disk fails as a file says.

    python -m logging_proxy.test.stress.bad_twistd FILE [twistd's arguments]

The file contains the name of an errno such as EIO, or `stall`, or nothing for a healthy disk.  A stalled
call continues when the file changes.  Only the calls of `logging_proxy.recording.disk.Disk` are affected,
which the spool makes; the logging server is another process and uses the real disk.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from logging_proxy.demo import tether
from logging_proxy.recording import disk


class ToldDisk:
    """Applies the fault in the file before every call."""

    def __init__(self, told: Path) -> None:
        self._told = told

    def disk(self) -> disk.Disk:
        """The replacements of the real calls."""
        return disk.Disk(self._open, self._write, self._sync)

    def _fail(self) -> None:
        while (word := self._told.read_text().strip()) == "stall":
            time.sleep(0.02)
        if word:
            number = getattr(errno, word)
            raise OSError(number, os.strerror(number))

    def _open(self, path: Path, flags: int, mode: int) -> int:
        self._fail()
        return os.open(path, flags, mode)

    def _write(self, fd: int, parts: Sequence[bytes | memoryview], at: int) -> int:
        self._fail()
        return os.pwritev(fd, parts, at)

    def _sync(self, fd: int) -> None:
        self._fail()
        os.fdatasync(fd)


def main() -> None:
    """Run twistd with the faulty disk."""
    told = ToldDisk(Path(sys.argv.pop(1)))
    bad = told.disk()
    disk.Disk = lambda: bad  # type: ignore[assignment,misc]
    tether.main()


if __name__ == "__main__":
    main()
