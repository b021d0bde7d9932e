"""
Reads an exchange with a language model: from its heads, its bodies and their times to what was meant.

Nothing here knows files or the index: bodies are handed in as they were recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from logging_proxy.understanding.answer_streams import AnswerStream
from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.charsets import charset_of, decode_text
from logging_proxy.understanding.decoding import decode, decode_pieces
from logging_proxy.understanding.dialects.recognise import Dialect, recognise
from logging_proxy.understanding.dialects.sockets import socket_for
from logging_proxy.understanding.json_top_level import top_level
from logging_proxy.understanding.lenient import mapping, parse_json
from logging_proxy.understanding.socket_streams import SocketStream
from logging_proxy.understanding.understood import Read
from logging_proxy.understanding.urls import called
from logging_proxy.understanding.verdicts import Ending

PARSED = 32 << 20
"""Maximum characters of a request that are parsed; of a longer one only the top level is read."""

_PLAN_HEADERS = ("anthropic-ratelimit-unified-status", "x-codex-primary-used-percent")
_PLAN_HOST = "chatgpt.com"
_PLAN_TOKEN = "sk-ant-oat"

Arrival = tuple[int | None, bytes]
"""When bytes arrived, in microseconds since the start of the exchange, and the bytes."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response as it was recorded."""

    fields: Mapping[str, str]
    """Header fields by lower-case name; of repeated ones the first."""
    body: bytes = b""
    times: Sequence[tuple[int, int]] = ()
    """The offset of each piece of the body, and the microseconds of its arrival."""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """The course of an exchange."""

    url: str
    """The URL of the destination."""
    started: datetime
    ending: Ending
    sent: int | None = None
    head: int | None = None


def read_exchange(request: Message, response: Message | None, course: Course) -> Read | None:
    """An exchange with a model, read; None if it is none, or not recognised as one."""
    path = urlsplit(course.url).path
    if response is not None and response.status == 101:
        return _read_socket(path, request, response, course)
    answered = response or Message({})
    dialect, value = _recognised(path, request, answered)
    if dialect is None:
        return None
    return Read(
        dialect,
        _asked(dialect, value, course.url),
        _answer(dialect, answered),
        course.ending,
        course.url,
        course.started,
        course.sent,
        course.head,
        _is_by_plan(course.url, request, answered),
    )


def dialect_of(url: str, request: Message, response: Message) -> Dialect | None:
    """The dialect of an exchange with the destination `url`; None if no model is called."""
    return _recognised(urlsplit(url).path, request, response)[0] if url else None


def _recognised(path: str, request: Message, response: Message) -> tuple[Dialect | None, Any]:
    """The dialect, and the JSON value of the request's body."""
    value = _request_value(request)
    dialect = recognise(path, request.fields, value)
    if dialect is None:
        # The first value of the answer is read only if the request does not tell.
        dialect = recognise(path, request.fields, value, _first_value(response))
    return dialect, value


def _read_socket(path: str, request: Message, response: Message, course: Course) -> Read | None:
    """The calls on a WebSocket; None if it is not that of a model."""
    found = socket_for(path)
    if found is None:
        return None
    dialect, reader = found
    stream = SocketStream(reader)
    extensions = response.fields.get("sec-websocket-extensions", "")
    stream.feed(arrivals(request.body, request.times), arrivals(response.body, response.times), extensions)
    reader.asked.model = reader.asked.model or called(course.url).model
    return Read(
        dialect, reader.asked, stream, course.ending, course.url, course.started, course.sent, course.head
    )


def _request_value(request: Message) -> Any:
    if not request.body:
        return None
    data = decode(request.body, request.fields.get("content-encoding", "")).data
    text = decode_text(data, charset_of(request.fields.get("content-type", ""), data[:64]))
    if len(text) > PARSED:
        return top_level(text, ("model", "stream", "previous_response_id"))
    value = parse_json(text)
    return top_level(text, ("model", "stream", "previous_response_id")) if value is None else value


def _asked(dialect: Dialect, value: Any, url: str) -> Asked:
    """What was asked; model and streaming by the URL where the body does not tell them."""
    asked = dialect.request(mapping(value))
    by_url = called(url)
    asked.model = asked.model or by_url.model
    if asked.stream is None and by_url.stream:
        asked.stream = True
    return asked


def _answer(dialect: Dialect, response: Message) -> AnswerStream:
    stream = AnswerStream(dialect, response.fields.get("content-type", ""), response.status)
    for at, data in arriving(response):
        stream.feed(data, at)
    stream.finish()
    return stream


def arrivals(body: bytes, times: Sequence[tuple[int, int]]) -> Iterator[Arrival]:
    """The pieces of a body with their times; bytes before the first piece have its time."""
    starts = [(offset, at) for offset, at in times if 0 <= offset < len(body)]
    if not starts or starts[0][0] > 0:
        starts.insert(0, (0, starts[0][1] if starts else None))  # type: ignore[arg-type]
    ends = [offset for offset, _ in starts[1:]] + [len(body)]
    for (offset, at), end in zip(starts, ends, strict=True):
        if offset < end:
            yield at, body[offset:end]


def arriving(message: Message) -> Iterator[Arrival]:
    """The decoded pieces of a message's body with their times."""
    return decode_pieces(arrivals(message.body, message.times), message.fields.get("content-encoding", ""))


def _first_value(response: Message) -> Any:
    """The first JSON value of an answer."""
    data = decode(response.body, response.fields.get("content-encoding", "")).data[:PARSED]
    text = data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith(("data:", "event:")):
        text = text[text.find("data:") + 5 :].partition("\n")[0]
    return parse_json(text)


def _is_by_plan(url: str, request: Message, response: Message) -> bool:
    """Whether a plan pays, by the limits that the answer tells, the host or the kind of the key."""
    if any(name in response.fields for name in _PLAN_HEADERS) or urlsplit(url).hostname == _PLAN_HOST:
        return True
    return any(_PLAN_TOKEN in request.fields.get(name, "") for name in ("authorization", "x-api-key"))
