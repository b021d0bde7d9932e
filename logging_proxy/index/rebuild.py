"""
Fills an index from the files of a log directory.

Exchanges that are indexed already are skipped, so an interrupted rebuild resumes, and a rebuild after a crash
adds only what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from logging_proxy.captures.names import binary_name, metadata_name
from logging_proxy.captures.reader import NOT_OF_THE_FILE, CaptureReader
from logging_proxy.index.adding import Adder, EntryMaker
from logging_proxy.index.recorded import Document
from logging_proxy.index.values import Entry, Index

BATCH = 256
NAMES_AT_ONCE = 200_000
"""Maximum file names in memory.  The directory is read again for each portion of this size."""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    Progress of a rebuild: metadata files read, their total number, and exchanges added.

    `unreadable` counts files with read errors; `example` describes one of them.
    """

    done: int
    total: int
    added: int
    unreadable: int = 0
    example: str = ""


def rebuild(reader: CaptureReader, index: Index) -> Generator[Progress, None, None]:
    """
    Adds every capture that `reader` finds and `index` has not, a batch with each step.

    The iteration may be abandoned after any step.  A bad file does not affect the others.  Raises OSError if
    the directory cannot be read, and `IndexTrouble`.
    """
    yield from _Rebuild(reader, index).run()


class _Rebuild:
    def __init__(self, reader: CaptureReader, index: Index) -> None:
        self._reader = reader
        self._index = index
        self._maker = EntryMaker(reader, index)
        self._adder = Adder(index)
        self._waiting: dict[str, Document] = {}
        self._done = self._total = self._unreadable = 0
        self._example = ""

    def run(self) -> Iterator[Progress]:
        days = Counter(name[:10] for name in self._reader.metadata_names())
        self._total = sum(days.values())
        for first, last in _portions(days):
            names = sorted(name for name in self._reader.metadata_names() if first <= name[:10] <= last)
            for at in range(0, len(names), BATCH):
                yield from self._add(names[at : at + BATCH])
        # Half exchanges: the other half was deleted, or is being written now and will be added later.
        for half in self._waiting.values():
            self._adder.take(self._entry(half, self._other_half(half)))
            yield self._progress()
        self._adder.flush()
        yield self._progress()

    def _progress(self) -> Progress:
        total = max(self._total, self._done)
        return Progress(self._done, total, self._adder.added, self._unreadable, self._example)

    def _add(self, names: list[str]) -> Iterator[Progress]:
        """
        Read metadata files in the order of their times, with a step for each entry.

        A request waits for its response, which has a later time; so the number of waiting halves is the
        number of exchanges that were under way at one time.
        """
        binaries = {name: binary_name(name) for name in names}
        known = self._index.known(list(binaries.values()))
        for name, binary in binaries.items():
            self._done += 1
            document = None if binary in known else self._document(name)
            entry = document and self._pair(document)
            if entry:
                self._adder.take(entry)
                yield self._progress()
        self._adder.flush()
        yield self._progress()

    def _document(self, name: str) -> Document | None:
        try:
            return self._reader.metadata(name)
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in NOT_OF_THE_FILE:
                raise
            self._unreadable += 1
            self._example = f"{name}: {getattr(error, 'strerror', None) or type(error).__name__}"
            return None

    def _other_half(self, half: Document) -> Document | None:
        """The metadata of the other half, if that is in the index: then only `half` was missing."""
        row = self._index.get(str(half.get("id")))
        name = row and (row.response_file if half.get("stream_type") == "request" else row.request_file)
        return self._document(metadata_name(name)) if name else None

    def _pair(self, document: Document) -> Entry | None:
        """The entry, once both halves have been read."""
        id = document.get("id")
        if not isinstance(id, str):
            return None
        if id not in self._waiting:
            document.pop("pieces", None)
            self._waiting[id] = document
            return None
        return self._entry(self._waiting.pop(id), document)

    def _entry(self, *halves: Document | None) -> Entry | None:
        sides = {half.get("stream_type"): half for half in halves if half}
        return self._maker.of_documents(sides.get("request"), sides.get("response"))


def _portions(days: Counter[str]) -> Iterator[tuple[str, str]]:
    """The first and last day of portions of about `NAMES_AT_ONCE` names."""
    first, size = "", 0
    last = ""
    for day in sorted(days):
        if size and size + days[day] > NAMES_AT_ONCE:
            yield first, last
            size = 0
        if not size:
            first = day
        last, size = day, size + days[day]
    if size:
        yield first, last
