"""The values that an index takes and returns, and the interface of an index."""

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

_HEX = re.compile(r"[0-9a-f]+", re.ASCII)

SHORTEST_PREFIX = 4
"""Minimum number of characters that may abbreviate an id."""

MAX_LIMIT = 1000
"""Maximum rows of a page."""


class IndexTrouble(Exception):
    """The index cannot be used: the disk is full, the file is damaged or made by a newer version."""


class TooSlow(Exception):
    """A query exceeded its time limit."""


class Abandoned(Exception):
    """The caller no longer wants the answer to its question."""


def never() -> bool:
    """For questions that are not abandoned."""
    return False


class Texts(NamedTuple):
    """The readable text of the two bodies."""

    request: str = ""
    response: str = ""


class Entry(NamedTuple):
    """An exchange as the index takes it."""

    row: Row
    texts: Texts = Texts()
    tail: int = 0
    """The last hash of the chain of a long conversation; 0 if there is none."""


class Filters:
    """
    Conditions on exchanges, all of which must hold.

    Each column in `columns.FILTERS` may be given by its name; a status from 1 to 5 is a class.  `since`
    (inclusive) and `until` (exclusive) are microseconds since 1970.  `id` is the beginning of an id.  `q` is a
    full-text search.
    """

    __slots__ = ("id", "q", "since", "until", "where")

    def __init__(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        id: str | None = None,
        q: str | None = None,
        **where: str | int | None,
    ) -> None:
        """Raises TypeError for a name that is not in `columns.FILTERS`."""
        unknown = where.keys() - FILTERS.keys()
        if unknown:
            raise TypeError(f"no filters: {', '.join(sorted(unknown))}")
        self.since = since
        self.until = until
        self.id = id
        self.q = q
        self.where: Mapping[str, str | int] = {
            name: value for name, value in where.items() if value is not None
        }
        """The requested values, by column name."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filters) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Filters({self._key()!r})"

    def _key(self) -> tuple[object, ...]:
        return (self.since, self.until, self.id, self.q, *sorted(self.where.items()))

    @property
    def need_bodies(self) -> bool:
        """Whether the filters depend on the bodies of an exchange."""
        return self.q is not None or not FROM_BODIES.isdisjoint(self.where)


def meets(row: Row, filters: Filters, with_bodies: bool = True) -> bool:
    """
    Whether a row satisfies the filters, `q` aside.

    Without `with_bodies`, columns derived from the bodies are ignored: the row may satisfy the filters.
    """
    for name, wanted in filters.where.items():
        if (with_bodies or name not in FROM_BODIES) and not fits(name, getattr(row, name), wanted):
            return False
    return (
        (filters.since is None or row.started >= filters.since)
        and (filters.until is None or row.started < filters.until)
        and (filters.id is None or row.id.replace("-", "").startswith(filters.id.replace("-", "")))
    )


def fits(name: str, value: object, wanted: str | int) -> bool:
    """Whether the `value` of a column satisfies the filter value `wanted`."""
    if value == wanted:
        return True
    return is_class(name, wanted) and isinstance(value, int) and status_class(value) == wanted


def is_class(name: str, wanted: str | int) -> bool:
    """Whether a filter value is a class of values rather than a value."""
    return FILTERS[name].classes and isinstance(wanted, int) and wanted < 10


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order, and the cursor of the next page; None on the last page."""

    rows: list[Row]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """
    Totals of an index.

    `values` counts exchanges by value, for each tallied column.
    """

    exchanges: int = 0
    body_bytes: int = 0
    index_bytes: int = 0
    oldest: int | None = None
    newest: int | None = None
    values: dict[str, dict[str, int]] = field(default_factory=dict)


class Index(Protocol):
    """
    The interface of an index.  Methods block and may be called from any thread.

    `add` and `delete` are atomic.  All methods except `close` may raise `IndexTrouble`.
    """

    def add(self, entries: Iterable[Entry]) -> None:
        """Add exchanges; an exchange that is there already is replaced."""

    def delete(self, ids: Iterable[str]) -> int:
        """Remove exchanges; returns how many there were."""

    def get(self, id: str) -> Row | None:
        """The exchange with this id; None if there is none."""

    def texts(self, id: str) -> Texts | None:
        """The indexed text of the bodies of an exchange; None if it is not there."""

    def list(
        self,
        filters: Filters,
        cursor: str | None = None,
        limit: int = 50,
        oldest_first: bool = False,
        abandoned: Callable[[], bool] = never,
    ) -> Page:
        """
        A page of exchanges in the order of their start times, newest first by default.

        Following `next` gives every exchange that was there at the first call
        exactly once, whatever is added meanwhile.  Raises `BadCursor`, `TooSlow`, and `Abandoned` soon
        after `abandoned`, which is called from any thread, has become true.
        """

    def counts(self) -> Counts:
        """Totals, in a time that does not depend on the number of rows."""

    def tails(self, hashes: Sequence[int]) -> set[int]:
        """Those among `hashes` that are the `tail` of an exchange."""

    def known(self, filenames: Sequence[str]) -> set[str]:
        """The names among these `.bin` names that belong to indexed exchanges."""

    @property
    def whole(self) -> bool:
        """Whether every capture up to the last stop is indexed; false after a crash and for a new index."""

    def mark_whole(self, whole: bool) -> None:
        """Set `whole`, durably."""

    def begin_walk(self, mark: str, until: int) -> int:
        """
        Begin a walk up to `until`; returns its low-water mark, at first 0.

        Earlier walks have seen all exchanges that started before the mark.  Adding an exchange that started
        before the mark, or before `until` during the walk, moves the mark back to its start.
        """

    def end_walk(self, mark: str, position: int) -> int:
        """End a walk that reached `position`; returns its low-water mark."""

    def close(self) -> None:
        """Release all resources; calls that are running may fail."""


def is_exchange_id(text: str) -> bool:
    """Whether `text` is a UUID in canonical form."""
    return _UUID.fullmatch(text) is not None


def is_id_prefix(text: str) -> bool:
    """Whether an id in canonical form may begin with `text`, whose dashes may be left out."""
    digits = text.replace("-", "")
    return bool(digits) and len(digits) <= 32 and _HEX.fullmatch(digits) is not None


def id_range(prefix: str) -> tuple[bytes, bytes]:
    """The least and the greatest of the ids that begin with `prefix`, as stored."""
    digits = prefix.replace("-", "")
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def microseconds(time: datetime) -> int:
    """Microseconds since 1970; a time without a zone is local time."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
