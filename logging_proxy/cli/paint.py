"""Colour on a terminal, and how wide text is there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "found": "1;33",
}


_PAINTED = re.compile(r"\x1b\[[0-9;]*m")


class Paint:
    """`paint(text, style)` is `text` in a style, or `text` itself where there is no colour."""

    def __init__(self, colour: bool = False) -> None:
        self.colour = colour

    def __call__(self, text: str, style: str = "") -> str:
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def wants_colour(choice: str, is_terminal: bool, environ: Mapping[str, str]) -> bool:
    """`choice` is auto, always or never; auto asks the terminal, `NO_COLOR` and `TERM`."""
    if choice != "auto":
        return choice == "always"
    return is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def width(text: str) -> int:
    """Columns of a terminal that printable `text` takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """`text`, or as much of it as fits with an ellipsis behind it."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += _width(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def cut_line(line: str, longest: int) -> str:
    """The beginning of a painted line, which loses its colours."""
    return _PAINTED.sub("", line)[:longest] + "…"


def cut_painted(line: str, columns: int) -> str:
    """A painted line that is no wider than a terminal; what has to be cut loses its colours."""
    plain = _PAINTED.sub("", line)
    return line if width(plain) <= columns else cut(plain, columns)


def padded(text: str, columns: int, right: bool = False) -> str:
    """`text` with spaces up to a width, before it if `right`."""
    space = " " * (columns - width(text))
    return space + text if right else text + space
