"""The characters of JSON strings, and where in the text of a string each of them is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
"""An escape, which stands for one character; a surrogate pair does, too."""


def unescaped(literal: str) -> str:
    """The characters of a JSON string, given without quotes; wrong escapes are read as well as possible."""
    if "\\" not in literal:
        return literal
    try:
        value, end = scanstring(f'{literal}"', 0, False)
    except (ValueError, IndexError):
        end = -1
    return value if end == len(literal) + 1 else _ESCAPE.sub(_meaning, literal)


def _meaning(match: re.Match[str]) -> str:
    try:
        return str(json.loads(f'"{match[0]}"', strict=False))
    except ValueError:
        return match[0][1]


def escaped(text: str) -> str:
    """`text` as it is written in a JSON string, without its quotes."""
    return json.dumps(text)[1:-1]


def located(literal: str, places: Iterable[int]) -> Iterator[int]:
    """Where in `literal` the characters at `places` of `unescaped(literal)` begin; `places` are sorted."""
    if "\\" not in literal:
        yield from places
        return
    escapes = _ESCAPE.finditer(literal)
    escape = next(escapes, None)
    grown = 0
    for place in places:
        while escape is not None and escape.start() - grown < place:
            grown += len(escape[0]) - 1
            escape = next(escapes, None)
        yield place + grown
