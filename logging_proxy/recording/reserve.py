"""
File descriptors held in reserve for the spool.

A process without a free descriptor cannot open the next segment, and could record nothing
until a connection is closed.  So a few descriptors are kept open, and are released when
the spool needs them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

SIZE = 4
"""One each for a segment, its second descriptor for direct I/O, its directory, and listing the directory."""

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

T = TypeVar("T")


class Reserve:
    """Safe for use by several threads.  Holds nothing before `fill`, after `close`, or while used up."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Open the missing descriptors, as far as the process may have them."""
        with self._lock, suppress(OSError):
            while len(self._held) < SIZE:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def run(self, step: Callable[[], T]) -> T:
        """
        The result of `step`, tried a second time with the reserve released if no descriptor was free.

        A `step` that raises OSError for want of a descriptor must have changed nothing.
        """
        try:
            return step()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
        self.close()
        try:
            return step()
        finally:
            self.fill()

    def close(self) -> None:
        """Release all descriptors."""
        with self._lock:
            while self._held:
                os.close(self._held.pop())

    def __del__(self) -> None:
        self.close()
