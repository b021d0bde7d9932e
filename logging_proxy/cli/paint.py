"""Terminal colours, and the width of text on a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping

from logging_proxy.service.dressing import colours_allowed
from logging_proxy.service.figures import columns_of
from logging_proxy.service.figures import width as width

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
    return is_terminal and colours_allowed(environ)


def cut(text: str, columns: int) -> str:
    """`text`, shortened with an ellipsis if it is too wide."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += columns_of(character)
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
