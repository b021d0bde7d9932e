"""
Splits a streamed body into its events, each with its place and its time of arrival.

Each reader is fed the decoded bytes of a body as they came, in pieces of any size, and returns the events
that they complete.  How the bytes are cut affects only the times.  Input is untrusted: readers never raise,
their work is linear, and they keep at most `EVENT_LIMIT` bytes of an event.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from logging_proxy.understanding.lenient import parse_json

EVENT_LIMIT = 16 << 20
"""Maximum bytes kept of an event; what comes after them is counted and dropped."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Event:
    """An event of a stream."""

    data: str
    """The text of the event: joined `data` lines, a line, an element of an array, the payload of a frame."""
    type: str = ""
    """The `event` field of a server-sent event, or the `:event-type` of a frame."""
    offset: int = 0
    """Place of the event's first byte in the decoded body."""
    length: int = 0
    at: int | None = None
    """Arrival of the last byte, in microseconds since the start of the exchange; None if unknown."""
    is_data: bool = True
    """False for comments and for server-sent events without a `data` line, which are not dispatched."""
    whole: bool = True
    """False for an event that the body's end or `EVENT_LIMIT` has cut."""
    id: str = ""


class EventReader(Protocol):
    """A reader of one kind of stream."""

    def feed(self, data: bytes, at: int | None = None) -> list[Event]:
        """The events that `data`, which arrived at `at`, completes."""

    def finish(self) -> list[Event]:
        """The events that the end of the body completes or cuts."""


class Format(StrEnum):
    """Kinds of streams, and a body that is one document."""

    SSE = "sse"
    LINES = "ndjson"
    ARRAY = "json-array"
    FRAMES = "aws-eventstream"
    WEBSOCKET = "websocket"


class ServerSentReader:
    """
    A `text/event-stream` (WHATWG HTML, 9.2.5 and 9.2.6).

    A line that ends with CR LF ends at the CR; the LF belongs to no event.  So the end of an event is known
    when its last byte is, however the stream is cut.
    """

    def __init__(self) -> None:
        self._offset = 0
        """Place of the next byte."""
        self._start = 0
        """Place of the first byte of the event, or of the line if there is no event."""
        self._line = _Kept()
        self._skips_newline = False
        self._data: list[bytes] = []
        self._size = 0
        self._type = self._id = ""
        self._is_first = self._is_whole = True
        self._at: int | None = None

    def feed(self, data: bytes, at: int | None = None) -> list[Event]:
        events: list[Event] = []
        if not data:
            return events
        self._at = at
        done = 0
        if self._skips_newline and data.startswith(b"\n"):
            done = self._skip(1)
        self._skips_newline = False
        for end in _LINE_END.finditer(data, done):
            first = end.start()
            line = self._line.take(data[done:first])
            self._offset += first - done + 1
            self._end_line(line, events)
            done = end.end()
            if done - first == 2:
                self._skip(1)
        self._skips_newline = data.endswith(b"\r")
        rest = data[done:]
        self._line.add(rest)
        self._offset += len(rest)
        return events

    def finish(self) -> list[Event]:
        """The event that the end of the stream has cut, which browsers discard."""
        events: list[Event] = []
        if self._line.size:
            self._field(self._line.take(b""), 0, events)
        if self._data or self._type:
            events.append(self._event(False))
        return events

    def _skip(self, count: int) -> int:
        self._offset += count
        if not (self._data or self._type):
            self._start = self._offset
        return count

    def _end_line(self, line: bytes, events: list[Event]) -> None:
        if line:
            self._is_whole = self._is_whole and not self._line.was_cut
            self._field(line, 1, events)
        elif self._data or self._type:
            events.append(self._event(self._is_whole))
            self._is_whole = True
        self._is_first = False
        if not (self._data or self._type):
            self._start = self._offset

    def _field(self, line: bytes, ending: int, events: list[Event]) -> None:
        length = len(line) + ending
        if self._is_first and line.startswith(_BOM):
            line = line[len(_BOM) :]
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._add(value)
        elif not name:
            events.append(Event(_text(value), "", self._offset - length, length, self._at, is_data=False))
        elif name == b"event":
            self._type = _text(value)
        elif name == b"id" and b"\0" not in value:
            self._id = _text(value)

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1
        if self._size <= EVENT_LIMIT:
            self._data.append(value)
        else:
            self._is_whole = False

    def _event(self, whole: bool) -> Event:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        length = self._offset - self._start
        event = Event(
            _text(data), self._type, self._start, length, self._at, bool(self._data), whole, self._id
        )
        self._data, self._type, self._size = [], "", 0
        return event


class LinesReader:
    """A stream of one JSON value a line (NDJSON, JSON text sequences).  Empty lines are no events."""

    def __init__(self) -> None:
        self._offset = 0
        self._line = _Kept()
        self._at: int | None = None

    def feed(self, data: bytes, at: int | None = None) -> list[Event]:
        events: list[Event] = []
        self._at = at if data else self._at
        done = 0
        while (end := data.find(b"\n", done)) >= 0:
            self._end_line(data[done:end], 1, events)
            done = end + 1
        self._line.add(data[done:])
        return events

    def finish(self) -> list[Event]:
        """The last line, if no line feed has ended it: many servers leave out the last one."""
        events: list[Event] = []
        self._end_line(b"", 0, events)
        for event in events:
            event.whole = event.whole and parse_json(event.data) is not None
        return events

    def _end_line(self, rest: bytes, ending: int, events: list[Event]) -> None:
        length = self._line.size + len(rest) + ending
        line = self._line.take(rest)
        text = line.strip(b"\x1e \t\r")
        if text:
            whole = not self._line.was_cut
            events.append(Event(_text(text), "", self._offset, length, self._at, whole=whole))
        self._offset += length


class ArrayReader:
    """One JSON array that arrives in pieces: each element is an event (Gemini without `alt=sse`)."""

    _SPECIAL = re.compile(rb'[][{}",\\]')
    _STRING_END = re.compile(rb'["\\]')

    def __init__(self) -> None:
        self._offset = 0
        self._depth = 0
        self._in_string = self._is_escaped = False
        self._element = _Kept()
        self._at: int | None = None

    def feed(self, data: bytes, at: int | None = None) -> list[Event]:
        events: list[Event] = []
        self._at = at if data else self._at
        kept = position = 0
        while position < len(data):
            if self._is_escaped:
                self._is_escaped = False
                position += 1
                continue
            match = (self._STRING_END if self._in_string else self._SPECIAL).search(data, position)
            if match is None:
                break
            position = match.end()
            if self._takes(match[0]):
                self._end_element(data[kept : position - 1], events)
                kept = position
        self._element.add(data[kept:])
        return events

    def _takes(self, byte: bytes) -> bool:
        """Take a special character; whether it ends an element or begins the array."""
        if self._in_string:
            self._is_escaped = byte == b"\\"
            self._in_string = byte != b'"'
        elif byte == b'"':
            self._in_string = True
        elif byte in b"[{":
            self._depth += 1
            return self._depth == 1
        elif byte in b"]}":
            self._depth -= 1
            return self._depth == 0
        return byte == b"," and self._depth == 1 and not self._in_string

    def _end_element(self, rest: bytes, events: list[Event]) -> None:
        length = self._element.size + len(rest)
        self._add(self._element.take(rest), not self._element.was_cut, events)
        self._offset += length + 1

    def finish(self) -> list[Event]:
        """The element that the end of the body has cut."""
        events: list[Event] = []
        self._add(self._element.take(b""), False, events)
        return events

    def _add(self, element: bytes, whole: bool, events: list[Event]) -> None:
        text = element.strip(b" \t\r\n")
        if text:
            blank = len(element) - len(element.lstrip(b" \t\r\n"))
            events.append(Event(_text(text), "", self._offset + blank, len(text), self._at, whole=whole))


class FrameReader:
    """
    Frames of `application/vnd.amazon.eventstream`, as Bedrock sends them.

    A frame is: its length, the length of its headers, the CRC-32 of both, headers, payload, and the CRC-32 of
    all that.
    After a wrong checksum nothing more is read.
    """

    _PRELUDE = 12
    _STRING = 7
    _SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    """Bytes of a header's value by its type; types 6 and 7 tell their own length."""

    def __init__(self) -> None:
        self._offset = 0
        self._kept = bytearray()
        self._at: int | None = None
        self.is_broken = False

    def feed(self, data: bytes, at: int | None = None) -> list[Event]:
        events: list[Event] = []
        self._at = at if data else self._at
        if self.is_broken:
            return events
        self._kept += data
        done = 0
        while len(self._kept) - done >= self._PRELUDE:
            length = int.from_bytes(self._kept[done : done + 4], "big")
            prelude = self._kept[done : done + 8]
            check = int.from_bytes(self._kept[done + 8 : done + 12], "big")
            if zlib.crc32(prelude) != check or not self._PRELUDE + 4 <= length <= EVENT_LIMIT:
                self.is_broken = True
                break
            if len(self._kept) - done < length:
                break
            if not self._take(bytes(self._kept[done : done + length]), events):
                self.is_broken = True
                break
            done += length
        del self._kept[: len(self._kept) if self.is_broken else done]
        return events

    def finish(self) -> list[Event]:
        if not self._kept:
            return []
        return [Event("", "", self._offset, len(self._kept), self._at, whole=False)]

    def _take(self, frame: bytes, events: list[Event]) -> bool:
        """Take a whole frame; False if its checksum is wrong."""
        if zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "big"):
            return False
        end = self._PRELUDE + int.from_bytes(frame[4:8], "big")
        headers = self._headers(frame[self._PRELUDE : end])
        kind = headers.get(":exception-type") or headers.get(":error-code") or headers.get(":event-type", "")
        events.append(Event(_text(frame[end:-4]), kind, self._offset, len(frame), self._at))
        self._offset += len(frame)
        return True

    def _headers(self, data: bytes) -> dict[str, str]:
        """The headers whose values are strings."""
        found: dict[str, str] = {}
        at = 0
        while at + 1 < len(data):
            name = data[at + 1 : at + 1 + data[at]]
            at += 1 + len(name)
            kind = data[at] if at < len(data) else -1
            at += 1
            if kind in (6, self._STRING):
                size = int.from_bytes(data[at : at + 2], "big")
                at += 2
            elif kind in self._SIZES:
                size = self._SIZES[kind]
            else:
                break
            if kind == self._STRING:
                found[_text(name)] = _text(data[at : at + size])
            at += size
        return found


READERS: dict[Format, Callable[[], EventReader]] = {
    Format.SSE: ServerSentReader,
    Format.LINES: LinesReader,
    Format.ARRAY: ArrayReader,
    Format.FRAMES: FrameReader,
}


class _Kept:
    """The beginning of a line or an element, of which the rest has not arrived."""

    def __init__(self) -> None:
        self.size = 0
        self.was_cut = False
        """Whether the last one that was taken was over the limit."""
        self._start = bytearray()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._start += piece[: max(0, EVENT_LIMIT - len(self._start))]

    def take(self, rest: bytes) -> bytes:
        """What was added, and `rest`, up to the limit; the next one begins."""
        if not self.size and len(rest) <= EVENT_LIMIT:
            self.was_cut = False
            return rest
        self.add(rest)
        whole = bytes(self._start)
        self.was_cut = len(whole) < self.size
        self.size = 0
        self._start.clear()
        return whole


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
