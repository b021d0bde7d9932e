"""
The tokens of a JSON text that comes in pieces, without building its value.

Nothing is checked: any text has tokens, and joined they are the text.  Memory does not depend on the length
of the text or of its strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

LONG = 64 << 10
"""Characters from which a string is given in pieces."""

_TOKEN = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]+|\s+',
    re.DOTALL,
)
"""A string without an end goes to the end of the text."""

_STRING_REST = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*', re.DOTALL)
_OPEN_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z|\\(?:u[0-9a-fA-F]{0,3})?\Z"
)
"""An escape that is not complete at the end, or the first half of a pair of surrogates."""

LONGEST_ESCAPES = len(r"\ud83d\ude0")


class LongString:
    """
    A string literal that is too long to be held.

    Read `pieces`, or not, before the next token is asked for; what is not read is passed over.
    """

    def __init__(self, start: str, source: Iterator[str]) -> None:
        self._held = start
        self._source = source
        self.is_over = False
        self.has_end = False
        """Whether its closing quote was there."""

    def pieces(self) -> Iterator[str]:
        """What stands between the quotes, in pieces that end with no open escape."""
        while not self.is_over:
            held, end = self._held, _string_end(self._held)
            if held[end : end + 1] == '"':
                self.is_over = self.has_end = True
                self._held = held[end + 1 :]
                yield held[:end]
                return
            end = _without_open_escape(held, end)
            self._held = held[end:]
            yield held[:end]
            piece = next(self._source, None)
            if piece is None:
                self.is_over = True
                held, self._held = self._held, ""
                yield held
                return
            self._held += piece

    def rest(self) -> str:
        """Pass over what is left of the string; the text behind it, as far as it was read."""
        for _ in self.pieces():
            pass
        return self._held


def _string_end(text: str) -> int:
    found = _STRING_REST.match(text)
    return found.end() if found else 0


def _without_open_escape(text: str, end: int) -> int:
    """`end`, or the place before an escape that may go on after `end`."""
    found = _OPEN_ESCAPE.search(text, max(0, end - LONGEST_ESCAPES))
    if found is None:
        return end
    before = text[: found.start()]
    # After an odd number of backslashes this one is escaped itself.
    is_escaped = (len(before) - len(before.rstrip("\\"))) % 2
    return end if is_escaped else found.start()


def json_tokens(pieces: Iterable[str]) -> Iterator[str | LongString]:
    """Brackets, commas, colons, strings with their quotes, other literals, and the space between them."""
    source = iter(pieces)
    held = ""
    for piece in source:
        held += piece
        at = 0
        for match in _TOKEN.finditer(held):
            if match.end() == len(held):
                # It may go on in the next piece.
                break
            yield match[0]
            at = match.end()
        held = held[at:]
        if len(held) >= LONG and held[0] == '"':
            string = LongString(held[1:], source)
            yield string
            held = string.rest()
        elif len(held) >= LONG:
            yield held
            held = ""
    for match in _TOKEN.finditer(held):
        yield match[0]


NAME, STRING, LITERAL, SPACE = "name", "string", "literal", "space"


def told_apart(pieces: Iterable[str]) -> Iterator[tuple[str, str | LongString]]:
    """
    The tokens of `json_tokens`, each with its kind.

    The kind is the token itself for brackets, commas and colons, else one of those above; a name is the name
    of a member.
    """
    above: list[bool] = []
    in_object = expects_name = False
    for token in json_tokens(pieces):
        if isinstance(token, LongString) or token[0] == '"':
            yield (NAME if expects_name else STRING), token
            expects_name = False
        elif token in "{[":
            above.append(in_object)
            in_object = expects_name = token == "{"
            yield token, token
        elif token in "}]":
            in_object, expects_name = bool(above and above.pop()), False
            yield token, token
        elif token in ",:":
            expects_name = in_object and token == ","
            yield token, token
        else:
            yield (SPACE if token.isspace() else LITERAL), token


def string_value(literal: str) -> str:
    """
    The value of what stands between the quotes of a string literal.

    What a parser would refuse is taken as it stands: line ends, wrong escapes, an escape at the end.
    """
    if "\\" not in literal:
        return literal
    try:
        return str(json.loads(f'"{literal}"', strict=False))
    except ValueError:
        return literal


def between_quotes(token: str) -> str:
    """A string token without its quotes; the closing one is missing where the text was cut."""
    end = len(token) - 1 if len(token) > 1 and _string_end(token[1:]) == len(token) - 2 else len(token)
    return token[1:end]
