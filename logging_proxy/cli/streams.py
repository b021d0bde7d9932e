"""
A body in the order of its arrival: pieces with their times, and the events that they complete.

If a stream was cut, its last event may be incomplete and is marked as such.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from logging_proxy.understanding.decoding import Decoder

_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")
"""A CR at the end of the text is not matched, because it may be the first half of CR LF."""

_LINES_TYPE = re.compile(r"application/(x-)?(nd-?json|jsonl(ines)?|json-seq)|text/jsonl")

Arrival = tuple[int, bytes]
"""Microseconds since the exchange's start, and the bytes."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of an event stream, a line, or, in other formats, a piece."""

    at: int
    """Arrival of the event's last byte, in microseconds since the exchange's start."""
    data: str
    kind: str = ""
    id: str = ""
    whole: bool = True


def arrivals(body: bytes, pieces: Iterable[list[int]], content_encoding: str = "") -> Iterator[Arrival]:
    """The decoded bytes of each piece with its time; `pieces` are `[offset, microseconds]`, in order."""
    decoder = Decoder(content_encoding)
    for data, at in _cut(body, pieces):
        decoded = b"".join(decoder.feed(data))
        if decoded:
            yield at, decoded


def _cut(body: bytes, pieces: Iterable[list[int]]) -> Iterator[tuple[bytes, int]]:
    starts = [(offset, at) for offset, at in pieces if 0 <= offset < len(body)]
    if not starts or starts[0][0] > 0:
        starts.insert(0, (0, starts[0][1] if starts else 0))
    ends = [offset for offset, _ in starts[1:]] + [len(body)]
    for (offset, at), end in zip(starts, ends, strict=True):
        if offset < end:
            yield body[offset:end], at


def is_stream(content_type: str) -> bool:
    """Whether bodies of this type consist of events or lines."""
    kind = _kind(content_type)
    return kind == "text/event-stream" or _LINES_TYPE.fullmatch(kind) is not None


def stream_events(arriving: Iterable[Arrival], content_type: str) -> Iterator[StreamEvent]:
    """The events of a stream.  How the bytes are split into pieces affects only the times."""
    kind = _kind(content_type)
    if kind == "text/event-stream":
        return _server_sent(_lines(arriving))
    if _LINES_TYPE.fullmatch(kind):
        return (
            StreamEvent(at, line, whole=whole)
            for at, line, whole in _lines(arriving)
            if line.strip("\x1e \t\r")
        )
    return _as_pieces(arriving)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _as_pieces(arriving: Iterable[Arrival]) -> Iterator[StreamEvent]:
    decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
    for at, data in arriving:
        yield StreamEvent(at, decode(data))


def _lines(arriving: Iterable[Arrival]) -> Iterator[tuple[int, str, bool]]:
    """Time, text and completeness of each line; only the last one may be incomplete."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    waiting: list[str] = []
    at = 0
    for at, data in arriving:
        text = decode(data)
        if waiting and waiting[-1].endswith("\r"):
            text = waiting.pop() + text
        *whole, rest = _LINE_END.split(text)
        for line in whole:
            yield at, "".join([*waiting, line]), True
            waiting = []
        waiting.append(rest)
    rest = "".join(waiting) + decode(b"", True)
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
