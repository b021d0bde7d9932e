"""
The top level of a JSON object that is not parsed whole: because it is long, deep, cut, or not valid.

A request of 60 MB names its model and its session in a few short members, before or after the pictures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from logging_proxy.understanding.allowance import Allowance

LONGEST_MEMBER = 16 << 10
"""Maximum characters of a name, and of a value; longer values are skipped."""

PIECE = 16 << 10
"""Characters that are looked through at once."""

MOST_MEMBERS = 1024
"""Maximum number of members that are kept."""

_STRING_REST = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*', re.DOTALL)
_NESTED = re.compile(r'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL)
"""
What stands between two brackets.

No possessive group: with one, Python 3.11 matches too much (gh-106052).  The states that are kept for going
back are bounded by the piece.
"""
_PLAIN = re.compile(r'[^"{}\[\],:]*+')


def top_level(
    text: str, names: Collection[str] | None = None, allowance: Allowance | None = None
) -> dict[str, Any]:
    """
    The members of the JSON object in `text`, complete or truncated; empty if it is no object.

    With `names` only members of these names.  A member is there if its name and its value are complete and
    not longer than `LONGEST_MEMBER`; of members of the same name the last one counts, as in a parser.  The
    time is linear in the length of `text`, the memory does not depend on it.  An `allowance` ends the search
    early.
    """
    found = TopLevel(names)
    for at in range(0, len(text), PIECE):
        if found.is_over or (allowance is not None and not allowance.spend(PIECE)):
            break
        found.feed(text[at : at + PIECE])
    return found.members


class TopLevel:
    """Finds the members of a JSON object that comes in pieces; see `top_level`."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        self.members: dict[str, Any] = {}
        self.is_over = False
        """Whether the object is complete, or there is none."""
        self._names = names
        self._depth = 0
        self._in_string = False
        self._after_backslash = False
        self._name: str | None = None
        self._kept: list[str] = []
        """The name or value so far."""
        self._room = LONGEST_MEMBER

    def feed(self, piece: str) -> None:
        """Take the next piece of the text, of any length."""
        at = start = 0
        if self._depth == 0 and not self.is_over:
            at = start = self._begin(piece)
        while at < len(piece) and not self.is_over:
            if self._in_string:
                at = self._through_string(piece, at)
                continue
            at = (_PLAIN if self._depth == 1 else _NESTED).match(piece, at).end()  # type: ignore[union-attr]
            if at == len(piece):
                break
            mark = piece[at]
            if self._depth == 1 and mark in ":,}]":
                self._keep(piece[start:at])
                self._take(mark)
                start = at + 1
            elif mark == '"':
                self._in_string = True
            else:
                self._depth += 1 if mark in "{[" else -1
            at += 1
        if not self.is_over and self._depth:
            self._keep(piece[start:])

    def _begin(self, piece: str) -> int:
        """Find the start of the object: where its first member begins in `piece`."""
        start = piece.lstrip("\ufeff \t\r\n")
        if start:
            self.is_over = start[0] != "{"
            self._depth = 1
        return len(piece) - len(start) + 1

    def _through_string(self, piece: str, at: int) -> int:
        """Go to the end of a string, or of `piece`."""
        if self._after_backslash:
            self._after_backslash = False
            at += 1
        end = _STRING_REST.match(piece, at).end()  # type: ignore[union-attr]
        if end < len(piece):
            self._after_backslash = piece[end] == "\\"
            self._in_string = self._after_backslash
        return end + 1

    def _keep(self, text: str) -> None:
        if self._room >= 0:
            self._room -= len(text)
            self._kept.append(text)

    def _take(self, mark: str) -> None:
        """A name or a value is complete: the name before a colon, the value before a comma or the end."""
        text = "".join(self._kept) if self._room >= 0 else ""
        self._kept, self._room = [], LONGEST_MEMBER
        if mark == ":":
            name = _value(text)
            self._name = name if isinstance(name, str) else None
            return
        if self._name is not None and self._is_wanted(self._name):
            value = _value(text)
            if value is not _NOTHING:
                self.members[self._name] = value
            else:
                self.members.pop(self._name, None)
        self._name = None
        self.is_over = mark != ","

    def _is_wanted(self, name: str) -> bool:
        if self._names is not None and name not in self._names:
            return False
        return name in self.members or len(self.members) < MOST_MEMBERS


_NOTHING = object()


def _value(text: str) -> Any:
    """The value of a short JSON text; `_NOTHING` if it is none."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _NOTHING
