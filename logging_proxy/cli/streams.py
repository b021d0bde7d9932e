"""
A body in the order of its arrival: pieces with their times, and the events that they complete.

If a stream was cut, its last event may be incomplete and is marked as such.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from logging_proxy.understanding.bodies import START
from logging_proxy.understanding.charsets import ESCAPED, TextDecoder, charset_of
from logging_proxy.understanding.decoding import decode_pieces
from logging_proxy.understanding.media_types import Form, form_of
from logging_proxy.understanding.websocket import WebSocketMessage, WebSocketReader

_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")
"""A CR at the end of the text is not matched, because it may be the first half of CR LF."""

Arrival = tuple[int, bytes]
"""Microseconds since the exchange's start, and the bytes."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of an event stream, a line, a message of a WebSocket or, in other formats, a piece."""

    at: int
    """Arrival of the event's last byte, in microseconds since the exchange's start."""
    data: str
    kind: str = ""
    id: str = ""
    whole: bool = True
    mark: str = ""
    """The direction of a message: `>` from the client, `<` to it."""


def arrivals(
    body: bytes | Iterable[bytes], pieces: Iterable[list[int]], content_encoding: str = ""
) -> Iterator[Arrival]:
    """
    The decoded bytes of each piece with its time; `pieces` are `[offset, microseconds]`, in order.

    A body of which nothing can be decoded comes as it is.
    """
    return decode_pieces(_cut([body] if isinstance(body, bytes) else body, pieces), content_encoding)


def _cut(body: Iterable[bytes], pieces: Iterable[list[int]]) -> Iterator[Arrival]:
    """The bytes of `body`, cut where the pieces begin."""
    starts = iter([(offset, at) for offset, at in pieces if offset >= 0])
    begins = next(starts, None)
    # What comes before the first piece has its time.
    position, time = 0, begins[1] if begins else 0
    for data in body:
        while data:
            if begins is not None and begins[0] <= position:
                time, begins = begins[1], next(starts, None)
                continue
            end = len(data) if begins is None else min(len(data), begins[0] - position)
            yield time, data[:end]
            position += end
            data = data[end:]


def is_stream(form: Form) -> bool:
    """Whether bodies of this form consist of events or lines."""
    return form in (Form.EVENTS, Form.JSON_LINES)


def form_of_arrivals(
    arriving: Iterable[Arrival], content_type: str
) -> tuple[Form, Callable[[], TextDecoder], Iterator[Arrival]]:
    """The form and a decoder for the charset of what arrives, and all of it."""
    source = iter(arriving)
    first: list[Arrival] = []
    size = 0
    while size < START and (arrival := next(source, None)) is not None:
        first.append(arrival)
        size += len(arrival[1])
    start = b"".join(data for _, data in first)
    charset = charset_of(content_type, start)
    return form_of(content_type, start), lambda: TextDecoder(charset, ESCAPED), itertools.chain(first, source)


def stream_events(arriving: Iterable[Arrival], content_type: str) -> Iterator[StreamEvent]:
    """The events of a stream.  How the bytes are split into pieces affects only the times."""
    form, decoder, arriving = form_of_arrivals(arriving, content_type)
    if form is Form.EVENTS:
        return _server_sent(_lines(arriving, decoder()))
    if form is Form.JSON_LINES:
        return (
            StreamEvent(at, line, whole=whole)
            for at, line, whole in _lines(arriving, decoder())
            if line.strip("\x1e \t\r")
        )
    return _as_pieces(arriving, decoder(), form is Form.BINARY)


def websocket_events(
    arriving: Iterable[Arrival], reader: WebSocketReader, mark: str
) -> Iterator[StreamEvent]:
    """The messages of one direction."""
    at = 0
    for at, data in arriving:
        for message in reader.feed(data):
            yield _message_event(at, message, mark)
    for message in reader.finish():
        yield _message_event(at, message, mark)


def _message_event(at: int, message: WebSocketMessage, mark: str) -> StreamEvent:
    if message.kind == "text":
        data = message.data.decode("utf-8", ESCAPED)
    elif message.kind == "close":
        data = _reason(message.data)
    else:
        data = f"[{len(message.data):,} bytes]"
    if message.trouble:
        data = f"{data} [{message.trouble}]"
    return StreamEvent(at, data, message.kind, whole=message.whole, mark=mark)


def _reason(data: bytes) -> str:
    """The code and the reason in a close frame."""
    return f"{int.from_bytes(data[:2], 'big')} {data[2:].decode('utf-8', ESCAPED)}".strip() if data else ""


def _as_pieces(arriving: Iterable[Arrival], decoder: TextDecoder, is_binary: bool) -> Iterator[StreamEvent]:
    for at, data in arriving:
        yield StreamEvent(at, f"[{len(data):,} bytes]" if is_binary else decoder.feed(data))


def _lines(arriving: Iterable[Arrival], decoder: TextDecoder) -> Iterator[tuple[int, str, bool]]:
    """Time, text and completeness of each line; only the last one may be incomplete."""
    waiting: list[str] = []
    at = 0
    for at, data in arriving:
        text = decoder.feed(data)
        if waiting and waiting[-1].endswith("\r"):
            text = waiting.pop() + text
        *whole, rest = _LINE_END.split(text)
        for line in whole:
            yield at, "".join([*waiting, line]), True
            waiting = []
        waiting.append(rest)
    rest = "".join(waiting) + decoder.finish()
    if rest.endswith("\r"):
        yield at, rest[:-1], True
    elif rest:
        yield at, rest, False


def _server_sent(lines: Iterable[tuple[int, str, bool]]) -> Iterator[StreamEvent]:
    """The events of a `text/event-stream` (HTML, 9.2.6); comments are events of type `:`."""
    data: list[str] = []
    kind = id = ""
    at = 0
    for at, line, _whole in lines:
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data or kind:
                yield StreamEvent(at, "\n".join(data), kind, id)
            data, kind, id = [], "", ""
        elif colon and not name:
            yield StreamEvent(at, value, ":")
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            id = value
    if data or kind:
        yield StreamEvent(at, "\n".join(data), kind, id, whole=False)
