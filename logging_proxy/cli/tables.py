"""
Tables with aligned columns that fit the terminal.

If there is not enough room, columns are dropped, and the last one is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from logging_proxy.captures.heads import status_class
from logging_proxy.cli import units
from logging_proxy.cli.paint import Paint, cut, width
from logging_proxy.cli.sources import Document
from logging_proxy.index.columns import FIELDS, Field
from logging_proxy.service.console import safe

CELL = 60
"""Maximum number of characters in a cell that has no other limit."""

LONGEST_PATH = 200
SHORT_TIMES_BELOW = 120
"""Terminal width below which times are shown without the year."""

_GAP = 2

Cell = tuple[str, str]
"""Text and style."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column.  If the table is too wide, the column with the highest `rank` is dropped first."""

    heading: str
    right: bool = False
    least: int = 0
    rank: int = 0


class Layout:
    """The visible columns and their widths; `most` is the terminal's width, or None for a pipe."""

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], most: int | None) -> None:
        self._columns = columns
        self._most = most
        self._widths = [max(column.least, width(column.heading)) for column in columns]
        for row in rows:
            self._widths = [max(old, width(text)) for old, (text, _) in zip(self._widths, row, strict=True)]
        # The last column is cut to fit, so it needs its minimum width only.
        self._widths[-1] = columns[-1].least
        self._shown = self._fitting()

    def _fitting(self) -> list[int]:
        shown = list(range(len(self._columns)))
        while self._most is not None and self._total(shown) > self._most and len(shown) > 1:
            worst = max(shown, key=lambda at: self._columns[at].rank)
            if not self._columns[worst].rank:
                break
            shown.remove(worst)
        return shown

    def _total(self, shown: Sequence[int]) -> int:
        return sum(self._widths[at] + _GAP for at in shown) - _GAP

    def heading(self, paint: Paint) -> str:
        return self.line([(column.heading, "dim") for column in self._columns], paint)

    def line(self, cells: Sequence[Cell], paint: Paint) -> str:
        """A row.  A cell that is wider than its column shifts the cells after it."""
        parts: list[str] = []
        used = 0
        for at in self._shown:
            text, style = cells[at]
            if self._most is not None:
                text = cut(text, self._most - used)
            space = " " * (self._widths[at] - width(text))
            painted = paint(text, style)
            parts.append(space + painted if self._columns[at].right else painted + space)
            used += width(text) + len(space) + _GAP
        return (" " * _GAP).join(parts).rstrip()


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], paint: Paint, most: int | None = None
) -> Iterator[str]:
    """The lines of a table, beginning with the headings."""
    layout = Layout(columns, rows, most)
    yield layout.heading(paint)
    for row in rows:
        yield layout.line(row, paint)


# --- exchanges ---------------------------------------------------------------------

_HEADINGS = sorted(
    ((each, each.column.heading) for each in FIELDS if each.column.heading is not None),
    key=lambda pair: pair[1].place,
)

EXCHANGES = tuple(
    Column(heading.text, heading.right, heading.least, heading.rank) for _, heading in _HEADINGS
)
"""The table of exchanges: the columns of `Row` that have a heading."""


def exchange_cells(row: Document, short: bool = False) -> list[Cell]:
    """The cells of an exchange for `EXCHANGES`; `short` omits the year from its time."""
    cells = [_exchange_cell(each, row) for each, _ in _HEADINGS]
    if short:
        cells[_STARTED] = (cells[_STARTED][0][5:], cells[_STARTED][1])
    return cells


def _exchange_cell(field: Field, row: Document) -> Cell:
    value = member_of(row, field)
    cell_of = _CELLS.get(field.name)
    return (cell(value), "") if cell_of is None else cell_of(value)


def member_of(row: Document, field: Field) -> Any:
    """The value of a column in a row's JSON; None if there is none."""
    holder = row.get(field.object) if field.object else row
    return holder.get(field.member) if isinstance(holder, dict) else None


def _bytes_cell(value: Any) -> Cell:
    return units.size(int(value or 0)), ""


_CELLS: Mapping[str, Callable[[Any], Cell]] = {
    "started": lambda value: (units.local_time(value), "dim"),
    "id": lambda value: (cell(value)[:8], "cyan"),
    "status": lambda value: (cell(value), status_style(value)),
    "outcome": lambda value: (outcome_words(value), outcome_style(value)),
    "duration": lambda value: (units.duration(value or 0), ""),
    "request_bytes": _bytes_cell,
    "response_bytes": _bytes_cell,
    "source_url": lambda value: (path_of(value), "dim"),
}
"""How the values of columns are shown; all others are shown as they are."""

_STARTED = [each.name for each, _ in _HEADINGS].index("started")


def is_short(most: int | None) -> bool:
    """Whether times are shortened on a terminal of this width."""
    return most is not None and most < SHORT_TIMES_BELOW


def half_bytes(row: Document, side: str) -> int:
    half = row.get(side)
    return int(half.get("bytes") or 0) if isinstance(half, dict) else 0


def path_of(source_url: Any) -> str:
    """The path and query that the client requested."""
    url = str(source_url or "")
    try:
        parts = urlsplit(url)
    except ValueError:
        return cell(url)
    return safe(parts.path + (f"?{parts.query}" if parts.query else ""), LONGEST_PATH) or "-"


def cell(value: Any) -> str:
    """A value as the text of a cell."""
    return "-" if value is None or value == "" else safe(str(value), CELL)


def outcome_words(outcome: Any) -> str:
    return "under way" if outcome is None else cell(outcome)


def status_style(status: Any) -> str:
    if not isinstance(status, int):
        return "red"
    return {2: "green", 3: "cyan", 4: "yellow", 5: "red"}.get(status_class(status), "")


def outcome_style(outcome: Any) -> str:
    if outcome is None:
        return "cyan"
    return {"complete": "green", "client_closed": "yellow"}.get(str(outcome), "red")
