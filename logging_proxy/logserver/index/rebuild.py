"""
Filling an index from the files of a log directory.

What is in the index already is left alone, so that a rebuild that was broken off
goes on where it was, and one after a crash adds only what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from twisted.logger import Logger

from logging_proxy.logserver.index.captures import METADATA, Captures
from logging_proxy.logserver.index.entries import Document, entry_of
from logging_proxy.logserver.index.values import Entry, Index

BATCH = 256
NAMES_AT_ONCE = 200_000
"""Names held in memory: some 30 MB.  The directory is read again for each of these portions."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: metadata files looked at, of how many, and exchanges added."""

    done: int
    total: int
    added: int


def rebuild(log_dir: str, index: Index) -> Generator[Progress, None, None]:
    """
    Adds every capture of `log_dir` that `index` has not, a batch with each step.

    May be broken off between any two steps.  Raises OSError and `IndexTrouble`.
    """
    captures = Captures(log_dir)
    try:
        yield from _Rebuild(captures, index).run()
    finally:
        captures.close()


class _Rebuild:
    def __init__(self, captures: Captures, index: Index) -> None:
        self._captures = captures
        self._index = index
        self._waiting: dict[str, Document] = {}
        self._done = self._total = self._added = 0

    def run(self) -> Iterator[Progress]:
        days = Counter(name[:10] for name in self._captures.metadata_names())
        self._total = sum(days.values())
        for first, last in _portions(days):
            names = sorted(name for name in self._captures.metadata_names() if first <= name[:10] <= last)
            for at in range(0, len(names), BATCH):
                self._add(names[at : at + BATCH])
                yield self._progress()
        # Halves without the other: it was removed, or is just being written and will be added when it is.
        self._write([entry for half in self._waiting.values() if (entry := self._entry(half))])
        yield self._progress()

    def _progress(self) -> Progress:
        return Progress(self._done, max(self._total, self._done), self._added)

    def _add(self, names: list[str]) -> None:
        """
        Takes in metadata files, in the order of their times.

        A request waits for its response, which started later; so what waits is
        what was under way at one time.
        """
        binaries = {name: name.removesuffix(METADATA) + ".bin" for name in names}
        known = self._index.known(list(binaries.values()))
        entries = []
        for name, binary in binaries.items():
            self._done += 1
            document = None if binary in known else self._captures.metadata(name)
            entry = document and self._pair(document)
            if entry:
                entries.append(entry)
        self._write(entries)

    def _write(self, entries: list[Entry]) -> None:
        self._index.add(entries)
        self._added += len(entries)

    def _pair(self, document: Document) -> Entry | None:
        """The entry, once both halves are there."""
        id = document.get("id")
        if not isinstance(id, str):
            return None
        if id not in self._waiting:
            document.pop("pieces", None)
            self._waiting[id] = document
            return None
        return self._entry(self._waiting.pop(id), document)

    def _entry(self, *halves: Document) -> Entry | None:
        sides = {half.get("stream_type"): half for half in halves}
        try:
            return entry_of(sides.get("request"), sides.get("response"), self._captures.body)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            name = halves[0].get("filename")
            _log.warn("{name}: metadata not understood ({error})", name=name, error=type(error).__name__)
            return None


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
