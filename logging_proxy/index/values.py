"""What goes into an index and comes out of it, and the interface of every index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from logging_proxy.captures.heads import status_class
from logging_proxy.index.columns import FILTERS, FROM_BODIES, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

MAX_LIMIT = 1000
"""The most rows of one page."""


class IndexTrouble(Exception):
    """The index cannot be read or written now: disk full, file damaged, made by a newer version."""


class TooSlow(Exception):
    """A question took longer than may be; ask a narrower one."""


class Abandoned(Exception):
    """The caller no longer wants the answer to its question."""


def never() -> bool:
    """For questions that are not abandoned."""
    return False


class Texts(NamedTuple):
    """What can be read in the two bodies."""

    request: str = ""
    response: str = ""


class Entry(NamedTuple):
    """An exchange for the index."""

    row: Row
    texts: Texts = Texts()


class Filters:
    """
    Which exchanges are meant: those for which everything given holds.

    Any column with a filter may be given by its name, see `columns.FILTERS`; a status from 1 to 5 is a
    class.  `since` is in, `until` is out; both are microseconds since 1970.  `q` is a search in the texts.
    """

    __slots__ = ("q", "since", "until", "where")

    def __init__(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        q: str | None = None,
        **where: str | int | None,
    ) -> None:
        """Raises TypeError for a name that is no filter's."""
        unknown = where.keys() - FILTERS.keys()
        if unknown:
            raise TypeError(f"no filters: {', '.join(sorted(unknown))}")
        self.since = since
        self.until = until
        self.q = q
        self.where: Mapping[str, str | int] = {
            name: value for name, value in where.items() if value is not None
        }
        """What is asked of columns, by their names."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filters) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Filters({self._key()!r})"

    def _key(self) -> tuple[object, ...]:
        return (self.since, self.until, self.q, *sorted(self.where.items()))

    @property
    def need_bodies(self) -> bool:
        """Whether only bodies tell if an exchange is meant."""
        return self.q is not None or not FROM_BODIES.isdisjoint(self.where)


def meets(row: Row, filters: Filters, with_bodies: bool = True) -> bool:
    """
    Whether a row is meant, `q` aside.

    Without `with_bodies`, whether it may be meant, as far as that is known without its bodies.
    """
    for name, wanted in filters.where.items():
        if (with_bodies or name not in FROM_BODIES) and not fits(name, getattr(row, name), wanted):
            return False
    return (filters.since is None or row.started >= filters.since) and (
        filters.until is None or row.started < filters.until
    )


def fits(name: str, value: object, wanted: str | int) -> bool:
    """Whether the `value` of a column is what is `wanted` of it."""
    if value == wanted:
        return True
    return is_class(name, wanted) and isinstance(value, int) and status_class(value) == wanted


def is_class(name: str, wanted: str | int) -> bool:
    """Whether a filter asks for a class of values instead of one."""
    return FILTERS[name].classes and isinstance(wanted, int) and wanted < 10


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order, and the cursor for those after them; None when there are none."""

    rows: list[Row]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """
    How much is indexed.

    `values` counts exchanges by the values of each column that is tallied.
    """

    exchanges: int = 0
    body_bytes: int = 0
    index_bytes: int = 0
    oldest: int | None = None
    newest: int | None = None
    values: dict[str, dict[str, int]] = field(default_factory=dict)


class Index(Protocol):
    """
    An index.  Methods block and may be called from any thread.

    Each call of `add` or `delete` is done as a whole or not at all.  All but
    `close` may raise `IndexTrouble`.
    """

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds exchanges; one that is there already is replaced."""

    def delete(self, ids: Iterable[str]) -> int:
        """Removes exchanges; how many were there."""

    def get(self, id: str) -> Row | None:
        """One exchange by its whole id."""

    def texts(self, id: str) -> Texts | None:
        """What was indexed of the bodies of one exchange."""

    def list(
        self,
        filters: Filters,
        cursor: str | None = None,
        limit: int = 50,
        oldest_first: bool = False,
        abandoned: Callable[[], bool] = never,
    ) -> Page:
        """
        Exchanges by the time of their start, newest first.

        Following `next` gives every exchange that was there at the first call
        exactly once, whatever is added meanwhile.  Raises `BadCursor`, `TooSlow`, and `Abandoned` soon
        after `abandoned`, which is called from any thread, has become true.
        """

    def counts(self) -> Counts:
        """Totals, without looking at all rows."""

    def known(self, filenames: Sequence[str]) -> set[str]:
        """Which of these `.bin` names belong to exchanges in the index."""

    @property
    def whole(self) -> bool:
        """Whether all captures up to the last stop are known to be in: false after a crash and when new."""

    def mark_whole(self, whole: bool) -> None:
        """Durable when it returns."""

    def begin_walk(self, mark: str, until: int) -> int:
        """
        Where the mark of a walk stands: exchanges that started before were seen by it; at first 0.

        Adding one that started before the mark, or during a walk before `until`, moves it back to there.
        """

    def end_walk(self, mark: str, position: int) -> int:
        """The walk came to `position`; where its mark stands now."""

    def close(self) -> None:
        """Lets go of everything; calls that are under way may fail."""


def is_exchange_id(text: str) -> bool:
    """Whether `text` is a UUID in its one form."""
    return _UUID.fullmatch(text) is not None


def microseconds(time: datetime) -> int:
    """Since 1970; a time without a zone is local."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
