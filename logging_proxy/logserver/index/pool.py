"""Read-only connections, handed out one caller at a time."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from logging_proxy.logserver.index.values import IndexTrouble, TooSlow

READERS = 4
QUERY_SECONDS = 5.0
"""A question that takes longer is broken off; the target is 0.2 s with a million rows."""

_OPERATIONS = 10_000
"""Between two looks at the clock: some 100 µs."""

CACHE_KIB = 16 << 10


class ReaderPool:
    """Up to `READERS` connections, opened when needed.  Callers beyond wait."""

    def __init__(self, path: str, seconds: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(READERS)
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """
        A connection for one question, which sees one state of the database.

        Raises `TooSlow` for a question over the time, `IndexTrouble` for the rest.
        """
        with self._places:
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                connection.close()
                if "interrupted" in str(error):
                    raise TooSlow("the search took too long") from None
                raise IndexTrouble(str(error)) from error
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def close(self) -> None:
        """Closes what is idle now and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise IndexTrouble("closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open()
        deadline = self._seconds() + QUERY_SECONDS
        connection.set_progress_handler(lambda: self._seconds() > deadline, _OPERATIONS)
        return connection

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
            connection.execute("PRAGMA query_only = 1")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA temp_store = MEMORY")
        except sqlite3.Error as error:
            raise IndexTrouble(str(error)) from error
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
