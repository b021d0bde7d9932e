"""
Backing off while a large body passes through the proxy.

The proxy and the logging server share the disk, and on a small machine the processor, so reading the spool
at the same time slows down the proxy's client.  Bytes in the spool are safe and can wait for a moment.
"""

from __future__ import annotations

from collections.abc import Callable

HURRY = 128 << 20
"""Bytes a second above which a spool is left alone; ordinary LLM traffic stays far below."""

PATIENCE = 5.0
"""The longest time in seconds for which a spool is left alone while the rush goes on."""

LOOK_INTERVAL = 0.1

Lengths = Callable[[], tuple[int, int]]
"""The stream offsets up to which a spool is read, and is written (approximately)."""


class Backoff:
    """Decides when one spool is not read."""

    def __init__(self, most: int) -> None:
        """The backlog that this causes is at most `most` bytes."""
        self._most = most
        self._looked_at = float("-inf")
        self._written = 0
        self._rush_since: float | None = None

    def should_wait(self, now: float, lengths: Lengths) -> bool:
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
