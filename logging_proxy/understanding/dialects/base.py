"""
What a dialect is: how its answers are read.

A dialect is recognised elsewhere (`recognise`); here it is given the events of a stream one by one, or the
one document of an answer that was not streamed, and puts an `Answer` together.  Nothing it is given makes it
raise, and unknown members and events are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from logging_proxy.understanding.answers import Answer, AnswerPart, EventClass, Failure, Kind
from logging_proxy.understanding.lenient import (
    as_text,
    items,
    mapping,
    mappings,
    number,
    parse_json,
    string,
    total,
    word,
)
from logging_proxy.understanding.stream_events import Event

IN_STREAM, IN_BODY, BY_STATUS = "stream", "body", "status"
"""Where a provider reports a failure."""


@dataclass(frozen=True, slots=True)
class _Form:
    """
    An event that does nothing but let one part grow.

    Most events of a long answer are like the one before but for one string, and parsing is most of their
    cost.
    """

    start: str
    end: str
    part: AnswerPart
    kind: EventClass

    def piece_in(self, data: str) -> str:
        """The string by which an event differs from this one; empty if that is not all."""
        if not (data.startswith(self.start) and data.endswith(self.end)):
            return ""
        piece = data[len(self.start) : len(data) - len(self.end)]
        return piece if piece.isprintable() and '"' not in piece and "\\" not in piece else ""


def _form_of(data: str, answer: Answer, kind: EventClass) -> _Form | None:
    """The form of an event that has let the last part grow by the last piece, and has begun no part."""
    literal, part = f'"{answer.last_piece}"', answer.last_part
    # With an escape anywhere, the piece might be escaped, and `literal` be another string.
    if part is None or len(part.pieces) < 2 or "\\" in data or data.count(literal) != 1:
        return None
    at = data.index(literal) + 1
    return _Form(data[:at], data[at + len(answer.last_piece) :], part, kind)


class AnswerReader:
    """Reads an answer in one dialect; a subclass reads events in `take_value` and documents in `document`."""

    DONE: frozenset[str] = frozenset()
    """Data of events that end a stream without being JSON."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._form: _Form | None = None
        """The form of the last event, if the next one may be read by it."""

    def take(self, event: Event) -> EventClass:
        """Take an event of a stream.  An event that was cut tells nothing."""
        if not event.is_data:
            return EventClass.KEEP_ALIVE
        if not event.whole:
            return EventClass.OTHER
        data = event.data
        if self._form is not None and (piece := self._form.piece_in(data)):
            self.answer.grow(self._form.part, piece)
            return self._form.kind
        if data in self.DONE:
            self.answer.is_terminal = True
            return EventClass.TERMINAL
        value = parse_json(data)
        if not isinstance(value, dict):
            return EventClass.OTHER
        before, self._form = self.answer.grown, None
        kind = self.take_value(event.type, value)
        if kind.is_content and self.answer.grown == before + 1:
            self._form = _form_of(data, self.answer, kind)
        return kind

    def take_value(self, kind: str, value: dict[str, Any]) -> EventClass:
        """Take the value of an event; `kind` is the type that the stream gives it, empty if it gives none."""
        raise NotImplementedError

    def document(self, value: Any, status: int | None = None) -> None:
        """Take an answer that was not streamed: it is whole."""
        self.answer.is_terminal = True
        found = failure_in(value, BY_STATUS if status is not None and status >= 400 else IN_BODY, status)
        if found is not None:
            self.answer.fail(found)
        if isinstance(value, dict):
            self._document(value)

    def _document(self, value: dict[str, Any]) -> None:
        raise NotImplementedError

    def ends(self) -> None:
        """The terminal event has come."""
        self.answer.is_terminal = True


def failure_in(value: Any, where: str, status: int | None = None) -> Failure | None:
    """
    The failure that a JSON value reports; None if it reports none.

    Gemini puts it into an array, Ollama and xAI use a string; Cohere and FastAPI have no `error` member, so
    theirs counts with an error status only.
    """
    if isinstance(value, list):
        value = next(iter(value), None)
    found = mapping(value)
    error = found.get("error")
    if isinstance(error, dict):
        return _detailed(error, where, status)
    if isinstance(error, str) and error:
        return Failure(where, status, word(found.get("type")), _code(found.get("code")), error)
    if status is None or status < 400:
        return None
    message = word(found.get("message")) or word(found.get("Message")) or _detail(found.get("detail"))
    kind = word(found.get("__type")) or word(found.get("type"))
    return Failure(where, status, kind, _code(found.get("code")), message)


def _detailed(error: dict[str, Any], where: str, status: int | None) -> Failure:
    # Google's `status` is the name of the error; Azure's is a number.
    kind = word(error.get("type")) or word(error.get("status"))
    return Failure(where, status, kind, _code(error.get("code")), word(error.get("message")))


def _code(value: Any) -> str | int | None:
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _detail(value: Any) -> str | None:
    """FastAPI's `detail`: a text, or a list of problems with a `msg` each."""
    if isinstance(value, list):
        return "; ".join(filter(None, (string(mapping(each).get("msg")) for each in value))) or None
    return word(value)


__all__ = [
    "BY_STATUS",
    "IN_BODY",
    "IN_STREAM",
    "Answer",
    "AnswerReader",
    "Event",
    "EventClass",
    "Failure",
    "Kind",
    "as_text",
    "failure_in",
    "items",
    "mapping",
    "mappings",
    "number",
    "string",
    "total",
    "word",
]
