"""
The queries of an index in a SQLite database.

Searches, which may be slow, and lookups of single exchanges use separate connections, so that a lookup
never waits for a search.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from logging_proxy.captures.names import short_id
from logging_proxy.index import records
from logging_proxy.index.columns import Row
from logging_proxy.index.cursors import read_cursor, write_cursor
from logging_proxy.index.pool import ReaderPool
from logging_proxy.index.schema import MIGRATIONS, NEWER, missing_columns, version_of
from logging_proxy.index.values import (
    MAX_LIMIT,
    Counts,
    Filters,
    IndexTrouble,
    Page,
    Texts,
    id_range,
    is_class,
    never,
)
from logging_proxy.index.words import match_expression

_AT_ONCE = 500
"""Maximum parameters of a query."""

SEARCHES, LOOKUPS = 5, 2
"""Number of connections of each kind."""


class IndexQuestions:
    """The read-only part of an `Index`.  Nothing is written, not even on opening."""

    def __init__(self, path: str, mode: str) -> None:
        self.path = path
        self._searches = ReaderPool(uri_of(path, mode), SEARCHES)
        self._lookups = ReaderPool(uri_of(path, mode), LOOKUPS)

    def close(self) -> None:
        self._searches.close()
        self._lookups.close()

    @property
    def whole(self) -> bool:
        with self._lookups.reader() as reader:
            return bool(reader.execute("SELECT value FROM facts WHERE name = 'whole'").fetchone()[0])

    def get(self, id: str) -> Row | None:
        packed = records.pack_id(id)
        with self._lookups.reader() as reader:
            found = reader.execute(
                f"SELECT {records.COLUMNS} FROM exchanges e WHERE e.id = ?", (packed,)
            ).fetchone()
        return None if found is None else records.row_of(found)

    def texts(self, id: str) -> Texts | None:
        sql = "SELECT t.request, t.response FROM exchanges e JOIN texts t ON t.key = e.key WHERE e.id = ?"
        with self._lookups.reader() as reader:
            found = reader.execute(sql, (records.pack_id(id),)).fetchone()
        return None if found is None else records.unpack_texts(*found)

    def list(
        self,
        filters: Filters,
        cursor: str | None = None,
        limit: int = 50,
        oldest_first: bool = False,
        abandoned: Callable[[], bool] = never,
    ) -> Page:
        position = None if cursor is None else read_cursor(cursor)
        limit = max(1, min(limit, MAX_LIMIT))
        sql, values = _question(records.storable_filters(filters), position, oldest_first)
        with self._searches.reader(abandoned) as reader:
            found = reader.execute(sql, (*values, limit + 1)).fetchall()
        rows = [records.row_of(columns[1:]) for columns in found[:limit]]
        return Page(rows, write_cursor(found[limit - 1][0]) if len(found) > limit else None)

    def counts(self) -> Counts:
        with self._lookups.reader() as reader:
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

    def tails(self, hashes: Sequence[int]) -> set[int]:
        found: set[int] = set()
        with self._lookups.reader() as reader:
            for at in range(0, len(hashes), _AT_ONCE):
                some = hashes[at : at + _AT_ONCE]
                sql = f"SELECT tail FROM texts WHERE tail IN ({', '.join('?' * len(some))})"
                found.update([tail for (tail,) in reader.execute(sql, some)])
        return found

    def known(self, filenames: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._lookups.reader() as reader:
            for filename in filenames:
                short = short_id(filename)
                if short is not None:
                    bounds = bytes.fromhex(short), bytes.fromhex(short) + b"\xff" * 12
                    found.update(*reader.execute(_FILES_OF_PREFIX, bounds))
        return found.intersection(filenames)

    def _size(self) -> int:
        names = (self.path, f"{self.path}-wal")
        return sum(os.stat(name).st_size for name in names if os.path.exists(name))


_FILES_OF_PREFIX = "SELECT request_file, response_file FROM exchanges WHERE id BETWEEN ? AND ?"

_UNCHANGING = "mode=ro&immutable=1"
"""Without `immutable`, SQLite creates files beside a database in WAL mode even to read it."""


def uri_of(path: str, mode: str) -> str:
    """The SQLite URI of the database at `path`."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{mode}"


def check_version(path: str) -> None:
    """Raise `IndexTrouble` if there is a database at `path` from a newer version of this program."""
    try:
        with closing(sqlite3.connect(uri_of(path, "mode=ro"), uri=True)) as connection:
            version = version_of(connection)
    except sqlite3.Error:
        return
    if version > len(MIGRATIONS):
        raise IndexTrouble(f"{path}: {NEWER.format(version, len(MIGRATIONS))}")


def open_whole(path: str) -> IndexQuestions | None:
    """
    The index at `path`, if it is complete, current and not in use; None otherwise.

    It is incomplete while a logging server runs, and after one was killed.  Nothing is written.  Raises
    `IndexTrouble` if it was made by a newer version of this program.
    """
    if os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal"):
        return None
    try:
        with closing(sqlite3.connect(uri_of(path, _UNCHANGING), uri=True)) as connection:
            version = version_of(connection)
            whole = connection.execute("SELECT value FROM facts WHERE name = 'whole'").fetchone()
            missing = missing_columns(connection)
    except sqlite3.Error:
        return None
    if version > len(MIGRATIONS):
        raise IndexTrouble(NEWER.format(version, len(MIGRATIONS)))
    usable = version == len(MIGRATIONS) and not missing and whole is not None and bool(whole[0])
    return IndexQuestions(path, _UNCHANGING) if usable else None


# --- questions ---------------------------------------------------------------------


def _question(filters: Filters, position: int | None, oldest_first: bool) -> tuple[str, list[Any]]:
    """SQL and parameters, except the limit, of the query for a page; the first column is the position."""
    match = match_expression(filters)
    tables, key = ("exchanges e", "e.key") if match is None else _MATCHED
    conditions = [] if match is None else ["words MATCH ?"]
    values: list[Any] = [] if match is None else [match]
    for condition, *given in _conditions(filters, position, oldest_first):
        conditions.append(condition.format(key=key))
        values += given
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ASC" if oldest_first else "DESC"
    return f"SELECT {key}, {records.COLUMNS} FROM {tables}{where} ORDER BY {key} {order} LIMIT ?", values


_WIDEST = "SELECT value FROM facts WHERE name = 'widest'"
"""The largest distance of a key in this database from the start time of its exchange."""

_MATCHED = ("words CROSS JOIN exchanges e ON e.key = words.rowid", "words.rowid")
"""CROSS JOIN fixes the order of the tables, so rows come from the full-text index in key order."""


def _conditions(filters: Filters, position: int | None, oldest_first: bool) -> Iterator[tuple[Any, ...]]:
    """Each condition with its values."""
    if position is not None:
        yield ("{key} > ?" if oldest_first else "{key} < ?"), position
    if filters.since is not None:
        yield "{key} >= ?", filters.since
        yield "e.started >= ?", filters.since
    if filters.until is not None:
        yield f"{{key}} < ? + ({_WIDEST})", min(filters.until, records.MAX_INTEGER - records.KEY_RANGE)
        yield "e.started < ?", filters.until
    if filters.id is not None:
        # A subquery, so that the index on `id` is used, whatever SQLite expects of the order by key.
        yield "{key} IN (SELECT key FROM exchanges WHERE id BETWEEN ? AND ?)", *id_range(filters.id)
    for name, value in filters.where.items():
        yield (f"min(e.{name} / 100, 5) = ?" if is_class(name, value) else f"e.{name} = ?"), value
