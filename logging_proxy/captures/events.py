"""The events of an exchange, for the parts that store, index or show it."""

from __future__ import annotations

from typing import Any, NamedTuple

from logging_proxy.captures.exchanges import Exchange, Side


class Started(NamedTuple):
    """The head of the request was received."""

    exchange: Exchange


class ResponseStarted(NamedTuple):
    """The head of the final response was received."""

    exchange: Exchange


class BodyPiece(NamedTuple):
    """Bytes of a body, at `offset` in it; `time` is in nanoseconds since the start of the exchange."""

    exchange: Exchange
    side: Side
    offset: int
    data: bytes | memoryview
    time: int


class Informed(NamedTuple):
    """The head of a 1xx response was received."""

    exchange: Exchange
    head: bytes


class TrailersCame(NamedTuple):
    """The trailer section of one half."""

    exchange: Exchange
    side: Side
    section: bytes


class Noted(NamedTuple):
    """The proxy recorded a note on the exchange."""

    exchange: Exchange
    note: Any


class Ended(NamedTuple):
    """The exchange is over; its `outcome` is final and no event of it follows."""

    exchange: Exchange


Event = Started | ResponseStarted | BodyPiece | Informed | TrailersCame | Noted | Ended

NOTHING: tuple[Event, ...] = ()
