"""
The index in a SQLite database: WAL mode, one writing connection, a few that read.

Readers never wait for the writer nor it for them.  A commit is safe against
the end of the process but not of the machine (synchronous=NORMAL): what is lost
then is in the files, and `whole` says that it is to be looked for.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from logging_proxy.logserver.index import records
from logging_proxy.logserver.index.cursors import read_cursor, write_cursor
from logging_proxy.logserver.index.pool import ReaderPool
from logging_proxy.logserver.index.records import Prepared
from logging_proxy.logserver.index.schema import make_private_file, upgrade
from logging_proxy.logserver.index.values import (
    MAX_LIMIT,
    Counts,
    Entry,
    Filters,
    IndexTrouble,
    Page,
    Row,
    Texts,
)
from logging_proxy.logserver.index.words import match_expression
from logging_proxy.logserver.index.writing import Writing

FILE = ".index/exchanges.sqlite3"
"""Below the log directory."""

PAGE_SIZE = 8192
WRITER_CACHE_KIB = 64 << 10
CHECKPOINT_PAGES = 4000
"""Pages of WAL (32 MiB) before they go into the database: what many commits changed is written once."""

MERGED_AT_ONCE = 8
"""
Segments of the full text that become one.  With 4, FTS5's own number, each word is written again
twice as often, which was 5 µs of the 31 for an exchange; with 8 a search looks into a few more.
"""

_FILENAME = re.compile(r"[0-9_.-]{23}_([0-9a-f]{8})(-\d{1,4})?_(request|response)\.bin", re.ASCII)


class SqliteIndex:
    """See `Index`.  Makes the database, and its directory with mode 0700, when there is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
            make_private_file(path)
            self._connection = _open_writer(path)
        except (OSError, sqlite3.Error) as error:
            raise IndexTrouble(f"{path}: {error}") from error
        self._readers = ReaderPool(path)

    def close(self) -> None:
        self._readers.close()
        with self._lock:
            self._connection.close()

    # --- writing

    def add(self, entries: Iterable[Entry]) -> None:
        prepared = records.prepare(entries)
        if prepared and not self._insert(prepared):
            with self._transaction() as writing:
                writing.replace(prepared)

    def _insert(self, prepared: Sequence[Prepared]) -> bool:
        """
        Adds what is all new; else does nothing, and says so.

        Only what is told again, as after a crash, is not new: to look for every id costs 3 of 40 µs.
        """
        try:
            with self._transaction() as writing:
                writing.insert(prepared)
        except IndexTrouble as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                return False
            raise
        return True

    def delete(self, ids: Iterable[str]) -> int:
        wanted = [packed for packed in map(records.pack_id, ids) if packed is not None]
        if not wanted:
            return 0
        with self._transaction() as writing:
            return writing.delete(wanted)

    def mark_whole(self, whole: bool) -> None:
        with self._transaction() as writing:
            writing.set_fact("whole", int(whole))
        with self._lock, _troubles():
            self._connection.execute("PRAGMA wal_checkpoint(FULL)")

    def begin_walk(self, mark: str, until: int) -> int:
        with self._transaction() as writing:
            return writing.begin_walk(mark, until)

    def end_walk(self, mark: str, position: int) -> int:
        with self._transaction() as writing:
            return writing.end_walk(mark, position)

    @contextmanager
    def _transaction(self) -> Iterator[Writing]:
        with self._lock, _troubles():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Writing(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # --- reading

    @property
    def whole(self) -> bool:
        with self._readers.reader() as reader:
            return bool(reader.execute("SELECT value FROM facts WHERE name = 'whole'").fetchone()[0])

    def get(self, id: str) -> Row | None:
        packed = records.pack_id(id)
        with self._readers.reader() as reader:
            found = reader.execute(
                f"SELECT {records.COLUMNS} FROM exchanges e WHERE e.id = ?", (packed,)
            ).fetchone()
        return None if found is None else records.row_of(found)

    def texts(self, id: str) -> Texts | None:
        sql = "SELECT t.request, t.response FROM exchanges e JOIN texts t ON t.key = e.key WHERE e.id = ?"
        with self._readers.reader() as reader:
            found = reader.execute(sql, (records.pack_id(id),)).fetchone()
        return None if found is None else records.unpack_texts(*found)

    def list(
        self, filters: Filters, cursor: str | None = None, limit: int = 50, oldest_first: bool = False
    ) -> Page:
        position = None if cursor is None else read_cursor(cursor)
        limit = max(1, min(limit, MAX_LIMIT))
        sql, values = _question(records.storable_filters(filters), position, oldest_first)
        with self._readers.reader() as reader:
            found = reader.execute(sql, (*values, limit + 1)).fetchall()
        rows = [records.row_of(columns[1:]) for columns in found[:limit]]
        return Page(rows, write_cursor(found[limit - 1][0]) if len(found) > limit else None)

    def counts(self) -> Counts:
        with self._readers.reader() as reader:
            tally = reader.execute("SELECT name, value, count FROM tally").fetchall()
            oldest, newest = reader.execute(
                "SELECT (SELECT started FROM exchanges ORDER BY key LIMIT 1),"
                " (SELECT started FROM exchanges ORDER BY key DESC LIMIT 1)"
            ).fetchone()
        values: dict[str, dict[str, int]] = {}
        for name, value, count in tally:
            values.setdefault(name, {})[value] = count
        totals = values.pop("total", {})
        return Counts(
            totals.get("exchanges", 0), totals.get("bytes", 0), self._size(), oldest, newest, values
        )

    def known(self, filenames: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._readers.reader() as reader:
            for filename in filenames:
                match = _FILENAME.fullmatch(filename)
                if match:
                    bounds = bytes.fromhex(match[1]), bytes.fromhex(match[1]) + b"\xff" * 12
                    found.update(*reader.execute(_FILES_OF_PREFIX, bounds))
        return found.intersection(filenames)

    def _size(self) -> int:
        names = (self.path, f"{self.path}-wal")
        return sum(os.stat(name).st_size for name in names if os.path.exists(name))


_FILES_OF_PREFIX = "SELECT request_file, response_file FROM exchanges WHERE id BETWEEN ? AND ?"


def _open_writer(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        upgrade(connection, path)
        connection.execute("INSERT INTO words (words, rank) VALUES ('automerge', ?)", (MERGED_AT_ONCE,))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _troubles() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise IndexTrouble(str(error)) from error


# --- questions ---------------------------------------------------------------------


def _question(filters: Filters, position: int | None, oldest_first: bool) -> tuple[str, list[Any]]:
    """The SQL for a page and its values but the limit; the first column is the position."""
    match = match_expression(filters)
    tables, key = ("exchanges e", "e.key") if match is None else _MATCHED
    conditions = [] if match is None else ["words MATCH ?"]
    values: list[Any] = [] if match is None else [match]
    for condition, value in _conditions(filters, position, oldest_first):
        conditions.append(condition.format(key=key))
        values.append(value)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ASC" if oldest_first else "DESC"
    return f"SELECT {key}, {records.COLUMNS} FROM {tables}{where} ORDER BY {key} {order} LIMIT ?", values


_WIDEST = "SELECT value FROM facts WHERE name = 'widest'"
"""How far the keys in this database are at most from the starts they stand for."""

_MATCHED = ("words CROSS JOIN exchanges e ON e.key = words.rowid", "words.rowid")
"""CROSS JOIN keeps the order of the tables: the rows come in the order of the key from the full text."""


def _conditions(filters: Filters, position: int | None, oldest_first: bool) -> Iterator[tuple[str, Any]]:
    if position is not None:
        yield ("{key} > ?" if oldest_first else "{key} < ?"), position
    if filters.since is not None:
        yield "{key} >= ?", filters.since
        yield "e.started >= ?", filters.since
    if filters.until is not None:
        yield f"{{key}} < ? + ({_WIDEST})", min(filters.until, records.MAX_INTEGER - records.KEY_RANGE)
        yield "e.started < ?", filters.until
    for name in ("route", "method", "outcome", "model", "session"):
        value = getattr(filters, name)
        if value is not None:
            yield f"e.{name} = ?", value
    if filters.status is not None:
        yield ("min(e.status / 100, 5) = ?" if filters.status < 10 else "e.status = ?"), filters.status
