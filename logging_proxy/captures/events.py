"""What happens to an exchange, as whoever stores, indexes or shows it is told."""

from __future__ import annotations

from typing import Any, NamedTuple

from logging_proxy.captures.exchanges import Exchange, Side


class Started(NamedTuple):
    """A request's head came."""

    exchange: Exchange


class ResponseStarted(NamedTuple):
    """The final response's head came."""

    exchange: Exchange


class BodyPiece(NamedTuple):
    """Bytes of a body, which stand at `offset` of it; `time` is nanoseconds since the exchange's start."""

    exchange: Exchange
    side: Side
    offset: int
    data: bytes | memoryview
    time: int


class Informed(NamedTuple):
    """A 1xx head came."""

    exchange: Exchange
    head: bytes


class TrailersCame(NamedTuple):
    """The trailer section of one half."""

    exchange: Exchange
    side: Side
    section: bytes


class Noted(NamedTuple):
    """The proxy had something to tell of this exchange."""

    exchange: Exchange
    note: Any


class Ended(NamedTuple):
    """The exchange is over; its `outcome` is final and no event of it follows."""

    exchange: Exchange


Event = Started | ResponseStarted | BodyPiece | Informed | TrailersCame | Noted | Ended

NOTHING: tuple[Event, ...] = ()
