"""
From the records of one spool to exchanges: no files, no clock, no sockets.

`Assembler.handle` takes the records in order and returns events.

Rules: a record of an unknown exchange is counted and dropped; a SESSION record ends all open exchanges as
`interrupted`; an exchange that may have lost bytes is never `complete`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from logging_proxy.captures.events import (
    NOTHING,
    BodyPiece,
    Ended,
    Event,
    Informed,
    Noted,
    ResponseStarted,
    Started,
    TrailersCame,
)
from logging_proxy.captures.exchanges import (
    Exchange,
    Half,
    Side,
    exchange_state,
    open_exchange,
    restore_exchange,
)
from logging_proxy.captures.names import is_run_name
from logging_proxy.recording.records import OUTCOMES, Flag, Kind, Record, SpoolDamage

_REQUEST_PIECE, _RESPONSE_PIECE = Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE
_REQUEST_HEAD, _SESSION = Kind.REQUEST_HEAD, Kind.SESSION
_REQUEST, _RESPONSE = Side.REQUEST, Side.RESPONSE
_LAST, _OURS, _REFUSED = int(Flag.LAST), int(Flag.OURS), int(Flag.REFUSED)


_new = tuple.__new__
"""Makes a named tuple without a call of a Python function; this is a hot path."""

MOST_LEVELS = 16
"""The deepest nesting of a note; a deeper one could not be encoded in a checkpoint."""

MOST_TRAILERS = 1 << 20
"""The most bytes of trailers: each further piece copies all of them, so the time is quadratic."""

MOST_LOST = 1 << 62
"""The largest loss that is believed of one record."""


@dataclass(slots=True)
class Tally:
    """Counts of a spool that belong to no stored exchange, for /health."""

    unknown_records: int = 0
    malformed_records: int = 0
    damages: int = 0
    lost_exchanges: int = 0
    lost_bytes: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of `other`."""
        self.unknown_records += other.unknown_records
        self.malformed_records += other.malformed_records
        self.damages += other.damages
        self.lost_exchanges += other.lost_exchanges
        self.lost_bytes += other.lost_bytes

    def state(self) -> list[int]:
        """A JSON value for `restore_tally`."""
        return [
            self.unknown_records,
            self.malformed_records,
            self.damages,
            self.lost_exchanges,
            self.lost_bytes,
        ]


def restore_tally(state: Sequence[int]) -> Tally:
    """The inverse of `Tally.state`.  Raises TypeError or ValueError for other values."""
    unknown, malformed, damages, lost_exchanges, lost_bytes = map(int, state)
    return Tally(unknown, malformed, damages, lost_exchanges, lost_bytes)


class Assembler:
    """Builds exchanges from the records of one spool."""

    def __init__(self) -> None:
        self.open: dict[int, Exchange] = {}
        self.tally = Tally()
        self.run = ""
        """The run that the exchanges of the present session belong to; empty if they belong to none."""
        self._ids: set[bytes] = set()
        """Ids of exchanges that are open, or have ended and may not be stored yet."""
        self.last_time = 0
        """The proxy's monotonic clock at the last record."""
        self.wall_offset: int | None = None
        """Added to the proxy's clock gives nanoseconds since 1970; None before the first exchange."""
        handlers: dict[Kind, Callable[[Exchange, Record], Sequence[Event]]] = {
            Kind.REQUEST_PIECE: self._request_piece,
            Kind.REQUEST_TRAILERS: self._request_trailers,
            Kind.INFORMATIONAL: self._informational,
            Kind.RESPONSE_HEAD: self._response_head,
            Kind.RESPONSE_PIECE: self._response_piece,
            Kind.RESPONSE_TRAILERS: self._response_trailers,
            Kind.NOTE: self._note,
            Kind.END: self._end,
            Kind.TUNNEL_CLIENT: self._tunnel_client,
            Kind.TUNNEL_UPSTREAM: self._tunnel_upstream,
        }
        self._handlers = [handlers.get(kind) for kind in Kind]
        """Indexed by the number of the kind, which is faster than a dictionary."""

    def handle(self, record: Record) -> Sequence[Event]:
        """The events of a record.  Never raises: a malformed record is counted."""
        kind, _, number, time, _ = record
        self.last_time = time
        handler = self._handlers[kind]
        if handler is None:
            return self._handle_other(record)
        exchange = self.open.get(number)
        if exchange is None:
            self.tally.unknown_records += 1
            return NOTHING
        if time - exchange.began > exchange.elapsed:
            exchange.elapsed = time - exchange.began
        if kind is _RESPONSE_PIECE:
            return self._piece(exchange, exchange.response, _RESPONSE, record)
        if kind is _REQUEST_PIECE:
            return self._piece(exchange, exchange.request, _REQUEST, record)
        try:
            return handler(exchange, record)
        except (ValueError, RecursionError) as error:
            return self._malformed(exchange, str(error))

    def mark_damaged(self, reason: str, missing: bool = True) -> None:
        """Notes damage at this point: if bytes are missing, every open exchange may have lost some."""
        self.tally.damages += 1
        if not missing:
            return
        for exchange in self.open.values():
            self._mark(exchange, reason)

    def mark_malformed(self, number: int, reason: str) -> None:
        """Counts a record of this exchange as malformed."""
        exchange = self.open.get(number)
        if exchange is None:
            self.tally.malformed_records += 1
        else:
            self._malformed(exchange, reason)

    def interrupt(self, error: str) -> Sequence[Event]:
        """Ends all open exchanges as `interrupted`."""
        ended = list(self.open.values())
        self.open.clear()
        for exchange in ended:
            exchange.outcome, exchange.error = "interrupted", error
        return [Ended(exchange) for exchange in ended]

    def end_damaged(self, quiet: int) -> Sequence[Event]:
        """Ends damaged exchanges without a record for `quiet` nanoseconds of the proxy's clock."""
        damaged = [
            exchange
            for exchange in self.open.values()
            if exchange.damage and self.last_time - exchange.began - exchange.elapsed > quiet
        ]
        for exchange in damaged:
            del self.open[exchange.number]
            exchange.outcome, exchange.error = "interrupted", f"its end is missing: {exchange.damage}"
        return [Ended(exchange) for exchange in damaged]

    def stored(self) -> None:
        """All ended exchanges are stored: from now on the store recognises a repeated id."""
        self._ids = {exchange.uuid for exchange in self.open.values()}

    def checkpoint(self) -> list[dict[str, Any]]:
        """The open exchanges as JSON values, for `restore`."""
        return [exchange_state(exchange) for exchange in self.open.values()]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Restores a `checkpoint`.  Raises KeyError, TypeError or ValueError for other values."""
        for exchange in map(restore_exchange, states):
            self.open[exchange.number] = exchange
        self.stored()

    # --- one method per kind of record

    def _handle_other(self, record: Record) -> Sequence[Event]:
        kind = record.kind
        if kind is _REQUEST_HEAD:
            return self._request_head(record)
        if kind is _SESSION:
            self.run = _run_of(record.content)
            return self.interrupt("the proxy stopped before the exchange ended")
        self._count_lost(record)
        return NOTHING

    def _request_head(self, record: Record) -> Sequence[Event]:
        _, flags, number, time, payload = record
        events = NOTHING if number not in self.open else self._lose_end(number)
        try:
            exchange = open_exchange(number, bytes(payload), time)
        except SpoolDamage:
            self.tally.malformed_records += 1
            return events
        if exchange.uuid in self._ids:
            self.tally.malformed_records += 1
            return events
        self._ids.add(exchange.uuid)
        exchange.run = self.run
        self.wall_offset = exchange.wall_ns - time
        if flags & _LAST:
            exchange.request.completed = 0
        self.open[number] = exchange
        return (*events, _new(Started, (exchange,)))

    def _lose_end(self, number: int) -> tuple[Event, ...]:
        old = self.open.pop(number)
        old.outcome, old.error = "interrupted", "the spool lost the exchange's end"
        return (Ended(old),)

    def _request_piece(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._piece(exchange, exchange.request, _REQUEST, record)

    def _response_piece(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._piece(exchange, exchange.response, _RESPONSE, record)

    def _piece(self, exchange: Exchange, half: Half | None, side: Side, record: Record) -> Sequence[Event]:
        _, flags, _, time, data = record
        time -= exchange.began
        if time < 0:
            time = 0
        if flags & _REFUSED:
            return self._refused_piece(exchange, half, side, record, time)
        if half is None:
            return self._malformed(exchange, "bytes of a response without a head")
        if flags & _LAST:
            half.completed = time
        if not data:
            return NOTHING
        piece = _new(BodyPiece, (exchange, side, half.size, data, time))
        half.add(len(data), time)
        return (piece,)

    def _refused_piece(
        self, exchange: Exchange, half: Half | None, side: Side, record: Record, time: int
    ) -> Sequence[Event]:
        """
        Bytes that were not forwarded, which are stored after the body.

        A response may consist of them alone; they are then stored after an empty head.
        """
        events: tuple[Event, ...] = NOTHING
        if half is None:
            half = exchange.response = Half(b"\r\n\r\n", time, False, None, time)
            events = (ResponseStarted(exchange),)
        if half.refused_from is None:
            half.refused_from = half.size
        piece = BodyPiece(exchange, side, half.size, record.payload, time)
        half.add(len(record.payload), time)
        return (*events, piece)

    def _tunnel_client(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._tunnel(exchange, exchange.request, Side.REQUEST, record)

    def _tunnel_upstream(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._tunnel(exchange, exchange.response, Side.RESPONSE, record)

    def _tunnel(self, exchange: Exchange, half: Half | None, side: Side, record: Record) -> Sequence[Event]:
        if half is not None and half.tunnel_from is None:
            half.tunnel_from = half.size
        return self._piece(exchange, half, side, record)

    def _response_head(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        if exchange.response is not None:
            return self._malformed(exchange, "a second head of the response")
        _, flags, _, time, head = record
        time -= exchange.began
        if time < 0:
            time = 0
        half = Half(bytes(head), time, flags & _OURS != 0, time if flags & _LAST else None, time)
        exchange.response = half
        return (_new(ResponseStarted, (exchange,)),)

    def _informational(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        head = record.content
        exchange.informational.append((max(0, record.time - exchange.began), head))
        return (Informed(exchange, head),)

    def _request_trailers(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._trailers(exchange, exchange.request, Side.REQUEST, record)

    def _response_trailers(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._trailers(exchange, exchange.response, Side.RESPONSE, record)

    def _trailers(self, exchange: Exchange, half: Half | None, side: Side, record: Record) -> Sequence[Event]:
        if half is None:
            return self._malformed(exchange, "trailers of a response without a head")
        section = record.content
        if len(half.trailers) + len(section) > MOST_TRAILERS:
            return self._malformed(exchange, "trailers without an end")
        half.trailers += section
        if record.flags & _LAST:
            half.completed = max(0, record.time - exchange.began)
        return (TrailersCame(exchange, side, section),)

    def _note(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        note = json.loads(record.content, parse_constant=_refuse)
        if not _is_shallow(note, MOST_LEVELS):
            raise ValueError("a note that is too deep")
        exchange.notes.append(note)
        if isinstance(note, dict) and note.get("capture_lost_bytes"):
            exchange.mark_damaged(f"{note['capture_lost_bytes']} bytes were not recorded")
        return (Noted(exchange, note),)

    def _end(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        del self.open[record.exchange]
        payload = record.content
        code = payload[0] if payload else len(OUTCOMES)
        exchange.outcome = OUTCOMES[code] if code < len(OUTCOMES) else "interrupted"
        if len(payload) > 1:
            exchange.error = payload[1:].decode("utf-8", "replace")
        return (_new(Ended, (exchange,)),)

    def _malformed(self, exchange: Exchange, reason: str) -> Sequence[Event]:
        self.tally.malformed_records += 1
        self._mark(exchange, reason)
        return NOTHING

    @staticmethod
    def _mark(exchange: Exchange, reason: str) -> None:
        """Notes the first damage only, because there may be any number."""
        if not exchange.damage:
            exchange.notes.append({"damage": reason})
        exchange.mark_damaged(reason)

    def _count_lost(self, record: Record) -> None:
        try:
            lost = json.loads(record.content)
            self.tally.lost_exchanges += _count(lost.get("exchanges", 0))
            self.tally.lost_bytes += _count(lost.get("bytes", 0))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            self.tally.malformed_records += 1


def _run_of(session: bytes) -> str:
    """The run that a SESSION record names; empty if it names none, or one that is no name."""
    try:
        run = json.loads(session).get("run", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return run if isinstance(run, str) and is_run_name(run) else ""


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether a JSON value has at most so many levels."""
    if not isinstance(value, (dict, list)):
        return True
    members = value.values() if isinstance(value, dict) else value
    return levels > 0 and all([_is_shallow(member, levels - 1) for member in members])


def _refuse(constant: str) -> None:
    """Rejects NaN and Infinity, which Python's parser accepts and JSON does not have."""
    raise ValueError(f"{constant} is no JSON")


def _count(value: Any) -> int:
    """A number from a record, limited to a plausible range."""
    return max(0, min(int(value), MOST_LOST))
