"""Terminal colours, and the width of text on a terminal."""

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
    """`paint(text, style)` returns `text` with a style, or unchanged if colours are off."""

    def __init__(self, colour: bool = False) -> None:
        self.colour = colour

    def __call__(self, text: str, style: str = "") -> str:
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def wants_colour(choice: str, is_terminal: bool, environ: Mapping[str, str]) -> bool:
    """Whether to use colours; for `auto` that depends on the terminal, `NO_COLOR` and `TERM`."""
    if choice != "auto":
        return choice == "always"
    return is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def width(text: str) -> int:
    """Number of terminal columns that printable `text` occupies."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """`text`, shortened with an ellipsis if it is too wide."""
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
    """The beginning of a painted line, without its colours."""
    return _PAINTED.sub("", line)[:longest] + "…"


def cut_painted(line: str, columns: int) -> str:
    """A painted line, shortened to the terminal's width; shortening removes its colours."""
    plain = _PAINTED.sub("", line)
    return line if width(plain) <= columns else cut(plain, columns)


def padded(text: str, columns: int, right: bool = False) -> str:
    """`text` padded with spaces to a width, on the left if `right`."""
    space = " " * (columns - width(text))
    return space + text if right else text + space
