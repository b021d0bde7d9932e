"""
What a body is: its form, by the declared type and by its bytes.

The bytes decide where the declared type is missing, general (`application/octet-stream`, `text/plain`, the
form type of `curl -d`) or wrong (an event stream sent as JSON).  Only the start of a body is looked at.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

from logging_proxy.understanding.charsets import LONGEST_TYPE, UTF_8, charset_of, decode_text

LOOKED_AT = 4096
"""Bytes at the start of a body by which its form is recognised."""

FIRST_LINE = 1 << 20
"""Bytes in which the end of a first line of JSON is looked for."""


class Form(enum.Enum):
    """How a body is to be read."""

    JSON = enum.auto()
    JSON_LINES = enum.auto()
    """One JSON value per line (NDJSON, JSON Lines, JSON text sequences)."""
    EVENTS = enum.auto()
    """Server-sent events."""
    FIELDS = enum.auto()
    """A form, percent-encoded."""
    MULTIPART = enum.auto()
    MARKUP = enum.auto()
    """HTML or XML."""
    TEXT = enum.auto()
    WEBSOCKET = enum.auto()
    """The bytes of a connection after an upgrade; told by the head of the answer, never by the bytes."""
    BINARY = enum.auto()


_JSON, _EVENTS, _LINES = Form.JSON, Form.EVENTS, Form.JSON_LINES
"""The most frequent forms as globals: looking up an enum member costs as much as a call."""

_JSON_TYPE = re.compile(r"(application|text)/(x-)?json|[\w.-]+/[\w.+-]+\+json")
_LINES_TYPE = re.compile(
    r"(application|text)/(x-)?(nd-?json|json-?l(ines)?|ldjson|line-delimited-json|stream\+json)"
    r"|application/(json-seq|[\w.+-]+\+json-seq)"
)
_TEXT_TYPE = re.compile(
    r"text/.*|application/((xhtml\+)?xml|(x-)?javascript|ecmascript|graphql|x-yaml|yaml|toml|sql|x-sh)"
    r"|[\w.-]+/[\w.-]+\+xml"
)
_MEDIA_TYPE = re.compile(
    r"(image|audio|video|font)/.*|application/(pdf|zip|gzip|x-tar|wasm|grpc.*|x-protobuf)"
)


@lru_cache(maxsize=256)
def _declared_form(content_type: str) -> Form | None:
    """The form that a content type declares; None where it tells nothing."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _EVENTS
    if _LINES_TYPE.fullmatch(kind):
        return _LINES
    if _JSON_TYPE.fullmatch(kind):
        return _JSON
    if kind == "application/x-www-form-urlencoded":
        return Form.FIELDS
    if kind.startswith("multipart/"):
        return Form.MULTIPART
    if _TEXT_TYPE.fullmatch(kind):
        return Form.MARKUP if "ml" in kind else Form.TEXT
    return Form.BINARY if _MEDIA_TYPE.fullmatch(kind) else None


def form_of(content_type: str, start: bytes) -> Form:
    """
    How to read a body of this type that begins with `start`: the whole body, or as much as there is.

    Any bytes and any type have a form.  More bytes can change it as long as they are fewer than `LOOKED_AT`.
    """
    declared = _declared_form(content_type[:LONGEST_TYPE])
    if declared is _JSON and start[:1] == b"{" and start.find(b"\n", 0, FIRST_LINE) < 0:
        return _JSON
    if declared is _EVENTS and start[:5] == b"data:":
        return _EVENTS
    ascii = _ascii(content_type, start)
    looks = _looks_like(ascii, strict=declared not in (_JSON, _LINES, _EVENTS, Form.FIELDS))
    if looks is not None:
        return _undecided_lines(declared, looks, ascii)
    if declared is Form.FIELDS and ascii and not _FIELDS.match(ascii):
        declared = None
    if declared not in (None, Form.BINARY, Form.MULTIPART):
        return Form.BINARY if _is_binary(content_type, start, share=10) else declared
    return declared or _undeclared(content_type, ascii, start)


_SPACE = b" \t\r\n"
_OBJECT = re.compile(rb'\{\s*(?:"|\}|\Z)')
_STRICT_OBJECT = re.compile(
    rb'\{\s*(?:"[^"\\]*+(?:\\.[^"\\]*+)*(?:"\s*(?::|\Z)|\\?\Z)|\}\s*(?:[\r\n{]|\Z))', re.DOTALL
)
_ARRAY = re.compile(rb'\[\s*(?:[\[\]{"tfn\d-]|\Z)')
_STRICT_ARRAY = re.compile(
    rb'\[\s*(?:\{\s*["}]|[\["]|\]\s*\Z|-?\d[\d.eE+-]*+\s*(?:,|\]\s*\Z)|(?:true|false|null)\s*[,\]])'
)
_EVENT_FIELD = re.compile(rb"(?:data|event|id|retry)(?::|$)|:")
_TELLING_FIELD = re.compile(rb"data:|event:")
_PART = re.compile(
    rb"--[^\r\n]{1,70}\r?\n(?:[!-9;-~]+:[^\r\n]*\r?\n)*?content-(?:disposition|type)\s*:", re.IGNORECASE
)
_MARKUP = re.compile(rb"<(?:!doctype|\?xml|html|[a-z][\w:-]*[\s/>])", re.IGNORECASE)
_FIELDS = re.compile(rb"[^\s=<>{}\"]*+=")
_ONLY_FIELDS = re.compile(rb"[\w.~*+%\[\]-]+=[\w.~*+%:/@,-]*(?:&[\w.~*+%\[\]-]+=[\w.~*+%:/@,-]*)*\s*")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def _ascii(content_type: str, start: bytes) -> bytes:
    """The start of a body as bytes in which ASCII is ASCII, without a byte order mark and leading space."""
    charset = charset_of(content_type, start)
    if charset.startswith(("utf-16", "utf-32")):
        start = decode_text(start[: 2 * LOOKED_AT], charset, cut=True).encode("utf-8", "replace")
    elif start[:3] == b"\xef\xbb\xbf":
        start = start[3 : FIRST_LINE + 3]
    return start[:FIRST_LINE].lstrip(_SPACE) if start[:1] in _BLANK else start


_BLANK = frozenset([b" ", b"\t", b"\r", b"\n"])


def _looks_like(ascii: bytes, strict: bool) -> Form | None:
    """JSON, lines or events, as the bytes say; `strict` where text could begin in the same way."""
    first = ascii[:1]
    if first == b"{":
        return _values(ascii) if (_STRICT_OBJECT if strict else _OBJECT).match(ascii, 0, LOOKED_AT) else None
    if first == b"[":
        return _values(ascii) if (_STRICT_ARRAY if strict else _ARRAY).match(ascii, 0, LOOKED_AT) else None
    if first == b"\x1e":
        return _LINES if ascii[1:2] in (b"{", b"[") else None
    if first == b"-":
        return Form.MULTIPART if _PART.match(ascii, 0, LOOKED_AT) else None
    return _EVENTS if _EVENT_FIELD.match(ascii) and _are_events(ascii[:LOOKED_AT]) else None


def _values(ascii: bytes) -> Form:
    """One JSON value or lines of them: if the first value ends with its line, and another one follows."""
    end = ascii.find(b"\n", 0, FIRST_LINE)
    if end > 0 and ascii[max(0, end - 64) : end].rstrip()[-1:] in (b"}", b"]"):
        following = ascii[end : end + LOOKED_AT].lstrip()[:1]
        if following in (b"{", b"["):
            return _LINES
    return _JSON


def _are_events(ascii: bytes) -> bool:
    """Whether all lines of the first event are fields of an event, and one of them is not just a comment."""
    told = False
    for line in ascii.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:64]:
        if not line:
            if told:
                return True
            continue
        if not _EVENT_FIELD.match(line):
            # The last line may be cut within the name of its field.
            return told and ascii.endswith(line)
        told = told or _TELLING_FIELD.match(line) is not None
    return told


def _undecided_lines(declared: Form | None, looks: Form, ascii: bytes) -> Form:
    """Declared lines of which only the first is there are lines, unless that is no whole value."""
    if declared is _LINES and looks is _JSON:
        line = ascii[: ascii.find(b"\n", 0, FIRST_LINE)].rstrip() if b"\n" in ascii[:FIRST_LINE] else b"}"
        return _LINES if line[-1:] in (b"}", b"]") else _JSON
    return looks


def _undeclared(content_type: str, ascii: bytes, start: bytes) -> Form:
    """The form of a body of which the declared type tells nothing."""
    if not ascii:
        return Form.TEXT
    if _is_binary(content_type, start):
        return Form.BINARY
    if _MARKUP.match(ascii):
        return Form.MARKUP
    return Form.FIELDS if _ONLY_FIELDS.fullmatch(ascii, 0, LOOKED_AT) else Form.TEXT


def _is_binary(content_type: str, start: bytes, share: int = 0) -> bool:
    """
    Whether the bytes are no text: by control characters and by bytes that are invalid in the charset.

    Any control character, and every tenth byte that is invalid; with `share`, both count alike, and one of
    `share` is too many, except for a few.
    """
    charset = charset_of(content_type, start)
    text = decode_text(start[:LOOKED_AT], charset, cut=True)
    controls, invalid = len(_CONTROLS.findall(text)), text.count("\ufffd")
    if share:
        return (controls + invalid) * share > len(text) + 2 * share
    return controls > 0 or invalid * 10 > len(text) or (charset == UTF_8 and _holds_zero(start))


def _holds_zero(body: bytes) -> bool:
    """Whether there is a zero byte in the middle or at the end of a body, which may begin like a text."""
    middle = len(body) // 2
    return b"\x00" in body[middle : middle + 512] or b"\x00" in body[-512:]
