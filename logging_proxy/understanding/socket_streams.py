"""
Reads the calls on a recorded WebSocket: the messages of both sides in the order of their arrival.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from logging_proxy.understanding.answers import Answer, EventClass
from logging_proxy.understanding.dialects.sockets import SocketReader
from logging_proxy.understanding.stream_events import Event, Format
from logging_proxy.understanding.timing import Clocks
from logging_proxy.understanding.websocket import WebSocketMessage, WebSocketReader, agreed_deflate

Arrival = tuple[int | None, bytes]


@dataclass(frozen=True, slots=True)
class SocketEvent:
    """A message or a control frame."""

    event: Event
    kind: EventClass
    from_client: bool
    text: str = ""


class SocketStream:
    """The calls on a socket, in the place of one answer; `answer` is the last one."""

    format = Format.WEBSOCKET
    is_readable = True

    def __init__(self, reader: SocketReader) -> None:
        self.clocks = Clocks()
        self.reader = reader
        self.size = 0

    @property
    def answers(self) -> list[Answer]:
        return self.reader.answers

    @property
    def answer(self) -> Answer:
        return self.answers[-1] if self.answers else Answer()

    def feed(
        self, client: Iterable[Arrival], server: Iterable[Arrival], extensions: str
    ) -> list[SocketEvent]:
        """Take all that both sides have sent; `extensions` is what the handshake agreed."""
        both = heapq.merge(
            _messages(client, extensions, True), _messages(server, extensions, False), key=_moment
        )
        return [self._take(event, message, from_client) for event, message, from_client in both]

    def _take(self, event: Event, message: WebSocketMessage, from_client: bool) -> SocketEvent:
        self.answer.last_piece = ""
        kind = EventClass.OTHER
        if message.kind in ("ping", "pong"):
            kind = EventClass.KEEP_ALIVE
        elif message.kind == "text" and message.whole:
            kind = (self.reader.client if from_client else self.reader.server)(event.data)
        if not from_client:
            self.clocks.bytes(event.at)
            self.clocks.event(event.at, kind, event.is_data)
        return SocketEvent(event, kind, from_client, self.answer.last_piece)


Told = tuple[Event, WebSocketMessage, bool]


def _moment(told: Told) -> int:
    return told[0].at or 0


def _messages(pieces: Iterable[Arrival], extensions: str, from_client: bool) -> Iterator[Told]:
    reader = WebSocketReader(agreed_deflate(extensions, from_client))
    start, at = 0, None
    for at, data in pieces:
        for message in reader.feed(data):
            yield _event(message, start, at), message, from_client
            start = message.end
    for message in reader.finish():
        yield _event(message, start, at), message, from_client
        start = message.end


def _event(message: WebSocketMessage, start: int, at: int | None) -> Event:
    data = message.data.decode("utf-8", "replace") if message.kind == "text" else ""
    is_data = message.kind in ("text", "binary")
    return Event(data, message.kind, start, message.end - start, at, is_data, message.whole)
