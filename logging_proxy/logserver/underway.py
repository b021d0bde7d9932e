"""
Exchanges that are under way, or have ended and are not yet in the index.

The storage thread tells what happens; any thread may ask.  After a retry a
consumer tells everything since its last checkpoint once more: `UnderWay` knows
what it was told, and lets only what is new pass.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from logging_proxy.logserver.assembly import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.logserver.exchanges import Exchange, Side, verdict
from logging_proxy.logserver.index import Filters, Row
from logging_proxy.logserver.metadata import client_of, method_of, status_of
from logging_proxy.logserver.store import Stored
from logging_proxy.redaction import redact_text, redact_url

MOST_ENDED = 8192
"""Ended exchanges that are kept for an index that is behind; the files have them all."""

REMEMBERED = 65_536
"""Ids of exchanges that have ended: a replay goes back a few seconds."""


@dataclass(slots=True, eq=False)
class _Member:
    exchange: Exchange
    told_request: int = 0
    told_response: int = 0
    response_told: bool = False
    files: tuple[str | None, str | None] = (None, None)
    row: Row | None = None
    """As it was at the start, once somebody has asked; what changes is filled in then."""
    ended: bool = False


class UnderWay:
    """What happens now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._in_flight: Counter[str] = Counter()

    # --- from the storage thread

    def tell(self, event: Event) -> list[Event]:
        """Takes an event in; what of it is new, a `Started` before anything else of an exchange."""
        exchange = event.exchange
        id = exchange.id
        with self._lock:
            if id in self._remembered:
                return []
            member = self._members.get(id)
            if member is not None:
                member.exchange = exchange
                return self._news(id, member, event)
            member = self._members[id] = _Member(exchange)
            self._in_flight[exchange.route] += 1
            if isinstance(event, Started):
                return [event]
            return [Started(exchange), *self._news(id, member, event)]

    def _news(self, id: str, member: _Member, event: Event) -> list[Event]:
        if isinstance(event, BodyPiece):
            end = event.offset + len(event.data)
            if event.side is Side.REQUEST:
                if end <= member.told_request:
                    return []
                member.told_request = end
            else:
                if end <= member.told_response:
                    return []
                member.told_response = end
        elif isinstance(event, ResponseStarted):
            if member.response_told:
                return []
            member.response_told = True
        elif isinstance(event, Ended):
            self._end(id, member)
        else:
            return []
        return [event]

    def _end(self, id: str, member: _Member) -> None:
        member.ended = True
        self._in_flight[member.exchange.route] -= 1
        self._remember(id)
        self._ended[id] = None
        if len(self._ended) > MOST_ENDED:
            oldest, _ = self._ended.popitem(last=False)
            self._members.pop(oldest, None)

    def _remember(self, id: str) -> None:
        self._remembered[id] = None
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def stored(self, stored: Stored) -> None:
        """The files of an exchange are published."""
        with self._lock:
            member = self._members.get(stored.exchange.id)
            if member is not None:
                member.files = stored.request["filename"], stored.response["filename"]

    # --- from any thread

    def forget(self, ids: Iterable[str]) -> None:
        """These are in the index now."""
        with self._lock:
            for id in ids:
                if id in self._ended:
                    del self._ended[id], self._members[id]

    def rows(self, filters: Filters) -> list[Row]:
        """The exchanges that meet `filters`, newest first; none when texts are searched."""
        if filters.q is not None or filters.model is not None or filters.session is not None:
            return []
        with self._lock:
            rows = [_current_row(member) for member in self._members.values()]
        rows = [row for row in rows if _meets(row, filters)]
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
        """How many are under way, by route; the empty name is for what no route took."""
        with self._lock:
            return dict(self._in_flight)


def snapshot(exchange: Exchange) -> Row:
    """The exchange as a row, as far as it has come."""
    return _current_row(_Member(exchange, ended=bool(exchange.outcome)))


def _opening_row(exchange: Exchange) -> Row:
    opening = exchange.opening
    return Row(
        exchange.id,
        opening.wall_ns // 1000,
        route=exchange.route or None,
        pattern=opening.pattern.decode("utf-8", "replace") or None,
        method=method_of(exchange.request.head),
        source_url=redact_url(opening.source_url.decode("latin-1"))[:4096],
        destination_url=redact_url(opening.destination_url.decode("latin-1"))[:4096] or None,
        client=client_of(opening.client),
    )


def _current_row(member: _Member) -> Row:
    exchange, response = member.exchange, member.exchange.response
    member.row = member.row or _opening_row(exchange)
    row = replace(
        member.row,
        request_file=member.files[0],
        response_file=member.files[1],
        duration=exchange.elapsed // 1000,
        request_bytes=exchange.request.size,
    )
    if response is not None:
        row = replace(
            row,
            status=status_of(response.head),
            answered_by="proxy" if response.ours else "destination",
            head_after=response.started // 1000,
            response_bytes=response.size,
        )
    if member.ended:
        outcome, error = verdict(exchange)
        row = replace(row, outcome=outcome, error=redact_text(error) or None)
    return row


def _meets(row: Row, filters: Filters) -> bool:
    return (
        all(
            wanted is None or wanted == value
            for wanted, value in (
                (filters.route, row.route),
                (filters.method, row.method),
                (filters.outcome, row.outcome),
            )
        )
        and (filters.status is None or filters.status in (row.status, (row.status or 0) // 100))
        and (filters.since is None or row.started >= filters.since)
        and (filters.until is None or row.started < filters.until)
    )
