"""
How lines look on a terminal: with colours, and not wider than it is.

Only a terminal's lines are dressed.  A file, a pipe and the system's log get them as they are.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from logging_proxy.service.figures import cut_middle, width

DATE = len("2025-09-13 ")

WITH_DATE = 100
"""Columns from which lines have their date; in fewer there would be no room for what matters."""

LEAST_PATH = 16
"""Columns of a URL below which it is left out."""

LEAST_ASKED = 24
"""Columns that method and path have before figures are left out."""

_CODES = {"dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

_STAMP = r"(?P<date>\d{4}-\d\d-\d\d )(?P<time>\d\d:\d\d:\d\d )"
_TIMED = re.compile(_STAMP)
_BEGIN = re.compile(
    _STAMP + r"(?P<id>\[[0-9a-f]{8}\] )(?P<method>\S+ )(?P<path>\S+)(?P<arrow> -> )(?P<where>.+)"
    r"(?P<log> \[(?:no-)?log\])"
)
_END = re.compile(
    _STAMP
    + r"(?P<id>\[[0-9a-f]{8}\] )(?P<result>(?P<status>\d{3}|-) (?P<outcome>[a-z_]+))(?P<time_taken> [^·]+)"
    r"(?P<first> · first byte [^·]+)?(?P<sizes> · [^·:]+ → [^·:]+)(?P<what> · \S+ [^ ]+)?(?P<reason>: .*)?"
)
_SAID = re.compile(
    _STAMP + r"(?:worker \d+: |[^ :]+:\d+:\d+: )?(?P<mark>(?P<level>warn|error|critical): )?.*"
)


def colours_allowed(environ: Mapping[str, str]) -> bool:
    """Whether a terminal may be sent colours (https://no-color.org)."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Dress:
    """Dresses the lines of one terminal."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, line: str, columns: int) -> str:
        """The line, or rows for it, on a terminal of `columns`; 0 is an unknown width."""
        if match := _END.fullmatch(line):
            return self._end(match.groupdict(), columns or 1 << 20)
        if match := _BEGIN.fullmatch(line):
            return self._begin(match.groupdict(), columns or 1 << 20)
        return self._said(line, columns)

    def _begin(self, part: dict[str, str], columns: int) -> str:
        """The line of an exchange's start; what is too wide of its URLs is cut in the middle."""
        start = _stamp(part, columns) + part["id"] + part["method"]
        path, where, log = part["path"], part["arrow"] + part["where"], part["log"]
        room = columns - width(start) - len(log)
        if width(path) + width(where) > room:
            most = room if columns < WITH_DATE else room * 3 // 5
            share = room - min(width(path), most) - len(part["arrow"])
            where = part["arrow"] + cut_middle(part["where"], share) if share >= LEAST_PATH else ""
            path = cut_middle(path, room - width(where))
        return f"{start}{path}{where}{log}"

    def _end(self, part: dict[str, str | None], columns: int) -> str:
        """The line of an exchange's end; a reason that is too wide has rows of its own."""
        given = {name: text or "" for name, text in part.items()}
        start = _stamp(given, columns) + given["id"]
        room = columns - width(start + given["result"])
        figures = _figures(given, room - min(width(given["what"]), LEAST_ASKED))
        room -= width(figures)
        painted = start + self._paint(given["result"], style_of(given["status"], given["outcome"])) + figures
        what, reason = given["what"], given["reason"]
        if width(what) + width(reason) > room:
            what = cut_middle(what, room) if room > LEAST_PATH else ""
            reason = _below(reason.removeprefix(": "), columns)
        return painted + what + reason

    def _said(self, line: str, columns: int) -> str:
        match = _SAID.fullmatch(line)
        if match is None:
            return line
        start, end = match.span("mark")
        if start >= 0:
            style = "yellow" if match["level"] == "warn" else "red"
            line = line[:start] + self._paint(line[start:end], style) + line[end:]
        return line[DATE:] if 0 < columns < WITH_DATE else line

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self._colour else text


def style_of(status: str, outcome: str) -> str:
    """The colour of a status and an outcome."""
    if outcome == "client_closed":
        return "yellow"
    if outcome != "complete":
        return "red"
    return {"3": "cyan", "4": "yellow", "5": "red"}.get(status[:1], "green")


def _stamp(part: Mapping[str, str], columns: int) -> str:
    return part["time"] if columns < WITH_DATE else part["date"] + part["time"]


def _figures(part: Mapping[str, str], room: int) -> str:
    """As many figures of an exchange as there is room for."""
    took, first, sizes = part["time_taken"], part["first"], part["sizes"]
    return next((text for text in (took + first + sizes, took + sizes) if width(text) <= room), took)


def _below(text: str, columns: int) -> str:
    """`text` in rows of its own."""
    if not text:
        return ""
    rows = textwrap.wrap(text, max(columns - 4, 20), break_on_hyphens=False)
    return "".join(f"\n    {row}" for row in rows)
