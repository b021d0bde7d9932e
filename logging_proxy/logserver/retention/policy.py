"""
The retention policy: which captures are deleted, and their deletion.

`Retention` reads candidates from the index page by page.  It deletes files before index entries, so that an
interrupted deletion is still in the index and is repeated in the next round.

Limits of age are applied in order of the exchanges' starts, from a low-water mark stored in the index, so
that no exchange is examined twice.  An exchange that is indexed late moves the mark back.  An exchange that
cannot be deleted is skipped, reported, and retried on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from twisted.logger import Logger

from logging_proxy.index import Filters, Index, Row
from logging_proxy.logserver.store.protocol import CaptureStore, What
from logging_proxy.logserver.telemetry.counters import Deleted, Sizes

STEP = 50
"""Exchanges deleted in one piece of work of the storage thread; each has four files."""

PAGE = 500

FILES = 4
"""Files of an exchange: bytes and metadata of two halves."""

FEW_FILES = 256
"""Tolerated number of files without an index entry, such as those of exchanges that are being stored."""

MOST_FAILED = 1000
"""Most exchanges that are skipped after an error; beyond it the disk is at fault, and the round ends."""

OTHER_BYTES = 4096
"""Approximate size of an exchange's heads and metadata."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages are microseconds.  None is no limit."""

    max_age: int | None = None
    max_bytes: int | None = None
    max_exchanges: int | None = None
    errors_max_age: int | None = None
    """Replaces `max_age` for exchanges with an error."""
    bodies_max_age: int | None = None
    """Age after which only the metadata of an exchange is kept."""


@dataclass(frozen=True, slots=True)
class Step:
    """Exchanges to delete in one piece of work."""

    what: What
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class _Failed:
    what: What
    row: Row
    reason: str


class _Walk(NamedTuple):
    """A limit of age for one kind of exchanges."""

    mark: str
    """The name of its low-water mark in the index."""
    what: What
    age: int
    chosen: Callable[[Row], bool]


def _walks(limits: Limits) -> list[_Walk]:
    errors = limits.max_age if limits.errors_max_age is None else limits.errors_max_age
    walks = []
    if limits.max_age is not None:
        walks.append(_Walk("others", What.ALL, limits.max_age, lambda row: not went_wrong(row)))
    if errors is not None:
        walks.append(_Walk("errors", What.ALL, errors, went_wrong))
    if limits.bodies_max_age is not None:
        walks.append(_Walk("bodies", What.BYTES, limits.bodies_max_age, lambda row: True))
    return walks


def went_wrong(row: Row) -> bool:
    """Whether an exchange counts as an error: not complete, or answered with 4xx or 5xx."""
    return row.outcome != "complete" or (row.status or 0) >= 400


class Retention:
    """
    Applies `limits` to the log directory.

    `plan` and `delete_entries` block on the index; `delete_files` must run on the storage thread.  `trouble`
    describes failed deletions, and is empty without any.
    """

    _log = Logger()

    def __init__(self, limits: Limits, index: Index) -> None:
        self.deleted = Deleted()
        self.trouble = ""
        self._limits = limits
        self._walks = _walks(limits)
        self._index = index
        self._failed: dict[str, _Failed] = {}
        self._reached: dict[str, tuple[int, int]] = {}
        """The position of each walk since the start, and the mark that it left in the index."""

    def plan(self, sizes: Sizes, now: int | None) -> Generator[Step, None, None]:
        """
        The deletions of one round, oldest first.  The caller carries out each step before it takes the next.

        `now` is microseconds since 1970; None means that the clock is not trusted, and limits of age are
        skipped. Empty steps give the caller the opportunity to stop.
        """
        yield from self._again()
        for walk in self._walks:
            if now is not None and walk.what is What.ALL:
                yield from self._go(walk, now)
        yield from self._over_number()
        yield from self._over_bytes(sizes)
        for walk in self._walks:
            if now is not None and walk.what is What.BYTES:
                yield from self._go(walk, now)

    def _again(self) -> Iterator[Step]:
        failed = list(self._failed.values())
        for what in What:
            yield from _steps(what, [each.row for each in failed if each.what is what])

    def over_age(self, now: int, has_bytes: Callable[[Row], bool]) -> tuple[int, int]:
        """
        How many exchanges are over an age, and of how many: of all, or of those with bytes if that is more.

        `has_bytes` tells whether the bytes of an exchange are still there.
        """
        total = self._index.counts().exchanges
        over = whole = bare = 0
        for walk in self._walks:
            for rows, _ in self._pages(walk, 0, now - walk.age):
                if walk.what is What.ALL:
                    over += len(rows)
                    continue
                found = sum(map(has_bytes, rows))
                whole, bare = whole + found, bare + len(rows) - found
        return max((over, total), (whole, total - bare), key=lambda each: each[0] / max(1, each[1]))

    def _go(self, walk: _Walk, now: int) -> Iterator[Step]:
        """All exchanges that have reached the age since the last walk, and those indexed late."""
        until = max(0, now - walk.age)
        position = self._begin(walk.mark, until)
        try:
            for rows, behind in self._pages(walk, position, until):
                yield from _steps(walk.what, rows)
                position = behind
        finally:
            self._end(walk.mark, position)

    def _pages(self, walk: _Walk, since: int, until: int) -> Iterator[tuple[Sequence[Row], int]]:
        """For each page, the exchanges to delete, and the start up to which all have been examined."""
        cursor: str | None = None
        while since < until:
            page = self._index.list(Filters(since=since, until=until), cursor, PAGE, oldest_first=True)
            rows = [row for row in page.rows if walk.chosen(row) and row.id not in self._failed]
            cursor = page.next
            yield rows, page.rows[-1].started if cursor else until
            if cursor is None:
                return

    def _begin(self, mark: str, until: int) -> int:
        """The start of a walk: its mark, or behind failed deletions, which are retried separately."""
        found = self._index.begin_walk(mark, until)
        reached, left_at = self._reached.get(mark, (found, found))
        return reached if found == left_at else found

    def _end(self, mark: str, position: int) -> None:
        """Stores the mark: after a restart, the walk begins at the first exchange whose deletion failed."""
        wanted = min([position, *(failed.row.started for failed in self._failed.values())])
        left_at = self._index.end_walk(mark, wanted)
        # If the marks differ, an exchange was indexed late, and the next walk goes back to it.
        self._reached[mark] = (position if left_at == wanted else left_at), left_at

    def _over_number(self) -> Iterator[Step]:
        most = self._limits.max_exchanges
        if most is not None:
            yield from self._oldest(lambda: self._index.counts().exchanges - most, lambda row: 1)

    def _over_bytes(self, sizes: Sizes) -> Iterator[Step]:
        most, before = self._limits.max_bytes, self.deleted.bytes
        if most is None or sizes.log_dir_bytes is None:
            return
        found = self._size_of_known(sizes)
        yield from self._oldest(lambda: found - (self.deleted.bytes - before) - most, _size)

    def _size_of_known(self, sizes: Sizes) -> int:
        """
        The bytes of the captures in the index, which alone can be deleted.

        If files without an entry counted, all known captures would be deleted in their place.
        """
        found, counts = sizes.log_dir_bytes or 0, self._index.counts()
        if (sizes.log_dir_files or 0) <= FILES * counts.exchanges + FEW_FILES:
            return found
        return min(found, counts.body_bytes + OTHER_BYTES * counts.exchanges)

    def _oldest(self, over: Callable[[], int], weight: Callable[[Row], int]) -> Iterator[Step]:
        """The oldest exchanges, until `over` is no longer positive; each is tried once."""
        cursor: str | None = None
        while (left := over()) > 0:
            page = self._index.list(Filters(), cursor, STEP, oldest_first=True)
            rows = [row for row in page.rows if row.id not in self._failed]
            chosen = _enough(rows, left, weight)
            yield Step(What.ALL, chosen)
            if len(chosen) == len(rows):
                cursor = page.next
                if cursor is None:
                    return

    # --- deletion

    def delete_files(self, step: Step, store: CaptureStore) -> Step:
        """
        Deletes the files of a step; returns the exchanges that succeeded, whose entries may be deleted.

        Raises OSError when too many deletions have failed to be a matter of single files.
        """
        done = []
        for row in step.rows:
            try:
                freed = store.delete(row, step.what)
            except OSError as error:
                self._fail(row, step.what, error)
                continue
            done.append(row)
            if self._failed.pop(row.id, None):
                self._tell()
            self.deleted.bytes += freed
            if step.what is What.BYTES:
                self.deleted.bodies += freed > 0
        return Step(step.what, done)

    def delete_entries(self, step: Step) -> None:
        if step.what is What.ALL:
            self.deleted.exchanges += self._index.delete(row.id for row in step.rows)

    def _fail(self, row: Row, what: What, error: OSError) -> None:
        if len(self._failed) >= MOST_FAILED and row.id not in self._failed:
            raise error
        self._failed[row.id] = _Failed(what, row, error.strerror or "")
        self._tell()

    def _tell(self) -> None:
        before, self.trouble = self.trouble, ""
        for failed in self._failed.values():
            self.trouble = f"{len(self._failed)} exchanges cannot be deleted: {failed.reason}"
            if not before:
                self._log.error(
                    "retention: {name}: {reason}", name=failed.row.request_file, reason=failed.reason
                )
            return


def _steps(what: What, rows: Sequence[Row]) -> Iterator[Step]:
    """The rows in steps; a single empty step if there are none."""
    for at in range(0, max(1, len(rows)), STEP):
        yield Step(what, rows[at : at + STEP])


def _size(row: Row) -> int:
    return row.request_bytes + row.response_bytes + OTHER_BYTES


def _enough(rows: Sequence[Row], size: int, weight: Callable[[Row], int]) -> Sequence[Row]:
    """The first of `rows` that reach this size together; all if they do not."""
    for count, row in enumerate(rows, 1):
        size -= weight(row)
        if size <= 0:
            return rows[:count]
    return rows
