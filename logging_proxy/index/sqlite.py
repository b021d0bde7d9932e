"""
The index in a SQLite database: WAL mode, one writing connection, a few that read.

Readers never wait for the writer nor it for them.  A commit is safe against
the end of the process but not of the machine (synchronous=NORMAL): what is lost
then is in the files, and `whole` says that it is to be looked for.
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


class SqliteIndex(IndexQuestions):
    """See `Index`.  Makes the database, and its directory with mode 0700, when there is none."""

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
