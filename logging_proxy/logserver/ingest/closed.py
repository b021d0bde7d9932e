"""
Idle spools: closed, so that they hold no descriptors, and checked for new bytes from time to time.

Idle spools of remote proxies are removed after a while.  Otherwise they would accumulate: a sender may choose
any name, and a proxy without a persistent disk has a new name after each start.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from logging_proxy.logserver.ingest.assembly import Tally
from logging_proxy.recording.segments import segment_name, segment_start

REMOTE = "remote-"
"""The prefix of the names of remote spools."""

MOST_REMOTE = 256
"""The most remote spools; each worker of a proxy has one."""

OPEN_IDLE = 16
"""Idle spools that stay open, because opening one means reading its last segment."""

MOST_OPENED = 64
"""Remote spools that are opened in one scan of the spool root; most are closed before the next scan."""

IDLE_AFTER = 1.0
"""Seconds without a new byte after which a spool is idle."""

IDLE_AFTER_UNDER_WAY = 60.0
"""The same for a spool with exchanges under way."""

REMOVE_AFTER = 24 * 3600.0
"""Seconds after which an idle remote spool is removed; its proxy would begin a new one."""

REMOVE_AFTER_IF_MANY = 60.0
"""The same while the number of remote spools is near its limit."""


def is_remote(path: str) -> bool:
    return os.path.basename(path).startswith(REMOTE)


def newest_segment(path: str) -> tuple[int, int]:
    """Start offset and size of the newest segment; (-1, 0) without one."""
    starts = [start for name in os.listdir(path) if (start := segment_start(name)) is not None]
    if not starts:
        return -1, 0
    try:
        return max(starts), os.stat(os.path.join(path, segment_name(max(starts)))).st_size
    except FileNotFoundError:
        return -1, 0


@dataclass(frozen=True, slots=True)
class _Closed:
    newest: tuple[int, int]
    since: float
    open: int
    tally: Tally


class ClosedSpools:
    """The closed spools by path, with the state of each at the time when it was closed."""

    def __init__(self) -> None:
        self._closed: dict[str, _Closed] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._closed

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def open_exchanges(self) -> int:
        """The number of exchanges under way in closed spools."""
        return sum(each.open for each in self._closed.values())

    @property
    def tally(self) -> Tally:
        """The sum of the tallies of all closed spools."""
        tally = Tally()
        for each in self._closed.values():
            tally.add(each.tally)
        return tally

    def add(self, path: str, newest: tuple[int, int], since: float, open: int, tally: Tally) -> None:
        """`newest` is the `newest_segment` before the last read; `since` is the time of the last new byte."""
        self._closed[path] = _Closed(newest, since, open, tally)

    def take_gone(self, found: Collection[str]) -> Tally:
        """Forgets the spools that are not among the `found`, and returns the sum of their tallies."""
        tally = Tally()
        for path in [path for path in self._closed if path not in found]:
            tally.add(self._closed.pop(path).tally)
        return tally

    def take_if_changed(self, path: str) -> bool:
        """Forgets a spool with new bytes, which is to be opened; whether it was one.  May raise OSError."""
        if path in self._closed and newest_segment(path) != self._closed[path].newest:
            del self._closed[path]
            return True
        return False

    def take_idle(self, now: float, others: Collection[str]) -> list[str]:
        """Forgets the spools that are due to be removed, and returns them; `others` are the open spools."""
        remote = [(each.since, path) for path, each in self._closed.items() if is_remote(path)]
        many = len(remote) + sum(map(is_remote, others)) >= MOST_REMOTE - OPEN_IDLE
        patience = REMOVE_AFTER_IF_MANY if many else REMOVE_AFTER
        due = sorted(path for path in remote if now - path[0] >= patience)
        taken = [path for _, path in (due[:OPEN_IDLE] if many else due)]
        for path in taken:
            del self._closed[path]
        return taken
