"""
Giving way to a proxy through which a large body passes.

Its bytes go to the disk that ours go to, and on a machine with one processor the
two share that as well: a body of a GiB takes half as long again while the logging
server works beside it.  What is in the spool is safe, so it can wait a moment.
"""

from __future__ import annotations

from collections.abc import Callable

HURRY = 128 << 20
"""Bytes a second that come in when we had better wait; what LLM clients send does not come near it."""

PATIENCE = 5.0
"""Seconds that a spool is left alone at most, before all of the rush is over."""

LOOK_INTERVAL = 0.1

Lengths = Callable[[], tuple[int, int]]
"""Up to which stream offsets a spool is read, and about is written."""


class Courtesy:
    """Decides of one spool when not to read it."""

    def __init__(self, most: int) -> None:
        """Reading stays behind by at most `most` bytes."""
        self._most = most
        self._looked_at = float("-inf")
        self._written = 0
        self._rush_since: float | None = None

    def gives_way(self, now: float, lengths: Lengths) -> bool:
        """Whether to leave the spool alone now.  May raise OSError, if `lengths` does."""
        passed = now - self._looked_at
        if passed >= LOOK_INTERVAL:
            self._look(now, passed, *lengths())
        return self._rush_since is not None and now < self._rush_since + PATIENCE

    def _look(self, now: float, passed: float, read: int, written: int) -> None:
        came = written - self._written
        self._looked_at, self._written = now, written
        if came < HURRY * passed:
            self._rush_since = None
        elif self._rush_since is None:
            self._rush_since = now
        if written - read > self._most and self._rush_since is not None:
            self._rush_since = now - PATIENCE
