"""
Descriptors that are kept for the spool.

A process that has no descriptor left cannot open the next segment, and what passes
would go unrecorded until somebody closes a connection.  So a few descriptors are
held open for nothing, and are let go when the spool needs them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

SIZE = 4
"""For a segment, once more past the page cache, its directory, and one to list it."""

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

T = TypeVar("T")


class Reserve:
    """May be used by several threads; holds nothing before `fill`, after `close`, or when it is gone."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Hold as many as there should be, or as there are."""
        with self._lock, suppress(OSError):
            while len(self._held) < SIZE:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def run(self, step: Callable[[], T]) -> T:
        """
        What `step` gives, which may have what is held if there are no other descriptors.

        It is tried again then, and must have changed nothing when it raised OSError for that reason.
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
        """Let go of all."""
        with self._lock:
            while self._held:
                os.close(self._held.pop())

    def __del__(self) -> None:
        self.close()
