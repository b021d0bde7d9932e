"""
JSON about an exchange with its bodies, in pieces: a long body is never held.

A body has `text`, or `base64` if it is binary, or `parts` if it is multipart; and `trouble` if there was any.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from logging_proxy.cli.redacting import redacted_data, redacted_text
from logging_proxy.cli.secrets import Redactor
from logging_proxy.redaction.redact import REDACTED
from logging_proxy.understanding.bodies import Body
from logging_proxy.understanding.media_types import Form


class LazyBody:
    """A body in a document, which is read when its JSON is asked for."""

    def __init__(self, open_body: Callable[[], Body], redactor: Redactor) -> None:
        self._open_body = open_body
        self._redactor = redactor

    def members(self) -> Iterator[str]:
        """The JSON of the members, without the braces."""
        body, redactor = self._open_body(), self._redactor
        if body.form is Form.BINARY:
            yield '"base64":'
            yield from base64_pieces(redacted_data(body, redactor))
        elif body.form is Form.MULTIPART:
            yield '"parts":['
            yield from _parts(body, redactor)
            yield "]"
        else:
            yield '"text":'
            yield from _string(redacted_text(body, redactor))
        if body.trouble:
            yield f',"trouble":{json.dumps(body.trouble)}'


def json_pieces(value: Any) -> Iterator[str]:
    """The JSON of a value on one line, in ASCII; its objects may hold lazy bodies, and iterators of items."""
    if isinstance(value, LazyBody):
        yield "{"
        yield from value.members()
        yield "}"
    elif isinstance(value, Mapping):
        yield "{"
        for number, (name, member) in enumerate(value.items()):
            yield f"{',' if number else ''}{json.dumps(name)}:"
            yield from json_pieces(member)
        yield "}"
    elif isinstance(value, Iterator):
        yield "["
        for number, item in enumerate(value):
            yield f"{',' if number else ''}{json.dumps(item, separators=(',', ':'))}"
        yield "]"
    else:
        yield json.dumps(value, separators=(",", ":"))


def with_members(document: Mapping[str, Any], body: LazyBody) -> Iterator[str]:
    """The JSON of a document that is not empty, with the members of a body beside its own."""
    yield "".join(json_pieces(document))[:-1] + ","
    yield from body.members()
    yield "}"


def _parts(body: Body, redactor: Redactor) -> Iterator[str]:
    for number, (head, part) in enumerate(body.parts()):
        described = {
            "name": head.name or None,
            "filename": head.filename or None,
            "content_type": head.content_type or None,
        }
        shown = {name: redactor.text(value) for name, value in described.items() if value}
        yield "," if number else ""
        if head.name and not head.filename and redactor.hides(head.name):
            yield from json_pieces({**shown, "text": REDACTED})
        elif shown:
            yield from with_members(shown, LazyBody(partial(_same, part), redactor))
        else:
            yield from json_pieces(LazyBody(partial(_same, part), redactor))


def _same(body: Body) -> Body:
    return body


def _string(pieces: Iterable[str]) -> Iterator[str]:
    yield '"'
    for piece in pieces:
        yield json.dumps(piece)[1:-1]
    yield '"'


def base64_pieces(pieces: Iterable[bytes]) -> Iterator[str]:
    """Base64 of all pieces as one, in quotes."""
    yield '"'
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % 3
        yield base64.b64encode(held[:whole]).decode("ascii")
        held = held[whole:]
    yield f'{base64.b64encode(held).decode("ascii")}"'
