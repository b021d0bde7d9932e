"""
Extracts the readable text of a body, for the full-text index and for display, and its JSON values.

Accepts decoded bytes of any type, complete or truncated.  The cost is bounded whatever the content: text is
cut before it is parsed, and loops stop when their time is spent.  Binary data, base64 and recognised secrets
are omitted.
"""

from __future__ import annotations

import codecs
import enum
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from logging_proxy.redaction.redact import is_secret_parameter
from logging_proxy.understanding.allowance import PIECE, STEP, Allowance
from logging_proxy.understanding.clean_text import BINARY, clean, ends_of, first_and_last
from logging_proxy.understanding.json_streams import JsonStream
from logging_proxy.understanding.json_strings import all_strings, is_plain, parse, string_literals

_JSON_TYPE = re.compile(r"(application|text)/json|[\w.-]+/[\w.+-]+\+json")
_LINES_TYPE = re.compile(r"application/(x-)?(nd-?json|jsonl(ines)?|json-seq)|text/jsonl")
_TEXT_TYPE = re.compile(
    r"text/.*|application/((xhtml\+)?xml|javascript|ecmascript|graphql|x-yaml|yaml|toml)|[\w.-]+/[\w.-]+\+xml"
)
_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"utf[-_]?(8|16|32)([-_]?[lb]e)?|(us-)?ascii|iso[-_]8859[-_]\d{1,2}|latin[-_]?1|(windows|cp)[-_]?125\d"
    r"|koi8[-_][ru]|shift[-_]jis|euc[-_](jp|kr)|gb(k|2312|18030)|big5"
)
"""An allow-list, because some of Python's codecs take quadratic time."""

_TAG = re.compile(r"<[^<>]{0,2000}>")

MARKUP_LIMIT = 2 << 20
"""Maximum characters read of a page, most of them from its end."""

FIELD_LIMIT = 512 << 10
"""Maximum characters read of a form field before percent-decoding; nine of them may encode one character."""

WIDE_LIMIT = 2 << 20
"""Maximum bytes of UTF-32 read: invalid input is slow, and decoding cannot be interrupted."""

LONGEST_NAME = 2048
"""Maximum characters read of a field name or a content type."""

EVENT_LIMIT = 8 << 20
"""Maximum characters of an event, counting `PIECE` for each line; further lines are omitted."""

_new = tuple.__new__
"""Creates a named tuple without a call of its Python-level constructor."""


class Content(NamedTuple):
    """The text of a body and its JSON values: for a stream, the first of them."""

    text: str = ""
    documents: Sequence[Any] = ()


def text_of(body: bytes, content_type: str) -> str:
    """The readable text of a decoded body."""
    return read_content(body, content_type).text


def read_content(body: bytes, content_type: str, cut: bool = False) -> Content:
    """Text and JSON values of a decoded body; `cut` means that `body` is only its beginning."""
    if not body:
        return Content()
    form, charset = _form_of(content_type[:LONGEST_NAME])
    if form is _JSON:
        return _from_json(_decoded(body, charset), cut)
    if form is _Form.EVENTS:
        return _from_events(_decoded(body, charset), _event_data)
    if form is _Form.LINES:
        return _from_events(_decoded(body, charset), _lines)
    if form is _Form.FIELDS:
        return Content(clean("\n".join(first_and_last(_field_values(_decoded(body, charset), Allowance())))))
    if form is _Form.MARKUP:
        return Content(clean(_TAG.sub(" ", ends_of(_decoded(body, charset), MARKUP_LIMIT))))
    if form is _Form.TEXT:
        return Content(clean(_decoded(body, charset)))
    return _from_unknown(body, cut) if form is _Form.UNKNOWN else Content()


class _Form(enum.Enum):
    JSON = enum.auto()
    EVENTS = enum.auto()
    LINES = enum.auto()
    FIELDS = enum.auto()
    MARKUP = enum.auto()
    TEXT = enum.auto()
    UNKNOWN = enum.auto()
    BINARY = enum.auto()


_JSON = _Form.JSON
"""The most frequent form as a global: looking up an enum member costs as much as a call."""


@lru_cache(maxsize=256)
def _form_of(content_type: str) -> tuple[_Form, str]:
    """How to read a body of this content type, and its charset."""
    kind = content_type.partition(";")[0].strip().lower()
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else "utf-8"
    if not _CHARSETS.fullmatch(charset):
        charset = "utf-8"
    return _form_of_kind(kind), charset


def _form_of_kind(kind: str) -> _Form:
    if kind == "text/event-stream":
        return _Form.EVENTS
    if _LINES_TYPE.fullmatch(kind):
        return _Form.LINES
    if _JSON_TYPE.fullmatch(kind):
        return _Form.JSON
    if kind == "application/x-www-form-urlencoded":
        return _Form.FIELDS
    if _TEXT_TYPE.fullmatch(kind):
        return _Form.MARKUP if "ml" in kind else _Form.TEXT
    return _Form.BINARY if kind else _Form.UNKNOWN


def _from_unknown(body: bytes, cut: bool) -> Content:
    """A body without a type: JSON if it starts like JSON, text if it is UTF-8 without control characters."""
    start = body[:64].lstrip()
    try:
        text = body[: len(body) - 3 if cut else None].decode("utf-8")
    except UnicodeDecodeError:
        return Content()
    if start[:1] in (b"{", b"["):
        return _from_json(text, cut)
    return Content() if BINARY.search(text) else Content(clean(text))


def _decoded(body: bytes, charset: str) -> str:
    try:
        if charset.startswith("utf"):
            text = (body[:WIDE_LIMIT] if "32" in charset else body).decode(charset, "replace")
        else:
            text = _from_charset(body, charset, Allowance())
    except LookupError:
        text = body.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def _from_charset(body: bytes, charset: str, allowance: Allowance) -> str:
    """Decode `body` in steps within `allowance`, because invalid bytes are slow in some codecs."""
    decoder = codecs.getincrementaldecoder(charset)("replace")
    pieces = []
    for at in range(0, len(body), STEP):
        if not allowance.spend(STEP):
            break
        pieces.append(decoder.decode(body[at : at + STEP], at + STEP >= len(body)))
    return "".join(pieces)


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


def _from_json(text: str, cut: bool) -> Content:
    value = None if cut else parse(text)
    if value is None:
        return Content(clean("\n".join(first_and_last(string_literals(text, Allowance())))))
    return _new(Content, (clean("\n".join(all_strings(value)), is_plain(text)), [value]))


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


def _from_events(text: str, split: Callable[[str, Allowance], Iterator[str]]) -> Content:
    """The first values of a stream, and its text with the pieces joined."""
    stream, allowance = JsonStream(), Allowance()
    for item in split(text, allowance):
        if stream.goes_on(item):
            continue
        if stream.is_full or not allowance.spend(len(item)):
            break
        stream.take(item)
    return Content(clean(stream.text()), stream.documents)
