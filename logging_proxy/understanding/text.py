"""
Extracts the readable text of a body, for the full-text index and for display, and its JSON values.

Accepts decoded bytes of any type, complete or truncated.  The cost is bounded whatever the content: text is
cut before it is parsed, and loops stop when their time is spent.  Binary data, base64 and recognised secrets
are omitted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from logging_proxy.redaction.redact import is_secret_parameter, redact_text
from logging_proxy.understanding.allowance import PIECE, STEP, Allowance
from logging_proxy.understanding.charsets import UTF_8, charset_of, decode_text
from logging_proxy.understanding.clean_text import TEXT_LIMIT, clean, ends_of, first_and_last
from logging_proxy.understanding.conversation import (
    CHAIN_FROM,
    Known,
    conversation_of,
    kept_text,
    none_known,
)
from logging_proxy.understanding.decoding import Limits, decode
from logging_proxy.understanding.json_streams import JsonStream
from logging_proxy.understanding.json_strings import all_strings, expanded, is_plain, parse, string_literals
from logging_proxy.understanding.media_types import Form, form_of
from logging_proxy.understanding.multipart import boundary_of, parts
from logging_proxy.understanding.websocket import Deflate, WebSocketReader

_TAG = re.compile(r"<[^<>]{0,2000}>")

MARKUP_LIMIT = 2 << 20
"""Maximum characters read of a page, most of them from its end."""

FIELD_LIMIT = 512 << 10
"""Maximum characters read of a form field before percent-decoding; nine of them may encode one character."""

LONGEST_NAME = 2048
"""Maximum characters read of a field name."""

PART_LEVELS = 4
"""Levels of multipart bodies within each other that are read."""

PART_LIMITS = Limits(output=4 << 20, seconds=0.5)
"""Limits on the decoding of a part that has a coding of its own."""

LONGEST_FIELD, MOST_FIELDS = 1024, 256
"""Limits on the fields of a multipart form that become a value: characters, and number."""

EVENT_LIMIT = 8 << 20
"""Maximum characters of an event, counting `PIECE` for each line; further lines are omitted."""

_new = tuple.__new__
"""Creates a named tuple without a call of its Python-level constructor."""


class Content(NamedTuple):
    """The text of a body and its JSON values: for a stream, the first of them."""

    text: str = ""
    documents: Sequence[Any] = ()
    cut: bool = False
    """Whether a part of the body was not read, or of its text not kept."""
    tail: int = 0
    """The last hash of the chain of a long conversation; 0 if there is none."""


def text_of(body: bytes, content_type: str) -> str:
    """The readable text of a decoded body."""
    return read_content(body, content_type).text


def read_content(
    body: bytes, content_type: str, cut: bool = False, levels: int = PART_LEVELS, known: Known = none_known
) -> Content:
    """
    Text and JSON values of a decoded body; `cut` means that `body` is only its beginning.

    Parts of parts are read down to `levels`.  Of a text beyond the limit a part is kept; for that, `known`
    tells what of a conversation is indexed.
    """
    if not body:
        return Content(cut=cut)
    form = form_of(content_type, body)
    if form is _BINARY:
        return Content(cut=cut)
    if form is Form.MULTIPART and levels:
        return _from_parts(body, content_type, cut, levels)
    allowance = Allowance()
    text = decode_text(body, charset_of(content_type, body), cut, allowance=allowance)
    cut = cut or allowance.is_spent
    if form is _JSON:
        return _from_json(text, cut, known)
    if form is Form.EVENTS:
        return _from_events(text, _event_data, cut)
    if form is Form.JSON_LINES:
        return _from_events(text, _lines, cut)
    if form is Form.FIELDS:
        return _from_fields(text, cut)
    if form is Form.MARKUP:
        return _content(
            _TAG.sub(" ", redact_text(ends_of(text, MARKUP_LIMIT))), cut or len(text) > MARKUP_LIMIT
        )
    return _content(text, cut)


def _content(text: str, cut: bool, documents: Sequence[Any] = ()) -> Content:
    return Content(clean(text), documents, cut or len(text) > TEXT_LIMIT)


_JSON, _BINARY = Form.JSON, Form.BINARY
"""The most frequent forms as globals: looking up an enum member costs as much as a call."""


def _from_parts(body: bytes, content_type: str, cut: bool, levels: int) -> Content:
    """
    The text of all parts, except secret fields; the short fields are the members of one value.

    Of a binary part the file's name is text.
    """
    fields: dict[str, Any] = {}
    texts = []
    for head, pieces in parts([body], boundary_of(content_type, body[:LONGEST_NAME])):
        if is_secret_parameter(head.name[-LONGEST_NAME:]):
            continue
        part = decode(b"".join(pieces), head.content_encoding, PART_LIMITS, thread_time).data
        text, _, is_cut, _ = read_content(part, head.content_type, levels=levels - 1)
        texts += [clean(head.filename), text]
        cut = cut or is_cut
        if head.name and not head.filename and len(text) <= LONGEST_FIELD and len(fields) < MOST_FIELDS:
            fields.setdefault(head.name, text)
    kept = "\n".join(first_and_last(filter(None, texts)))
    return Content(kept, [fields] if fields else (), cut or len(kept) > TEXT_LIMIT)


def _field_values(text: str, allowance: Allowance) -> Iterator[str]:
    """The values of form fields, except secret fields."""
    at = 0
    while at <= len(text):
        end = text.find("&", at)
        end = len(text) if end < 0 else end
        if not allowance.spend(end - at):
            return
        name, _, value = text[at:end].partition("=")
        if not is_secret_parameter(name[-LONGEST_NAME:]):
            yield unquote_plus(ends_of(value, FIELD_LIMIT))
        at = end + 1


def _from_fields(text: str, cut: bool) -> Content:
    allowance = Allowance()
    values = expanded(list(first_and_last(_field_values(text, allowance))), allowance)
    return _content("\n".join(values), cut or allowance.is_spent)


def _from_json(text: str, cut: bool, known: Known) -> Content:
    value = None if cut else parse(text)
    allowance = Allowance()
    if value is None:
        strings = expanded(list(first_and_last(string_literals(text, allowance))), allowance)
        return _content("\n".join(strings), cut or allowance.is_spent)
    joined = _joined(value, allowance)
    if len(joined) < CHAIN_FROM:
        return _new(Content, (clean(joined, is_plain(text)), [value], allowance.is_spent, 0))
    conversation = conversation_of(value)
    cut = allowance.is_spent or len(joined) > TEXT_LIMIT
    if conversation is not None and len(joined) > TEXT_LIMIT:
        joined = kept_text(conversation, known, Allowance())
    return Content(clean(joined, is_plain(text)), [value], cut, conversation.chain[-1] if conversation else 0)


def _joined(value: Any, allowance: Allowance) -> str:
    """The strings of a JSON value, one a line."""
    # Gemini sends a stream as the items of one list, unless it is asked for events.
    if not (
        isinstance(value, list) and all(isinstance(item, dict) and "candidates" in item for item in value)
    ):
        return "\n".join(all_strings(value, allowance))
    stream = JsonStream()
    for item in value:
        stream.take_event(item, [])
    return stream.text(allowance)


def _blocks(text: str, allowance: Allowance) -> Iterator[list[str]]:
    """The lines of `text` in blocks, within `allowance`; splitting all of it at once takes much memory."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    at = 0
    while at <= len(text):
        end = text.find("\n", at + STEP)
        end = len(text) if end < 0 else end
        if not allowance.spend(end - at):
            return
        yield text[at:end].split("\n")
        at = end + 1


def _lines(text: str, allowance: Allowance) -> Iterator[str]:
    for block in _blocks(text, allowance):
        yield from block


def _event_data(text: str, allowance: Allowance) -> Iterator[str]:
    """The data of each server-sent event, within `allowance`."""
    lines: list[str] = []
    room = EVENT_LIMIT
    for block in _blocks(text, allowance):
        for line in block:
            if line.startswith("data:"):
                room -= len(line) + PIECE
                if room > 0:
                    lines.append(line[5:].removeprefix(" "))
            elif not line and lines:
                yield "\n".join(lines)
                lines, room = [], EVENT_LIMIT
    if lines:
        yield "\n".join(lines)


def read_messages(stream: bytes, deflate: Deflate | None, cut: bool = False) -> Content:
    """Text and JSON values of the text messages in the bytes of a WebSocket, in one direction."""
    return _from_items(_message_texts(stream, deflate), Allowance(), cut)


def _message_texts(stream: bytes, deflate: Deflate | None) -> Iterator[str]:
    reader = WebSocketReader(deflate)
    for at in range(0, len(stream), STEP):
        for message in reader.feed(stream[at : at + STEP]):
            if message.kind == "text":
                yield message.data.decode("utf-8", "replace")
    for message in reader.finish():
        if message.kind == "text":
            yield decode_text(message.data, UTF_8, cut=True)


def _from_events(text: str, split: Callable[[str, Allowance], Iterator[str]], cut: bool) -> Content:
    """The first values of a stream, and its text with the pieces joined."""
    allowance = Allowance()
    return _from_items(split(text, allowance), allowance, cut)


def _from_items(items: Iterator[str], allowance: Allowance, cut: bool) -> Content:
    stream = JsonStream()
    for item in items:
        if stream.goes_on(item):
            continue
        if stream.is_full or not allowance.spend(len(item)):
            break
        stream.take(item)
    return _content(stream.text(allowance), cut or stream.is_full or allowance.is_spent, stream.documents)
