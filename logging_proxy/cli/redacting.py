"""
Redacts bodies that may be too long to be held: short ones whole, JSON string by string, the rest in windows.

Only secrets are replaced; every other character and byte stays as it is.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator

from logging_proxy.captures.heads import parse_head
from logging_proxy.cli.messages import Message, head_first
from logging_proxy.cli.secrets import Redactor
from logging_proxy.redaction.redact import REDACTED
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.charsets import UTF_8
from logging_proxy.understanding.json_tokens import (
    NAME,
    STRING,
    LongString,
    between_quotes,
    placed_tokens,
    string_value,
    without_open_escape,
)
from logging_proxy.understanding.media_types import Form
from logging_proxy.understanding.multipart import PartHead, boundary_of, with_changed_parts

WHOLE = 1 << 20
"""Characters up to which a body is redacted as a whole."""

WINDOW = 1 << 20
"""Characters of a longer text that are redacted at once."""

AROUND = 16 << 10
"""Characters on each side of a cut between two windows in which no secret may lie across it."""

_TRIES = 16

_TYPES = {
    Form.JSON: "application/json",
    Form.JSON_LINES: "application/x-ndjson",
    Form.EVENTS: "text/event-stream",
    Form.FIELDS: "application/x-www-form-urlencoded",
    Form.MARKUP: "text/html",
}


def type_of(form: Form) -> str:
    """The content type that says what a body is, whatever was declared."""
    return _TYPES.get(form, "text/plain")


def redacted_text(pieces: Iterable[str], form: Form, redactor: Redactor) -> Iterator[str]:
    """The text of a body of this form, without its secrets."""
    if redactor.reveal:
        yield from pieces
        return
    kind = type_of(form)
    start, rest = read_start(pieces, WHOLE)
    if rest is None:
        yield redactor.body(start, kind)
    elif form is Form.JSON:
        yield from _redacted_json(itertools.chain([start], rest), redactor)
    else:
        text = itertools.chain([start], rest)
        yield from redacted_windows(text, lambda window: redactor.body(window, kind), redactor)


def read_start(pieces: Iterable[str], limit: int) -> tuple[str, Iterator[str] | None]:
    """The text as far as `limit`, and the rest of it; None for a text that ends before."""
    source = iter(pieces)
    start: list[str] = []
    size = 0
    for piece in source:
        start.append(piece)
        size += len(piece)
        if size > limit:
            return "".join(start), source
    return "".join(start), None


def redacted_windows(
    pieces: Iterable[str],
    redact: Callable[[str], str],
    redactor: Redactor,
    place: Callable[[str, int], int] = lambda text, at: at,
) -> Iterator[str]:
    """
    A text redacted in windows, cut where no secret lies across the cut.

    `place` moves a cut to the left, where the text cannot be cut in any place.
    """
    held = ""
    for piece in pieces:
        held += piece
        while len(held) >= 2 * WINDOW:
            at = _safe_cut(held, redact, redactor, place)
            yield redact(held[:at])
            held = held[at:]
    yield redact(held)


def _safe_cut(
    held: str, redact: Callable[[str], str], redactor: Redactor, place: Callable[[str, int], int]
) -> int:
    """Where both sides redacted alone are the same as redacted together."""
    count = redactor.count
    at = 0
    for number in range(_TRIES):
        latest = 2 * WINDOW - AROUND * (1 + 2 * number)
        line = held.rfind("\n", latest - AROUND, latest) + 1 or held.rfind(" ", latest - AROUND, latest) + 1
        at = place(held, line or latest)
        before, after = held[max(0, at - AROUND) : at], held[at : at + AROUND]
        if redact(before + after) == redact(before) + redact(after):
            break
    redactor.count = count
    return at


# --- JSON --------------------------------------------------------------------------


def _redacted_json(pieces: Iterable[str], redactor: Redactor) -> Iterator[str]:
    for kind, token, name in placed_tokens(pieces):
        if isinstance(token, LongString):
            yield '"'
            yield from _redacted_literal(token, name, redactor)
            yield '"' if token.has_end else ""
        elif kind == STRING or kind == NAME:
            value = string_value(between_quotes(token))
            shown = redactor.member(name, value) if kind == STRING else redactor.text(value)
            yield token if shown == value else json.dumps(shown, ensure_ascii=token.isascii())
        else:
            yield token


def _redacted_literal(string: LongString, name: str, redactor: Redactor) -> Iterator[str]:
    """What stands between the quotes of a long string."""
    if redactor.hides(name):
        yield REDACTED
        string.rest()
        return

    def redact(literal: str) -> str:
        value = string_value(literal)
        shown = redactor.member(name, value)
        return literal if shown == value else json.dumps(shown, ensure_ascii=literal.isascii())[1:-1]

    yield from redacted_windows(string.pieces(), redact, redactor, without_open_escape)


def redacted_values(string: LongString, name: str, redactor: Redactor) -> Iterator[str]:
    """The value of a long string in pieces, without secrets."""
    values = map(string_value, string.pieces())
    if redactor.reveal:
        yield from values
    elif redactor.hides(name):
        yield REDACTED
        string.rest()
    else:
        yield from redacted_windows(values, lambda value: redactor.member(name, value), redactor)


# --- bytes -------------------------------------------------------------------------


def redacted_half(pieces: Iterable[bytes], redactor: Redactor) -> Iterator[bytes]:
    """
    The content of a `.bin` without secrets, otherwise unchanged.

    Bodies that are binary or have a content coding are not redacted.
    """
    head, blank, body = head_first(iter(pieces))
    message = Message(parse_head(head), lambda: body)
    start, *lines = head.decode("latin-1").split("\r\n")
    redacted = [redactor.line(start), *_redacted_lines(lines, redactor)]
    yield "\r\n".join(redacted).encode("latin-1") + blank
    if message.codings:
        yield from body
    else:
        yield from redacted_bytes(body, message.content_type, redactor)


def _redacted_lines(lines: list[str], redactor: Redactor) -> Iterator[str]:
    """The field lines; those without secrets are unchanged."""
    fields = []
    for line in lines:
        name, _, value = line.partition(":")
        fields.append((name, value.strip(" \t")))
    for line, field, redacted in zip(lines, fields, redactor.headers(fields), strict=True):
        yield line if redacted == field else ": ".join(part for part in redacted if part)


def redacted_bytes(pieces: Iterable[bytes], content_type: str, redactor: Redactor) -> Iterator[bytes]:
    """The bytes of a body without content coding; binary ones, and binary parts, are as they were."""
    body = Body(pieces, content_type, "identity")
    if redactor.reveal or body.form is Form.BINARY:
        yield from body.data()
    elif body.form is Form.MULTIPART:
        boundary = boundary_of(content_type, body.start)
        yield from with_changed_parts(body.data(), boundary, lambda head, part: _part(head, part, redactor))
    elif body.charset == UTF_8:
        # Surrogates stand for bytes that are not UTF-8, and become the same bytes again.
        text = body.text("surrogateescape")
        mark = b"\xef\xbb\xbf" if body.start.startswith(b"\xef\xbb\xbf") else b""
        yield mark
        for piece in redacted_text(text, body.form, redactor):
            yield piece.encode(UTF_8, "surrogateescape")
    else:
        yield from _in_other_charset(body, redactor)


def _part(head: PartHead, pieces: Iterator[bytes], redactor: Redactor) -> Iterator[bytes]:
    if head.name and not head.filename and redactor.hides(head.name):
        return iter([REDACTED.encode()])
    return redacted_bytes(pieces, head.content_type, redactor)


def _in_other_charset(body: Body, redactor: Redactor) -> Iterator[bytes]:
    """Characters of some charsets have several encodings: without a secret the bytes stay as they are."""
    data = b"".join(body.data())
    text = data.decode(body.charset, "replace")
    redacted = "".join(redacted_text([text], body.form, redactor))
    yield data if redacted == text else redacted.encode(body.charset, "replace")
