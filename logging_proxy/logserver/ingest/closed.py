"""
Spools in which nothing happens: closed, so that they cost no descriptor, and looked at now and then.

Those of proxies elsewhere are removed in the end.  Anybody who may send can give new names, and a
proxy with a disk that does not last has a new one at each start.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from logging_proxy.logserver.ingest.assembly import Tally
from logging_proxy.recording.segments import segment_name, segment_start

REMOTE = "remote-"
"""How the names of spools begin that came from elsewhere."""

MOST_REMOTE = 256
"""Of these there are no more; each worker of a proxy has one."""

FEW = 16
"""Spools that stay open though nothing happens in them: to open one costs reading its last segment."""

MOST_AT_ONCE = 64
"""Remote spools that are opened in one look around: most of them are closed again before the next."""

IDLE = 1.0
"""Seconds without a byte after which one of more than that is closed."""

IDLE_UNDER_WAY = 60.0
"""The same where exchanges are under way."""

GONE = 24 * 3600.0
"""Seconds after which a remote spool in which nothing happens is removed; its proxy would begin another."""

GONE_IF_MANY = 60.0
"""The same while there are nearly as many as there may be."""


def is_remote(path: str) -> bool:
    return os.path.basename(path).startswith(REMOTE)


def newest_segment(path: str) -> tuple[int, int]:
    """Its start and its size, or what no segment has."""
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
    """Paths of spools, each with what was known of it when it was closed."""

    def __init__(self) -> None:
        self._closed: dict[str, _Closed] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._closed

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def open_exchanges(self) -> int:
        """Exchanges under way in them."""
        return sum(each.open for each in self._closed.values())

    @property
    def tally(self) -> Tally:
        """What was counted in all of them."""
        tally = Tally()
        for each in self._closed.values():
            tally.add(each.tally)
        return tally

    def add(self, path: str, newest: tuple[int, int], since: float, open: int, tally: Tally) -> None:
        """`newest` is what `newest_segment` said before the last look; nothing has come `since`."""
        self._closed[path] = _Closed(newest, since, open, tally)

    def take_gone(self, found: Collection[str]) -> Tally:
        """Forgets those that are not among the `found`; what was counted in them."""
        tally = Tally()
        for path in [path for path in self._closed if path not in found]:
            tally.add(self._closed.pop(path).tally)
        return tally

    def take_if_changed(self, path: str) -> bool:
        """Whether something has come, and it is closed no more.  May raise OSError."""
        if path in self._closed and newest_segment(path) != self._closed[path].newest:
            del self._closed[path]
            return True
        return False

    def take_idle(self, now: float, others: Collection[str]) -> list[str]:
        """Those that are due to be removed; `others` are spools that are not closed."""
        remote = [(each.since, path) for path, each in self._closed.items() if is_remote(path)]
        many = len(remote) + sum(map(is_remote, others)) >= MOST_REMOTE - FEW
        patience = GONE_IF_MANY if many else GONE
        due = sorted(path for path in remote if now - path[0] >= patience)
        taken = [path for _, path in (due[:FEW] if many else due)]
        for path in taken:
            del self._closed[path]
        return taken
