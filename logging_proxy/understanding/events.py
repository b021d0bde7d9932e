"""
The events of a response as the API's documents: place, time, class, type and text of each.

Works for every stream of events or lines, also where no model was called, and for WebSockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from logging_proxy.understanding.answer_streams import AnswerStream, Taken
from logging_proxy.understanding.dialects.recognise import FIGURES, Dialect
from logging_proxy.understanding.dialects.sockets import PlainSocket, socket_for
from logging_proxy.understanding.reading import Message, arrivals, arriving
from logging_proxy.understanding.redacted import redact_body, redact_events
from logging_proxy.understanding.socket_streams import SocketEvent, SocketStream

TEXT_LIMIT = 4096
"""Maximum characters of an event's text."""

Document = dict[str, Any]


def stream_events(dialect: Dialect | None, response: Message) -> Iterator[Taken]:
    """The events of a response; none if it is one document."""
    stream = AnswerStream(dialect or FIGURES, response.fields.get("content-type", ""), response.status)
    for at, data in arriving(response):
        yield from stream.feed(data, at)
    yield from stream.finish()


def without_secrets(dialect: Dialect | None, taken: Iterable[Taken]) -> list[Taken]:
    """The same events, without secrets, also those that are spread over several."""
    events = list(taken)
    redacted, _ = redact_events([each.event.data for each in events])
    reader = (dialect or FIGURES).reader()
    shown = []
    for each, data in zip(events, redacted, strict=True):
        event = replace(each.event, data=data)
        reader.answer.last_piece = ""
        reader.take(event)
        shown.append(Taken(event, each.kind, reader.answer.last_piece))
    return shown


def socket_events(path: str, request: Message, response: Message) -> list[SocketEvent]:
    """The messages of both sides of a WebSocket."""
    found = socket_for(path)
    stream = SocketStream(found[1] if found else PlainSocket())
    extensions = response.fields.get("sec-websocket-extensions", "")
    return stream.feed(
        arrivals(request.body, request.times), arrivals(response.body, response.times), extensions
    )


def event_documents(
    taken: Iterable[Taken | SocketEvent], start: int, limit: int, reveal: bool = False
) -> tuple[list[Document], int | None]:
    """
    The documents of `limit` events from number `start` on, and the number of the next one, if there is one.

    `gap_ms` is the time since the event before; both times are null where they are not known.
    """
    documents: list[Document] = []
    before: int | None = None
    numbered = enumerate(taken)
    for number, each in numbered:
        if number >= start:
            documents.append(_document(number, each, before, reveal))
        before = each.event.at
        if len(documents) == limit:
            break
    more = next(islice(numbered, 1), None) is not None
    return documents, start + len(documents) if more else None


def _document(number: int, taken: Taken | SocketEvent, before: int | None, reveal: bool) -> Document:
    event = taken.event
    text = _text(taken)
    shown = text if reveal else redact_body(text).text
    gap = None if event.at is None or before is None else max(0, event.at - before)
    document: Document = {
        "n": number,
        "offset": event.offset,
        "length": event.length,
        "at_ms": _ms(event.at),
        "gap_ms": _ms(gap),
        "class": str(taken.kind),
        "type": event.type or None,
        "text": shown[:TEXT_LIMIT],
        "cut": len(shown) > TEXT_LIMIT,
        "whole": event.whole,
    }
    if isinstance(taken, SocketEvent):
        document["from"] = "client" if taken.from_client else "server"
    return document


def _text(taken: Taken | SocketEvent) -> str:
    """The piece of the answer that an event has brought; of other events, their data."""
    return taken.text if taken.kind.is_content else taken.event.data


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 3)
