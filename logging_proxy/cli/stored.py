"""The exchanges in a log directory, read from its files alone: newest first, or by id."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush

from logging_proxy.captures.names import METADATA, short_id
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.sources import Document
from logging_proxy.index import Filters, Row, entry_of, meets
from logging_proxy.index.values import microseconds

_HOUR = 3_600_000_000
_EAST, _WEST = 14 * _HOUR, 12 * _HOUR
"""The most that a local time is ahead of UTC, and behind."""

_RESPONSE = f"_response{METADATA}"
_REQUEST = f"_request{METADATA}"

Names = dict[str, list[str]]
"""Metadata file names, by the first 8 digits of the exchange's id."""

Halves = tuple[Document | None, Document | None]
"""The metadata of request and response."""


class StoredExchanges:
    """What is in a log directory at each call.  Raises OSError when there is none."""

    def __init__(self, reader: CaptureReader) -> None:
        self._reader = reader

    def find(self, prefix: str) -> dict[str, Halves]:
        """The exchanges whose ids begin with `prefix`, which must not be empty."""
        found: dict[str, list[Document]] = {}
        for short, names in self._names().items():
            if short.startswith(prefix[:8]):
                for document in filter(None, map(self._reader.metadata, names)):
                    if str(document.get("id")).startswith(prefix):
                        found.setdefault(str(document["id"]), []).append(document)
        return {id: _paired(documents) for id, documents in found.items()}

    def newest_first(self, wanted: Filters) -> Iterator[tuple[Row, Halves]]:
        """
        Exchanges that pass the filters, except `q`.  Bodies are read only for exchanges that may pass.

        The order is that of the times in the metadata: names have the local time of the server, whose zone
        may have changed.
        """
        names = self._names()
        done: set[str] = set()
        for name in self._by_start(names, wanted):
            halves = self._halves_of(name, names[str(short_id(name))], done)
            row = halves and self.row(halves, wanted)
            if halves and row:
                yield row, halves

    def _by_start(self, names: Names, wanted: Filters) -> Iterator[str]:
        """One name of each exchange, by start, newest first.  Starts are read as far ahead as zones differ."""
        waiting: list[tuple[int, str]] = []
        since, until = wanted.since, wanted.until
        for name in sorted(_firsts(names), reverse=True):
            stamp = _stamp(name)
            if since is not None and stamp + _WEST < since:
                break
            if until is not None and stamp - _EAST >= until:
                continue
            while waiting and -waiting[0][0] > stamp + _WEST:
                yield heappop(waiting)[1]
            start = self._reader.started(name)
            if start is not None:
                heappush(waiting, (-start, name))
        while waiting:
            yield heappop(waiting)[1]

    def row(self, halves: Halves, wanted: Filters | None = None) -> Row | None:
        """The row of an exchange; None if it does not pass the filters, or if its metadata are invalid."""
        wanted = wanted or Filters()
        try:
            row = entry_of(*halves, lambda name, limit: b"").row
            if not meets(row, wanted, with_bodies=False):
                return None
            row = entry_of(*halves, self._reader.body).row
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return row if meets(row, wanted) else None

    def ended(self) -> set[str]:
        """The names of the metadata that are written last, the requests': with them an exchange is there."""
        return {name for name in self._reader.metadata_names() if name.endswith(_REQUEST)}

    def id_of(self, name: str) -> str | None:
        """The id in a metadata file."""
        document = self._reader.metadata(name)
        return None if document is None else str(document.get("id"))

    def _names(self) -> Names:
        names: Names = {}
        for name in self._reader.metadata_names():
            names.setdefault(str(short_id(name)), []).append(name)
        return names

    def _halves_of(self, name: str, group: list[str], done: set[str]) -> Halves | None:
        """The metadata of the exchange that the file `name` belongs to, unless it is `done`."""
        own = self._reader.metadata(name)
        if own is None or str(own.get("id")) in done:
            return None
        done.add(str(own.get("id")))
        others = (self._reader.metadata(other) for other in group if other != name)
        return _paired([own, *(other for other in others if other and other.get("id") == own.get("id"))])


def _paired(documents: list[Document]) -> Halves:
    sides = {document.get("stream_type"): document for document in documents}
    return sides.get("request"), sides.get("response")


def _firsts(names: Names) -> Iterator[str]:
    """The names to begin with: a response is handled together with its request, which started earlier."""
    for group in names.values():
        requests = [name for name in group if name.endswith(_REQUEST)]
        yield from requests or group


def _stamp(name: str) -> int:
    """The local time in a name as if it were UTC, in microseconds since 1970."""
    return microseconds(datetime.strptime(name[:23], "%Y-%m-%d_%H-%M-%S.%f").replace(tzinfo=UTC))
