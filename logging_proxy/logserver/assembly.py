"""
From the records of one spool to exchanges: no files, no clock, no sockets.

`Assembler.handle` takes the records in order and gives back what they mean as
events.  Request and response are two `Half` objects; the response's appears
with its head.  Times inside an exchange are nanoseconds since its start.

Rules kept here: a record of an unknown exchange is counted and dropped; a
SESSION record ends everything still open as `interrupted`; an exchange that
may have lost bytes is never called complete.
"""

from __future__ import annotations

import base64
import enum
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from logging_proxy.capture.records import (
    OUTCOMES,
    Flag,
    Kind,
    Record,
    RequestHead,
    SpoolDamage,
    decode_request_head,
)

MAX_PIECES = 1 << 20
"""Arrival times kept per half: 16 MiB of memory.  A stream of 10 GiB read in 64 KiB has 164,000."""

_LAST, _OURS = int(Flag.LAST), int(Flag.OURS)


class Side(enum.StrEnum):
    """Which half of an exchange; the value is the metadata's `stream_type`."""

    REQUEST = "request"
    RESPONSE = "response"


def _no_pieces() -> array[int]:
    return array("Q")


@dataclass(slots=True)
class Half:
    """
    One direction of an exchange.

    `pieces` is flat: offset, nanoseconds, offset, nanoseconds, ...
    `completed` is None until the half's end came as its framing says.
    """

    head: bytes
    started: int = 0
    ours: bool = False
    completed: int | None = None
    last: int = 0
    size: int = 0
    pieces: array[int] = field(default_factory=_no_pieces)
    omitted: int = 0
    trailers: bytes = b""
    tunnel_from: int | None = None

    def add(self, size: int, time: int) -> None:
        """`size` more bytes came at `time`."""
        if len(self.pieces) < 2 * MAX_PIECES:
            self.pieces.append(self.size)
            self.pieces.append(time)
        else:
            self.omitted += 1
        self.size += size
        self.last = time


@dataclass(slots=True, eq=False)
class Exchange:
    """One exchange as far as its records have come; `outcome` is empty while it is open."""

    number: int
    opening: RequestHead
    began: int
    request: Half
    response: Half | None = None
    informational: list[tuple[int, bytes]] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)
    elapsed: int = 0
    outcome: str = ""
    error: str = ""
    damage: str = ""

    def half(self, side: Side) -> Half | None:
        return self.request if side is Side.REQUEST else self.response

    def mark_damaged(self, reason: str) -> None:
        """Bytes may be missing: whatever END says, this exchange is not complete."""
        self.damage = self.damage or reason


# --- events ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A request's head came."""

    exchange: Exchange


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """The final response's head came."""

    exchange: Exchange


@dataclass(frozen=True, slots=True)
class BodyPiece:
    """Bytes of a body, which stand at `offset` of it; `time` is nanoseconds since the exchange's start."""

    exchange: Exchange
    side: Side
    offset: int
    data: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Informed:
    """A 1xx head came."""

    exchange: Exchange
    head: bytes


@dataclass(frozen=True, slots=True)
class TrailersCame:
    """The trailer section of one half."""

    exchange: Exchange
    side: Side
    section: bytes


@dataclass(frozen=True, slots=True)
class Noted:
    """The proxy had something to tell of this exchange."""

    exchange: Exchange
    note: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """The exchange is over; its `outcome` is final and no event of it follows."""

    exchange: Exchange


Event = Started | ResponseStarted | BodyPiece | Informed | TrailersCame | Noted | Ended

NOTHING: tuple[Event, ...] = ()


@dataclass(slots=True)
class Tally:
    """What a spool told that belongs to no stored exchange; for /health."""

    unknown_records: int = 0
    malformed_records: int = 0
    damages: int = 0
    lost_exchanges: int = 0
    lost_bytes: int = 0


class Assembler:
    """Joins the records of one spool to exchanges."""

    def __init__(self) -> None:
        self.open: dict[int, Exchange] = {}
        self.tally = Tally()
        self._handlers: dict[Kind, Callable[[Exchange, Record], Sequence[Event]]] = {
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

    def handle(self, record: Record) -> Sequence[Event]:
        """What `record` means.  Never raises: a record that makes no sense is counted."""
        exchange = self.open.get(record.exchange)
        handler = self._handlers.get(record.kind)
        if handler is None:
            return self._handle_other(record)
        if exchange is None:
            self.tally.unknown_records += 1
            return NOTHING
        exchange.elapsed = max(exchange.elapsed, record.time - exchange.began)
        try:
            return handler(exchange, record)
        except (ValueError, RecursionError) as error:
            return self._malformed(exchange, str(error))

    def mark_damaged(self, reason: str) -> None:
        """Bytes of the spool are missing here: every open exchange may have lost some."""
        self.tally.damages += 1
        for exchange in self.open.values():
            exchange.mark_damaged(reason)
            exchange.notes.append({"damage": reason})

    def interrupt(self, error: str) -> Sequence[Event]:
        """Ends everything that is open as `interrupted`."""
        ended = list(self.open.values())
        self.open.clear()
        for exchange in ended:
            exchange.outcome, exchange.error = "interrupted", error
        return [Ended(exchange) for exchange in ended]

    def checkpoint(self) -> list[dict[str, Any]]:
        """The open exchanges as JSON-able values, for `restore`."""
        return [_exchange_state(exchange) for exchange in self.open.values()]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Takes up where `checkpoint` was made.  Raises KeyError, TypeError or ValueError else."""
        for exchange in map(_restore_exchange, states):
            self.open[exchange.number] = exchange

    # --- one method per kind of record

    def _handle_other(self, record: Record) -> Sequence[Event]:
        if record.kind is Kind.REQUEST_HEAD:
            return self._request_head(record)
        if record.kind is Kind.SESSION:
            return self.interrupt("the proxy stopped before the exchange ended")
        self._count_lost(record)
        return NOTHING

    def _request_head(self, record: Record) -> Sequence[Event]:
        events: list[Event] = []
        old = self.open.pop(record.exchange, None)
        if old is not None:
            old.outcome, old.error = "interrupted", "the spool lost the exchange's end"
            events.append(Ended(old))
        try:
            opening = decode_request_head(record.payload)
        except SpoolDamage:
            self.tally.malformed_records += 1
            return events
        exchange = Exchange(record.exchange, opening, record.time, Half(opening.head))
        if record.flags & _LAST:
            exchange.request.completed = 0
        self.open[record.exchange] = exchange
        events.append(Started(exchange))
        return events

    def _request_piece(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._piece(exchange, exchange.request, Side.REQUEST, record)

    def _response_piece(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._piece(exchange, exchange.response, Side.RESPONSE, record)

    def _piece(self, exchange: Exchange, half: Half | None, side: Side, record: Record) -> Sequence[Event]:
        if half is None:
            return self._malformed(exchange, "bytes of a response without a head")
        time, data = max(0, record.time - exchange.began), record.payload
        events: Sequence[Event] = NOTHING
        if data:
            events = (BodyPiece(exchange, side, half.size, data, time),)
            half.add(len(data), time)
        if record.flags & _LAST:
            half.completed = time
        return events

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
        time = max(0, record.time - exchange.began)
        half = Half(record.payload, time, bool(record.flags & _OURS), last=time)
        if record.flags & _LAST:
            half.completed = time
        exchange.response = half
        return (ResponseStarted(exchange),)

    def _informational(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        exchange.informational.append((max(0, record.time - exchange.began), record.payload))
        return (Informed(exchange, record.payload),)

    def _request_trailers(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._trailers(exchange, exchange.request, Side.REQUEST, record)

    def _response_trailers(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        return self._trailers(exchange, exchange.response, Side.RESPONSE, record)

    def _trailers(self, exchange: Exchange, half: Half | None, side: Side, record: Record) -> Sequence[Event]:
        if half is None:
            return self._malformed(exchange, "trailers of a response without a head")
        half.trailers += record.payload
        if record.flags & _LAST:
            half.completed = max(0, record.time - exchange.began)
        return (TrailersCame(exchange, side, record.payload),)

    def _note(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        note = json.loads(record.payload)
        exchange.notes.append(note)
        if isinstance(note, dict) and note.get("capture_lost_bytes"):
            exchange.mark_damaged(f"{note['capture_lost_bytes']} bytes were not recorded")
        return (Noted(exchange, note),)

    def _end(self, exchange: Exchange, record: Record) -> Sequence[Event]:
        del self.open[record.exchange]
        code = record.payload[0] if record.payload else len(OUTCOMES)
        exchange.outcome = OUTCOMES[code] if code < len(OUTCOMES) else "interrupted"
        exchange.error = record.payload[1:].decode("utf-8", "replace")
        return (Ended(exchange),)

    def _malformed(self, exchange: Exchange, reason: str) -> Sequence[Event]:
        self.tally.malformed_records += 1
        exchange.mark_damaged(reason)
        exchange.notes.append({"damage": reason})
        return NOTHING

    def _count_lost(self, record: Record) -> None:
        try:
            lost = json.loads(record.payload)
            self.tally.lost_exchanges += int(lost.get("exchanges", 0))
            self.tally.lost_bytes += int(lost.get("bytes", 0))
        except (ValueError, TypeError, AttributeError):
            self.tally.malformed_records += 1


def verdict(exchange: Exchange) -> tuple[str, str]:
    """The final outcome and error text: one that may have lost bytes is not complete."""
    if exchange.damage and exchange.outcome == "complete":
        return "interrupted", f"the capture is not whole: {exchange.damage}"
    return exchange.outcome, exchange.error


# --- exchanges as JSON-able values -------------------------------------------
# Bytes become latin-1 text, arrival times base64: a long stream has 100,000.


def _half_state(half: Half) -> dict[str, Any]:
    return {
        "head": half.head.decode("latin-1"),
        "started": half.started,
        "ours": half.ours,
        "completed": half.completed,
        "last": half.last,
        "size": half.size,
        "pieces": base64.b64encode(half.pieces.tobytes()).decode("ascii"),
        "omitted": half.omitted,
        "trailers": half.trailers.decode("latin-1"),
        "tunnel_from": half.tunnel_from,
    }


def _restore_half(state: dict[str, Any]) -> Half:
    pieces = _no_pieces()
    pieces.frombytes(base64.b64decode(state["pieces"]))
    texts = {name: state[name].encode("latin-1") for name in ("head", "trailers")}
    return Half(**{**state, **texts, "pieces": pieces})


_OPENING = ("client", "route", "pattern", "source_url", "destination_url")


def _exchange_state(exchange: Exchange) -> dict[str, Any]:
    opening = exchange.opening
    return {
        "number": exchange.number,
        "id": opening.id.hex(),
        "wall_ns": opening.wall_ns,
        "opening": [getattr(opening, name).decode("latin-1") for name in _OPENING],
        "began": exchange.began,
        "request": _half_state(exchange.request),
        "response": _half_state(exchange.response) if exchange.response else None,
        "informational": [[time, head.decode("latin-1")] for time, head in exchange.informational],
        "notes": exchange.notes,
        "elapsed": exchange.elapsed,
        "damage": exchange.damage,
    }


def _restore_exchange(state: dict[str, Any]) -> Exchange:
    request = _restore_half(state["request"])
    client, route, pattern, source_url, destination_url = (
        text.encode("latin-1") for text in state["opening"]
    )
    opening = RequestHead(
        bytes.fromhex(state["id"]),
        state["wall_ns"],
        client,
        route,
        pattern,
        source_url,
        destination_url,
        request.head,
    )
    return Exchange(
        state["number"],
        opening,
        state["began"],
        request,
        _restore_half(state["response"]) if state["response"] else None,
        [(time, head.encode("latin-1")) for time, head in state["informational"]],
        state["notes"],
        state["elapsed"],
        damage=state["damage"],
    )


def piece_pairs(half: Half) -> Iterator[list[int]]:
    """`[offset, microseconds since the exchange's start]` of each piece."""
    times = iter(half.pieces)
    for offset in times:
        yield [offset, next(times) // 1000]
