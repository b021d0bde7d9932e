"""The exchanges in a log directory, read from its files alone: newest first, or by id."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from logging_proxy.captures.names import METADATA, short_id
from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.sources import Document
from logging_proxy.index import Filters, Row, entry_of, meets

_HOUR = 3_600_000_000
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
        """Exchanges that pass the filters, except `q`.  Bodies are read only for exchanges that may pass."""
        names = self._names()
        done: set[str] = set()
        for name in sorted((name for group in names.values() for name in group), reverse=True):
            group = names[str(short_id(name))]
            if name.endswith(_RESPONSE) and any(each.endswith(_REQUEST) for each in group):
                # A response is handled together with its request, which started earlier.
                continue
            if wanted.since is not None and _stamp(name) < wanted.since - _HOUR:
                return
            halves = self._halves_of(name, group, done)
            row = halves and self.row(halves, wanted)
            if halves and row:
                yield row, halves

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


def _stamp(name: str) -> int:
    """Microseconds since 1970.  Ambiguous local times are taken as the first of the two."""
    return int(datetime.strptime(name[:23], "%Y-%m-%d_%H-%M-%S.%f").timestamp() * 1_000_000)
