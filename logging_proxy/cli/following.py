"""
Turns events of the live feed into rows: finished exchanges, and those under way.

Without I/O: events and times in, rows out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from logging_proxy.cli.sources import Document
from logging_proxy.index import Filters
from logging_proxy.index.values import fits

WAIT_FOR_INDEX = 2.0
"""Seconds that a finished row waits for the fields that indexing adds, such as the model."""

MOST = 10_000
"""Maximum number of rows to remember, and of ids of rows that were shown."""


@dataclass(slots=True)
class _Followed:
    row: Document
    seen: float
    """Time of the last event."""
    sizes: dict[str, int] = field(default_factory=dict)


class Following:
    """Tracks the exchanges under way from the events of the live feed."""

    def __init__(self) -> None:
        self._open: dict[str, _Followed] = {}
        self._ended: dict[str, _Followed] = {}
        self._shown: dict[str, None] = {}
        self._first = ""
        """Start of the oldest listed exchange.  These times sort correctly as text."""

    def start_with(self, rows: Iterator[Document] | list[Document], now: float) -> None:
        """Take in the exchanges listed before the first event."""
        for row in rows:
            self._first = str(row.get("started_at"))
            if row.get("outcome") is None:
                self._open.setdefault(str(row.get("id")), _Followed(row, now))
            else:
                self._show(str(row.get("id")))

    def take(self, event: Mapping[str, object], now: float) -> Iterator[Document]:
        """Process an event; yields the rows that it completes."""
        id, row = str(event.get("id")), event.get("exchange")
        if event.get("type") == "piece":
            self._grow(id, event, now)
        elif not isinstance(row, dict) or id in self._shown:
            return
        elif event["type"] in ("start", "response"):
            self._open[id] = self._updated(id, row, now)
        elif event["type"] == "end":
            self._ended[id] = self._updated(id, row, now)
            self._open.pop(id, None)
        elif event["type"] == "indexed":
            self._open.pop(id, None)
            self._ended.pop(id, None)
            self._show(id)
            yield row

    def after_gap(self, rows: Iterator[Document], now: float) -> list[Document]:
        """Resume after missed events: from a list, newest first, return the rows ended since, in order."""
        self._open.clear()
        missed = []
        for row in rows:
            id = str(row.get("id"))
            if str(row.get("started_at")) < self._first:
                break
            if row.get("outcome") is None:
                self._open[id] = _Followed(row, now)
            elif id not in self._shown:
                missed.append(row)
                self._show(id)
        self._ended.clear()
        return missed[::-1]

    def due(self, now: float) -> Iterator[Document]:
        """Finished rows whose `indexed` event has not come within `WAIT_FOR_INDEX`."""
        for id, followed in list(self._ended.items()):
            if now - followed.seen < WAIT_FOR_INDEX:
                return
            del self._ended[id]
            self._show(id)
            yield followed.row

    def under_way(self, now: float) -> list[Document]:
        """The rows under way, oldest first, with their current sizes and durations."""
        return [_current(followed, now) for followed in self._open.values()]

    def _grow(self, id: str, event: Mapping[str, object], now: float) -> None:
        followed = self._open.get(id)
        offset, size = event.get("offset"), event.get("size")
        if followed is not None and isinstance(offset, int) and isinstance(size, int):
            followed.sizes[str(event.get("side"))] = offset + size
            time = event.get("time")
            if isinstance(time, int):
                followed.row = {**followed.row, "processing_time_ms": time / 1000}
            followed.seen = now

    def _updated(self, id: str, row: Document, now: float) -> _Followed:
        before = self._open.get(id)
        return _Followed(row, now, before.sizes if before else {})

    def _show(self, id: str) -> None:
        self._shown[id] = None
        if len(self._shown) > MOST:
            del self._shown[next(iter(self._shown))]
        if len(self._open) > MOST:
            del self._open[next(iter(self._open))]


def _current(followed: _Followed, now: float) -> Document:
    row = dict(followed.row)
    for side, size in followed.sizes.items():
        half = row.get(side)
        known = half.get("bytes") if isinstance(half, dict) else 0
        row[side] = {"bytes": max(size, known or 0)}
    elapsed = max(0.0, now - followed.seen) * 1000
    row["processing_time_ms"] = float(row.get("processing_time_ms") or 0) + elapsed
    return row


def is_wanted(row: Document, wanted: Filters) -> bool:
    """Whether a row passes the filters that can be decided from a row."""
    return all(fits(name, row.get(name), value) for name, value in wanted.where.items())
