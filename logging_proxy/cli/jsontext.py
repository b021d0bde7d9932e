"""
Lays out JSON for reading: the same tokens in the same order, one member or item per line.

Numbers, duplicate members and their order are kept as sent.  Control characters are replaced by JSON
escapes, so that the result is still JSON.  The text comes redacted, and comes and leaves in pieces: only what
is asked for is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from logging_proxy.cli.paint import Paint
from logging_proxy.understanding.json_tokens import (
    LITERAL,
    NAME,
    SPACE,
    LongString,
    between_quotes,
    string_value,
    told_apart,
)

_INDENT = "  "

DEEPEST = 200
"""Levels of nesting that are indented; deeper ones are not indented further."""


def is_json(text: str) -> bool:
    """Whether `text` is a JSON value, or is too deep for Python's parser to tell."""
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def json_fragments(pieces: Iterable[str], paint: Paint, most: int | None = None) -> Iterator[str]:
    """
    The laid out text in fragments; line ends stand at the beginning of a fragment, and nowhere else.

    With `most` a string is not read further than that.
    """
    depth = 0
    is_fresh = False
    """Whether a bracket was opened and nothing followed yet: what is empty stays in one line."""
    for kind, token in told_apart(pieces):
        if kind == SPACE:
            continue
        if kind in ("}", "]"):
            depth = max(0, depth - 1)
            yield f"{'' if is_fresh else _line_end(depth)}{kind}"
            is_fresh = False
            continue
        if is_fresh:
            yield _line_end(depth)
        is_fresh = kind in ("{", "[")
        if is_fresh:
            depth += 1
            yield kind
        elif kind == ",":
            yield ","
            yield _line_end(depth)
        elif kind == ":":
            yield ": "
        elif isinstance(token, LongString):
            yield from _long_string(token, most)
        else:
            yield _painted(kind, token, paint)


def lines_of(fragments: Iterable[str], most: int | None = None) -> Iterator[str]:
    """
    The lines made of `fragments`, in which a line end stands only at the beginning.

    Of a line longer than `most` the beginning is given as soon as it is there.
    """
    line: list[str] = []
    room: float = float("inf") if most is None else most
    is_given = False
    for fragment in fragments:
        if fragment[:1] == "\n":
            if not is_given:
                yield "".join(line)
            line, is_given, fragment = [], False, fragment[1:]
            room = float("inf") if most is None else most
        if is_given:
            continue
        line.append(fragment)
        room -= len(fragment)
        if room < 0:
            is_given = True
            yield "".join(line)
    if not is_given:
        yield "".join(line)


def _line_end(depth: int) -> str:
    return "\n" + _INDENT * min(depth, DEEPEST)


def _painted(kind: str, token: str, paint: Paint) -> str:
    if kind == LITERAL:
        return paint(_printable(token), "magenta")
    value = string_value(between_quotes(token))
    if kind == NAME:
        return paint(_string(value), "blue")
    shown = _string(value)
    # A string that was cut has no closing quote.
    return paint(shown if token.endswith('"') and len(token) > 1 else shown[:-1], "green")


def _long_string(string: LongString, most: int | None) -> Iterator[str]:
    yield '"'
    shown = 0
    for value in map(string_value, string.pieces()):
        yield _string(value)[1:-1]
        shown += len(value)
        if most is not None and shown > most:
            return
    yield '"' if string.has_end else ""


def _string(value: str) -> str:
    """A JSON string with printable characters only."""
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
