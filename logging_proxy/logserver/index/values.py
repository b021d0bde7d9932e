"""What goes into an index and comes out of it, and the interface of every index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

MAX_LIMIT = 1000
"""The most rows of one page."""


class IndexTrouble(Exception):
    """The index cannot be read or written now: disk full, file damaged, made by a newer version."""


class TooSlow(Exception):
    """A question took longer than may be; ask a narrower one."""


class Row(NamedTuple):
    """
    One exchange as it is listed.  Times are microseconds since 1970.

    A named tuple, for there is one for every exchange: it is made in a tenth of a frozen dataclass's time.

    URLs come redacted.  The files hold everything else.
    """

    id: str
    started: int
    route: str | None = None
    pattern: str | None = None
    method: str = ""
    status: int | None = None
    outcome: str = ""
    error: str | None = None
    answered_by: str | None = None
    model: str | None = None
    session: str | None = None
    stream: bool = False
    source_url: str = ""
    destination_url: str | None = None
    client: str | None = None
    duration: int = 0
    head_after: int | None = None
    """From the start to the response's head."""
    request_bytes: int = 0
    response_bytes: int = 0
    request_file: str | None = None
    response_file: str | None = None

    def document(self) -> dict[str, Any]:
        """The row as a JSON object, with the names of the metadata."""
        return {
            "id": self.id,
            "started_at": iso_time(self.started),
            "completed_at": iso_time(self.started + self.duration),
            "processing_time_ms": self.duration / 1000,
            "response_head_ms": None if self.head_after is None else self.head_after / 1000,
            "route": self.route,
            "pattern": self.pattern,
            "method": self.method,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "answered_by": self.answered_by,
            "model": self.model,
            "session": self.session,
            "stream": self.stream,
            "source_url": self.source_url,
            "destination_url": self.destination_url,
            "client": self.client,
            "request": {"bytes": self.request_bytes, "filename": self.request_file},
            "response": {"bytes": self.response_bytes, "filename": self.response_file},
        }


class Texts(NamedTuple):
    """What can be read in the two bodies."""

    request: str = ""
    response: str = ""


class Entry(NamedTuple):
    """An exchange for the index."""

    row: Row
    texts: Texts = Texts()


@dataclass(frozen=True, slots=True)
class Filters:
    """
    Which exchanges are meant: those for which everything given holds.

    `status` is a status, or 1 to 5 for its class.  `since` is in, `until` is
    out; both are microseconds since 1970.  `q` is a search in the texts.
    """

    route: str | None = None
    method: str | None = None
    status: int | None = None
    outcome: str | None = None
    model: str | None = None
    session: str | None = None
    since: int | None = None
    until: int | None = None
    q: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order, and the cursor for those after them; None when there are none."""

    rows: list[Row]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """
    How much is indexed.

    `values` counts exchanges by the value of `route`, `method`, `status`,
    `outcome` and `model`.
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
        self, filters: Filters, cursor: str | None = None, limit: int = 50, oldest_first: bool = False
    ) -> Page:
        """
        Exchanges by the time of their start, newest first.

        Following `next` gives every exchange that was there at the first call
        exactly once, whatever is added meanwhile.  Raises `BadCursor`, `TooSlow`.
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


def iso_time(microseconds: int) -> str:
    """ISO 8601 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def microseconds(time: datetime) -> int:
    """Since 1970; a time without a zone is local."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
