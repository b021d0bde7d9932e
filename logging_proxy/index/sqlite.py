"""
The index in a SQLite database: WAL mode, one connection for writing and a few for reading.

Readers and the writer do not block one another.  A commit survives a crash of the process, but not a power
loss (synchronous=NORMAL).  Lost exchanges are still in the files, and `whole` is then false.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from logging_proxy.index import records
from logging_proxy.index.questions import IndexQuestions
from logging_proxy.index.records import Prepared
from logging_proxy.index.schema import make_private_file, upgrade
from logging_proxy.index.values import Entry, IndexTrouble
from logging_proxy.index.writing import Writing

FILE = ".index/exchanges.sqlite3"
"""The database file, relative to the log directory."""

PAGE_SIZE = 8192
WRITER_CACHE_KIB = 64 << 10
CHECKPOINT_PAGES = 4000
"""Pages in the WAL (32 MiB) that start a checkpoint; pages changed by many commits are written once."""

MERGED_AT_ONCE = 8
"""
Full-text segments merged at a time.  FTS5's default of 4 rewrites each word twice as often; with 8 a search
reads a few more segments.
"""


class SqliteIndex(IndexQuestions):
    """An `Index` in SQLite.  Creates the database, and its directory with mode 0700, if there is none."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
            make_private_file(path)
            self._connection = _open_writer(path)
        except (OSError, sqlite3.Error) as error:
            raise IndexTrouble(f"{path}: {error}") from error
        super().__init__(path, "mode=rw")

    def close(self) -> None:
        super().close()
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
        Add entries whose ids are all new; returns False, and adds none, if one is not.

        Ids repeat only in a replay, so entries are inserted without a search for their ids, and replaced on
        an IntegrityError.
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
