"""
A request or response read from its `.bin`: the head, and the decoded body.

Nothing is formatted here, and no captured content raises an error.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from logging_proxy.captures.heads import Head, parse_head
from logging_proxy.cli.secrets import Redactor
from logging_proxy.understanding.decoding import codings_of, decode

VIEWED = 64 << 20
"""Maximum number of bytes of a half that are interpreted; longer ones can only be copied."""

_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"utf[-_]?(8|16|32)([-_]?[lb]e)?|(us-)?ascii|iso[-_]8859[-_]\d{1,2}|(windows|cp)[-_]?125\d"
)
"""Accepted charsets.  Some of Python's other codecs take quadratic time."""

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `raw` is the body as sent, `cut` means that the file is longer than what was read."""

    head: Head
    raw: bytes
    cut: bool = False

    def header(self, name: str) -> str:
        """The values of a header, joined as in RFC 9110 §5.2."""
        return ", ".join(value for each, value in self.head.headers if each.lower() == name)

    @property
    def content_type(self) -> str:
        return self.header("content-type")

    @property
    def codings(self) -> list[str]:
        return codings_of(self.header("content-encoding"))


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body: its bytes, its text unless it is binary, and any decoding error."""

    data: bytes
    text: str | None
    trouble: str = ""


def read_message(pieces: Iterable[bytes]) -> Message:
    """Parse the content of a `.bin`, up to `VIEWED` bytes."""
    content, cut = read_some(pieces, VIEWED)
    head, _, body = content.partition(b"\r\n\r\n")
    return Message(parse_head(head), body, cut)


def up_to(offset: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a `.bin`: its head, and `offset` bytes of its body."""
    start = b""
    pieces = iter(pieces)
    for piece in pieces:
        start += piece
        if b"\r\n\r\n" in start:
            break
    room = start.find(b"\r\n\r\n") + 4 + offset
    for piece in itertools.chain([start], pieces):
        if room <= 0:
            return
        yield piece[:room]
        room -= len(piece)


def redacted_bytes(content: bytes, redactor: Redactor) -> bytes:
    """
    Redact the content of a `.bin`, which is otherwise unchanged.

    Bodies that are binary or have a content coding are not redacted.
    """
    head, blank, body = content.partition(b"\r\n\r\n")
    message = Message(parse_head(head), body)
    start, *lines = head.decode("latin-1").split("\r\n")
    redacted = [redactor.line(start), *_redacted_lines(lines, redactor)]
    text = None if message.codings else _utf_8(body)
    if text is not None:
        body = redactor.body(text, message.content_type).encode("utf-8")
    return "\r\n".join(redacted).encode("latin-1") + blank + body


def _redacted_lines(lines: list[str], redactor: Redactor) -> Iterator[str]:
    """The field lines; those without secrets are unchanged."""
    fields = []
    for line in lines:
        name, _, value = line.partition(":")
        fields.append((name, value.strip(" \t")))
    for line, field, redacted in zip(lines, fields, redactor.headers(fields), strict=True):
        yield line if redacted == field else ": ".join(part for part in redacted if part)


def _utf_8(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_some(pieces: Iterable[bytes], limit: int) -> tuple[bytes, bool]:
    """The first `limit` bytes, and whether there are more."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > limit:
            return bytes(content[:limit]), True
    return bytes(content), False


def read_body(message: Message) -> Body:
    """The decoded body of a message."""
    decoded = decode(message.raw, message.header("content-encoding"))
    trouble = str(decoded.trouble or "")
    if message.cut:
        trouble = "only its beginning was read"
    return Body(decoded.data, text_in(decoded.data, message.content_type, bool(trouble)), trouble)


def text_in(data: bytes, content_type: str, cut: bool = False) -> str | None:
    """Decode `data` as text; None if it is binary."""
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else "utf-8"
    if not _CHARSETS.fullmatch(charset):
        charset = "utf-8"
    if charset == "utf-8" and cut:
        data = _without_half_character(data)
    try:
        text = data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        # Text with a few invalid bytes is still best shown as text.
        text = data.decode("utf-8", "backslashreplace")
        if not content_type.startswith("text/") or text.count("\\x") * 10 > len(data):
            return None
    text = text.removeprefix("\ufeff")
    return None if _CONTROLS.search(text) and not content_type.startswith("text/") else text


def _without_half_character(data: bytes) -> bytes:
    """UTF-8 without the incomplete character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            needed = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if needed > back else data
    return data
