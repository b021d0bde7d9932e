"""
Reads the answer of an exchange from the decoded bytes of its response, as they came.

Works for streams and for whole documents: the first bytes tell which, for servers send event streams as JSON
and JSON as event streams.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from logging_proxy.understanding.answers import Answer, EventClass
from logging_proxy.understanding.dialects.recognise import GEMINI, OLLAMA, Dialect
from logging_proxy.understanding.lenient import parse_json
from logging_proxy.understanding.stream_events import READERS, Event, EventReader, Format
from logging_proxy.understanding.timing import Clocks

DOCUMENT_LIMIT = 32 << 20
"""Maximum bytes of a document that are kept and parsed."""

_SPACE = b" \t\r\n"
_FIELD = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry|):")
_LONGEST_FIELD = 9
_FRAMES = "application/vnd.amazon.eventstream"
_LINES = re.compile(r"(application/(x-)?(nd-?json|jsonl(ines)?|json-seq)|text/jsonl)\b")


@dataclass(frozen=True, slots=True)
class Taken:
    """An event, what it is, and the text by which the answer has grown."""

    event: Event
    kind: EventClass
    text: str


class AnswerStream:
    """An answer that arrives."""

    def __init__(self, dialect: Dialect, content_type: str, status: int | None) -> None:
        self.clocks = Clocks()
        self.format: Format | None = None
        """The format of a stream; None for a document, and while nothing has arrived."""
        self.is_readable = True
        """False for a document that is no JSON."""
        self._dialect = dialect
        self._reader = dialect.reader()
        self._reader.answer.status = status
        self._type = content_type.strip().lower()
        self._status = status
        self._events: EventReader | None = None
        self._start = b""
        self._document: bytearray | None = None

    @property
    def answer(self) -> Answer:
        """What has been answered so far."""
        return self._reader.answer

    @property
    def answers(self) -> list[Answer]:
        """The same, as the one answer of a request."""
        return [self._reader.answer]

    def feed(self, data: bytes, at: int | None = None) -> list[Taken]:
        """Take decoded bytes that arrived at `at`; the events that they complete."""
        if not data:
            return []
        self.clocks.bytes(at)
        if self._events is None and self._document is None:
            data = self._start + data
            if not self._choose(data):
                self._start = data[-DOCUMENT_LIMIT:]
                return []
        if self._document is not None:
            self._document += data[: max(0, DOCUMENT_LIMIT - len(self._document))]
            return []
        return self._take(self._events.feed(data, at)) if self._events else []

    def finish(self) -> list[Taken]:
        """The body has ended; it may have been cut."""
        if self._events is None and self._document is None and self._start:
            self._document = bytearray(self._start)
        if self._document is not None:
            return self._finish_document(bytes(self._document))
        return self._take(self._events.finish()) if self._events else []

    def _choose(self, data: bytes) -> bool:
        """Choose how to read, by the type and the first bytes; False while there are too few of them."""
        start = data.lstrip(_SPACE)
        if self._type.startswith(_FRAMES):
            self.format = Format.FRAMES
        elif not start or (len(start) < _LONGEST_FIELD and start[:1] not in b"{["):
            return False
        elif _FIELD.match(start):
            self.format = Format.SSE
        elif _LINES.match(self._type):
            self.format = Format.LINES
        elif start.startswith(b"[") and self._dialect is GEMINI and (self._status or 200) < 400:
            self.format = Format.ARRAY
        else:
            self._document = bytearray()
            return True
        self._events = READERS[self.format]()
        return True

    def _take(self, events: list[Event]) -> list[Taken]:
        taken = []
        answer = self._reader.answer
        for event in events:
            answer.last_piece = ""
            kind = self._reader.take(event)
            if event.whole:
                self.clocks.event(event.at, kind, event.is_data)
            taken.append(Taken(event, kind, answer.last_piece))
        return taken

    def _finish_document(self, data: bytes) -> list[Taken]:
        text = data.decode("utf-8-sig", "replace")
        value = parse_json(text)
        if value is None and self._dialect is OLLAMA:
            # A gateway that has lost the type of a stream.
            self.format, self._events = Format.LINES, READERS[Format.LINES]()
            return self._take([*self._events.feed(data), *self._events.finish()])
        if value is None:
            self.is_readable = False
        else:
            self._reader.document(value, self._status)
        return []
