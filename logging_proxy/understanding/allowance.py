"""What understanding one body may cost: what is read is hostile, and its text is worth a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable

TEXT_SECONDS = 0.5
"""Processor time for the text of one body; 16 MiB of an ordinary one take a fifth of it."""

STEP = 64 << 10
"""Characters between two looks at the clock."""

PIECE = 64
"""What each piece of text costs besides its characters, in characters."""


class Allowance:
    """
    The processor time that a loop over one body has.

    The time of the thread is counted and not the clock's: a machine that is busy with something else is no
    reason to leave text out.  It begins with the first look, so that a small body costs no look at all.
    """

    def __init__(
        self, seconds: float = TEXT_SECONDS, now: Callable[[], float] = time.thread_time, step: int = STEP
    ) -> None:
        self._seconds = seconds
        self._now = now
        self._step = step
        self._spent = 0
        self._until: float | None = None

    def spend(self, size: int) -> bool:
        """Counts a piece of so many characters that is about to be read; False when the time is over."""
        self._spent += size + PIECE
        return self._spent < self._step or self._is_left()

    def _is_left(self) -> bool:
        now = self._now()
        if self._until is None:
            self._until = now + self._seconds
        if now < self._until:
            self._spent = 0
            return True
        return False
