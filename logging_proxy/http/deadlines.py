"""
Deadlines of many connections, checked by one timer.

A `callLater` for each wait would cost more than the rest of a small exchange's
bookkeeping.  A connection only sets an attribute, its deadline; one timer
checks all of them twice a second, and runs only while there are any.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

NEVER = float("inf")

INTERVAL = 0.5
"""Seconds between two checks: every time-out may be late by as much."""


class Watched(Protocol):
    deadline: float
    """The time of the time-out, in the clock's seconds; `NEVER` while there is none."""

    def timedOut(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """
    Calls `timedOut` on every watched object that has passed its deadline.

    The deadline is reset to `NEVER` before the call.  An exception is logged and affects no other object.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watched: set[Watched] = set()
        self._call: IDelayedCall | None = None
        self.now = clock.seconds
        """The clock of the deadlines."""

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)
        if self._call is None:
            self._call = self._clock.callLater(INTERVAL, self._look)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)
        if not self._watched and self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = self._clock.callLater(INTERVAL, self._look)
        now = self.now()
        for watched in [each for each in self._watched if each.deadline <= now]:
            # Checked again: an earlier time-out in this loop may have ended or prolonged the wait.
            if watched.deadline <= now and watched in self._watched:
                watched.deadline = NEVER
                with self._log.failuresHandled("while {watched!r} timed out", watched=watched):
                    watched.timedOut()
