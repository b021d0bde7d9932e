"""
What is kept for how long.

`Keeper` asks the index for what is to go, a page at a time, and deletes files
first and index entries second: what is broken off in between is still in the
index, and goes with the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from logging_proxy.logserver.files import LogDirectory
from logging_proxy.logserver.index import Filters, Index, Row
from logging_proxy.logserver.telemetry import Deleted, Sizes

STEP = 50
"""Exchanges deleted at a time: four files each, so a few milliseconds of the storage thread."""

PAGE = 500

OTHER_BYTES = 4096
"""What an exchange has besides its bodies, about: heads and metadata."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages are microseconds.  None is no limit."""

    max_age: int | None = None
    max_bytes: int | None = None
    max_exchanges: int | None = None
    errors_max_age: int | None = None
    """For exchanges that went wrong, in place of `max_age`."""
    bodies_max_age: int | None = None
    """After which only the metadata of an exchange are kept."""


class What(Enum):
    """How much of an exchange goes."""

    ALL = auto()
    BYTES = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Exchanges to delete at once."""

    what: What
    rows: Sequence[Row]


def went_wrong(row: Row) -> bool:
    """Whether an exchange counts as an error: cut, failed, or answered with 4xx or 5xx."""
    return row.outcome != "complete" or (row.status or 0) >= 400


class Keeper:
    """
    Keeps the log directory within `limits`.

    `plan` reads the index, so it is for a thread of its own; `delete_files` is for the
    storage thread.
    """

    def __init__(self, limits: Limits, index: Index) -> None:
        self.deleted = Deleted()
        self._limits = limits
        self._index = index
        self._bodies_until = 0
        """Exchanges that started before have no bytes any more, as far as this life knows."""

    def plan(self, sizes: Sizes, now: int | None) -> Iterator[Step]:
        """
        What is to go, oldest first.  Each step is done before the next is asked for.

        `now` is microseconds since 1970.  With None the clock is not trusted: nothing goes for its age.
        """
        if now is not None:
            yield from self._over_age(now)
        yield from self._over_number()
        yield from self._over_bytes(sizes)
        if now is not None:
            yield from self._bodies_over_age(now)
            self._bodies_until = now - (self._limits.bodies_max_age or 0)

    def over_age(self, now: int, has: Callable[[str], bool]) -> tuple[int, int]:
        """
        How many exchanges are over an age, and of how many: of all, or of those with bytes if that is more.

        `has` tells whether there is a file of that name.
        """
        total = self._index.counts().exchanges
        over = sum(len(step.rows) for step in self._over_age(now))
        whole = bare = 0
        for step in self._bodies_over_age(now):
            found = sum(any(map(has, _files(row, What.BYTES))) for row in step.rows)
            whole, bare = whole + found, bare + len(step.rows) - found
        return max((over, total), (whole, total - bare), key=lambda each: each[0] / max(1, each[1]))

    def _over_age(self, now: int) -> Iterator[Step]:
        normal, errors = self._limits.max_age, self._limits.errors_max_age
        if errors is None:
            errors = normal
        ages = [age for age in (normal, errors) if age is not None]
        if not ages:
            return

        def is_over(row: Row) -> bool:
            limit = errors if went_wrong(row) else normal
            return limit is not None and row.started < now - limit

        yield from self._steps(What.ALL, Filters(until=now - min(ages)), is_over)

    def _over_number(self) -> Iterator[Step]:
        most = self._limits.max_exchanges
        while most is not None and (over := self._index.counts().exchanges - most) > 0:
            rows = self._index.list(Filters(), limit=min(over, STEP), oldest_first=True).rows
            if not rows:
                return
            yield Step(What.ALL, rows)

    def _over_bytes(self, sizes: Sizes) -> Iterator[Step]:
        most, found = self._limits.max_bytes, sizes.log_dir_bytes
        if most is None or found is None:
            return
        before = self.deleted.bytes
        while (over := found - (self.deleted.bytes - before) - most) > 0:
            rows = self._index.list(Filters(), limit=STEP, oldest_first=True).rows
            if not rows:
                return
            yield Step(What.ALL, _enough(rows, over))

    def _bodies_over_age(self, now: int) -> Iterator[Step]:
        age = self._limits.bodies_max_age
        if age is None:
            return
        until = now - age
        # A clock that was set back is before what was done by it then.
        since = self._bodies_until if self._bodies_until <= until else 0
        yield from self._steps(What.BYTES, Filters(since=since, until=until), lambda row: True)

    def _steps(self, what: What, filters: Filters, chosen: Callable[[Row], bool]) -> Iterator[Step]:
        cursor: str | None = None
        while True:
            page = self._index.list(filters, cursor, PAGE, oldest_first=True)
            rows = [row for row in page.rows if chosen(row)]
            for at in range(0, len(rows), STEP):
                yield Step(what, rows[at : at + STEP])
            cursor = page.next
            if cursor is None:
                return

    # --- doing it

    def delete_files(self, step: Step, directory: LogDirectory) -> None:
        """Raises OSError; then the index must keep the exchanges."""
        for row in step.rows:
            freed = sum(directory.delete(name) for name in _files(row, step.what))
            self.deleted.bytes += freed
            if step.what is What.BYTES:
                self.deleted.bodies += freed > 0

    def delete_entries(self, step: Step) -> None:
        if step.what is What.ALL:
            self.deleted.exchanges += self._index.delete(row.id for row in step.rows)


def _enough(rows: Sequence[Row], size: int) -> Sequence[Row]:
    """The first of `rows` that have about `size` bytes, at least one."""
    for count, row in enumerate(rows, 1):
        size -= row.request_bytes + row.response_bytes + OTHER_BYTES
        if size <= 0:
            return rows[:count]
    return rows


def _files(row: Row, what: What) -> Iterator[str]:
    """The bytes before the metadata: without metadata nobody would find them again."""
    names = [name for name in (row.request_file, row.response_file) if name]
    yield from names
    if what is What.ALL:
        for name in names:
            yield name.removesuffix(".bin") + "_metadata.json"
