"""A budget of processor time for one body: bodies are untrusted, so every loop over one is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable

TEXT_SECONDS = 0.5
"""Processor time for the text of one body.  An ordinary body of the maximum size stays far below it."""

STEP = 64 << 10
"""Characters read between two checks of the clock."""

PIECE = 64
"""The fixed cost of a piece of text, in characters, added to its length."""


class Allowance:
    """
    A budget of processor time for a loop over one body.

    Thread time is measured, not wall-clock time: load on the machine must not shorten the text.
    The clock is first read after `step` characters, so a small body never reads it.
    """

    def __init__(
        self, seconds: float = TEXT_SECONDS, now: Callable[[], float] = time.thread_time, step: int = STEP
    ) -> None:
        self._seconds = seconds
        self._now = now
        self._step = step
        self._spent = 0
        self._until: float | None = None
        self.is_spent = False
        """Whether something was refused."""

    def spend(self, size: int) -> bool:
        """Charge a piece of `size` characters before reading it.  False once the budget is spent."""
        self._spent += size + PIECE
        return self._spent < self._step or self._is_left()

    def _is_left(self) -> bool:
        now = self._now()
        if self._until is None:
            self._until = now + self._seconds
        if now < self._until:
            self._spent = 0
            return True
        self.is_spent = True
        return False
