"""
Exchanges that are under way, or have ended and are not in the index yet.

The storage thread reports events; any thread may query.  After a retry, the consumer replays all events since
its last checkpoint: `UnderWay` recognises them and passes on only new ones.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from logging_proxy.captures.events import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.captures.exchanges import Exchange, Side, verdict
from logging_proxy.captures.heads import known_head
from logging_proxy.captures.stored import Stored
from logging_proxy.index import Filters, Row, meets
from logging_proxy.index.entries import opening_row
from logging_proxy.logserver.telemetry.prometheus import MOST_SERIES, OTHER
from logging_proxy.redaction.redact import redact_url

_RESPONSE = Side.RESPONSE

MOST_ENDED = 8192
"""Most ended exchanges that are kept while the index lags; older ones are in the files only."""

REMEMBERED = 65_536
"""Ids of ended exchanges that are remembered at least, to recognise a replay of the last seconds."""


class _Member:
    __slots__ = ("before", "ended", "exchange", "files", "response_seen", "row", "seen")

    def __init__(self, exchange: Exchange, ended: bool = False) -> None:
        self.exchange = exchange
        self.before = _sizes(exchange)
        """Bytes of the bodies when first observed: they arrived before this process started."""
        self.seen = _NONE
        """Bytes already announced before the replay."""
        self.response_seen = False
        self.files: tuple[str | None, str | None] = (None, None)
        self.row: Row | None = None
        """The row as of the start, made at the first query; later values are filled in at each query."""
        self.ended = ended

    def replace(self, exchange: Exchange) -> None:
        """The exchange is replayed, and its pieces will be too."""
        old, self.exchange = _sizes(self.exchange), exchange
        self.seen = max(old[0], self.seen[0]), max(old[1], self.seen[1])
        exchange.replayed = True

    def passed(self) -> tuple[int, int]:
        """Bytes of the bodies that have passed since this process started."""
        now = _sizes(self.exchange)
        return max(now[0], self.seen[0]) - self.before[0], max(now[1], self.seen[1]) - self.before[1]


def _is_same(one: Exchange, other: Exchange) -> bool:
    """Whether `other` is a replay of `one`; equal ids alone prove nothing, as clients may choose them."""
    return (one.number, one.began, one.wall_ns) == (other.number, other.began, other.wall_ns)


_NONE = (0, 0)


def _sizes(exchange: Exchange) -> tuple[int, int]:
    return exchange.request.size, 0 if exchange.response is None else exchange.response.size


class UnderWay:
    """The exchanges that the index does not have yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._remembered: set[str] = set()
        self._remembered_longer: set[str] = set()
        self._in_flight: Counter[str] = Counter()
        self._passed: dict[str, tuple[int, int]] = {}

    # --- from the storage thread

    def observe(self, event: Event) -> Sequence[Event]:
        """
        Notes an event, and returns the new events in it: none in a replay, and `Started` before any other
        event.

        Pieces need be observed only for exchanges that are marked `replayed`.
        """
        exchange = event[0]
        id = exchange.id
        with self._lock:
            member = self._members.get(id)
            if member is not None and not member.ended:
                if member.exchange is not exchange:
                    if not _is_same(member.exchange, exchange):
                        exchange.replayed = True
                        return _NOTHING
                    member.replace(exchange)
                return (event,) if self._is_news(id, member, event) else _NOTHING
            if id in self._remembered or id in self._remembered_longer:
                exchange.replayed = True
                return _NOTHING
            member = self._members[id] = _Member(exchange)
            self._in_flight[exchange.opening.route_name] += 1
            if type(event) is Started:
                return (event,)
            started = Started(exchange)
            return (started, event) if self._is_news(id, member, event) else (started,)

    def _is_news(self, id: str, member: _Member, event: Event) -> bool:
        kind = type(event)
        if kind is Ended:
            self._end(id, member)
            return True
        if kind is ResponseStarted:
            seen, member.response_seen = member.response_seen, True
            return not seen
        if isinstance(event, BodyPiece):
            return event.offset + len(event.data) > member.seen[event.side is _RESPONSE]
        return False

    def _end(self, id: str, member: _Member) -> None:
        member.ended = True
        route = member.exchange.opening.route_name
        self._in_flight[route] -= 1
        _add(self._passed, route, member.passed())
        self._remembered.add(id)
        if len(self._remembered) >= REMEMBERED:
            self._remembered_longer, self._remembered = self._remembered, set()
        self._ended[id] = None
        if len(self._ended) > MOST_ENDED:
            oldest, _ = self._ended.popitem(last=False)
            self._members.pop(oldest, None)

    def stored(self, stored: Stored) -> None:
        """Notes the published files of an exchange."""
        with self._lock:
            member = self._members.get(stored.exchange.id)
            if member is not None and _is_same(member.exchange, stored.exchange):
                member.files = stored.request_file, stored.response_file

    # --- from any thread

    def forget(self, ids: Iterable[str]) -> None:
        """Drops exchanges that are in the index now."""
        with self._lock:
            for id in ids:
                if id in self._ended:
                    del self._ended[id], self._members[id]

    def rows(self, filters: Filters) -> list[Row]:
        """The exchanges that meet `filters`, newest first; none for filters that need bodies."""
        if filters.need_bodies:
            return []
        with self._lock:
            rows = [_current_row(member) for member in self._members.values()]
        rows = [row for row in rows if meets(row, filters)]
        rows.sort(key=lambda row: (row.started, row.id), reverse=True)
        return rows

    def row(self, id: str) -> Row | None:
        with self._lock:
            member = self._members.get(id)
            return None if member is None else _current_row(member)

    def has_half(self, id: str, side: Side) -> bool:
        with self._lock:
            member = self._members.get(id)
            return member is not None and member.exchange.half(side) is not None

    def in_flight(self) -> dict[str, int]:
        """The number of exchanges under way, by route; the empty name stands for no route."""
        with self._lock:
            return dict(self._in_flight)

    def body_bytes(self) -> dict[str, tuple[int, int]]:
        """Bytes of request and response bodies since the start, by route."""
        with self._lock:
            sums = dict(self._passed)
            for member in self._members.values():
                if not member.ended:
                    _add(sums, member.exchange.opening.route_name, member.passed())
        return sums


_NOTHING: tuple[Event, ...] = ()


def _add(sums: dict[str, tuple[int, int]], route: str, sizes: tuple[int, int]) -> None:
    if route not in sums and len(sums) >= MOST_SERIES:
        route = OTHER
    before = sums.get(route, _NONE)
    sums[route] = before[0] + sizes[0], before[1] + sizes[1]


def snapshot(exchange: Exchange) -> Row:
    """The present state of an exchange as a row."""
    return _current_row(_Member(exchange, bool(exchange.outcome)))


def _current_row(member: _Member) -> Row:
    exchange, response = member.exchange, member.exchange.response
    member.row = member.row or opening_row(exchange)
    row = member.row._replace(
        request_file=member.files[0],
        response_file=member.files[1],
        duration=exchange.elapsed // 1000,
        request_bytes=exchange.request.size,
    )
    if response is not None:
        row = row._replace(
            status=known_head(response.head).status,
            answered_by="proxy" if response.ours else "destination",
            head_after=response.started // 1000,
            response_bytes=response.size,
        )
    if member.ended:
        outcome, error = verdict(exchange)
        row = row._replace(outcome=outcome, error=redact_url(error) or None)
    return row
