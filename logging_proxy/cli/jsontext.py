"""
Lays out JSON for reading: the same tokens in the same order, one member or item per line.

Numbers, duplicate members and their order are kept as sent.  Control characters
are replaced by JSON escapes, so that the result is still JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from logging_proxy.cli.paint import Paint
from logging_proxy.cli.secrets import Redactor

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_INDENT = "  "
_CLOSING = {"{": "}", "[": "]"}

DEEPEST = 200
"""Levels of nesting that are indented; deeper ones stay on one line."""


def is_json(text: str) -> bool:
    """Whether `text` is a JSON value that is not too deep for Python's parser."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_lines(text: str, redactor: Redactor, paint: Paint) -> Iterator[str]:
    """The lines of the JSON value in `text`, which must be valid."""
    tokens = _TOKEN.findall(text)
    tokens.append("")
    line, depth, name = "", 0, ""
    for at, token in enumerate(tokens[:-1]):
        following = tokens[at + 1]
        if token in _CLOSING:
            line += token
            if following == _CLOSING[token]:
                continue
            depth += 1
            yield line
            line, name = _indent(depth), ""
        elif token in "}]" and tokens[at - 1] in _CLOSING and at:
            line += token
        elif token in "}]":
            yield line
            depth -= 1
            line = _indent(depth) + token
        elif token == ",":
            yield line + token
            line, name = _indent(depth), ""
        elif token == ":":
            line += ": "
        elif following == ":":
            name = json.loads(token)
            line += paint(_string(redactor.text(name)), "blue")
        else:
            line += _scalar(token, name, redactor, paint)
    yield line


def _indent(depth: int) -> str:
    return _INDENT * min(depth, DEEPEST)


def _scalar(token: str, name: str, redactor: Redactor, paint: Paint) -> str:
    if not token.startswith('"'):
        return paint(token, "magenta")
    return paint(_string(redactor.member(name, json.loads(token))), "green")


def _string(value: str) -> str:
    """A JSON string with printable characters only."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
