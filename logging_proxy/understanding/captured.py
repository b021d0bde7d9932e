"""Reads a captured exchange with a language model, from its metadata and its bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from logging_proxy.understanding.lenient import items, mapping, number, string, word
from logging_proxy.understanding.reading import Course, Message, read_exchange
from logging_proxy.understanding.understood import Read
from logging_proxy.understanding.verdicts import Ending

BODY_LIMIT = 64 << 20
"""Maximum bytes of a body that are read."""

ReadBody = Callable[[str, int], bytes]
"""Takes the name of a `.bin` file and a maximum; returns the start of its body, empty if it is unreadable."""

Document = Mapping[str, Any]


def read_captured(request: Document | None, response: Document | None, read_body: ReadBody) -> Read | None:
    """
    The exchange that `request` and `response` are the metadata of, read; None if no model was called.

    The metadata may be incomplete: then less is known.
    """
    about = request or response
    if about is None or not string(about.get("destination_url")):
        return None
    started = _time(about.get("started_at"))
    if started is None:
        return None
    course = Course(
        string(about.get("destination_url")),
        started,
        _ending(about, response),
        None if request is None else _since(started, request.get("completed_at")),
        None if response is None else _since(started, response.get("started_at")),
    )
    asked = Message({}) if request is None else message_of(request, read_body)
    return read_exchange(asked, None if response is None else message_of(response, read_body), course)


def _ending(about: Document, response: Document | None) -> Ending:
    last = response or about
    took = last.get("processing_time_ms")
    return Ending(
        word(last.get("outcome")),
        None if response is None else number(response.get("status")),
        response is not None and response.get("answered_by") == "proxy",
        string(last.get("error")),
        round(took * 1000) if isinstance(took, (int, float)) else None,
        (number(response.get("bytes")) or 0) if response is not None else 0,
    )


def message_of(document: Document, read_body: ReadBody) -> Message:
    """The request or the response that `document` is the metadata of."""
    fields: dict[str, str] = {}
    for field in items(document.get("headers")):
        if isinstance(field, list) and len(field) == 2:
            fields.setdefault(str(field[0]).lower(), str(field[1]))
    size = number(document.get("bytes")) or 0
    refused = number(mapping(document.get("refused")).get("offset"))
    size = size if refused is None else min(size, refused)
    name = string(document.get("filename"))
    body = read_body(name, min(size, BODY_LIMIT))[:size] if name and size else b""
    times = [(at[0], at[1]) for at in items(document.get("pieces")) if isinstance(at, list) and len(at) == 2]
    return Message(fields, body, times, number(document.get("status")))


def _time(text: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(string(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.astimezone()


def _since(started: datetime, text: Any) -> int | None:
    """Microseconds from the start; not negative, for the clock may have been set in between."""
    time = _time(text)
    return None if time is None else max(0, round((time - started).total_seconds() * 1e6))
