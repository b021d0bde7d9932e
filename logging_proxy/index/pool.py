"""
A pool of read-only connections.

A watch thread interrupts questions that are past their deadline or abandoned by their caller.  SQLite's
progress handler is no alternative: it runs between operations, and a full-text search is one long operation.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from logging_proxy.index.values import Abandoned, IndexTrouble, TooSlow, never

QUERY_SECONDS = 5.0
"""Deadline of a question."""

LOOK_SECONDS = 0.1
"""Seconds between two checks of the running questions."""

CACHE_KIB = 16 << 10


class ReaderPool:
    """Up to `places` connections to the database at `uri`, opened on demand.  Further callers wait."""

    def __init__(self, uri: str, places: int, seconds: Callable[[], float] = time.monotonic) -> None:
        self._uri = uri
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(places)
        self._idle: list[sqlite3.Connection] = []
        self._asked: dict[sqlite3.Connection, tuple[float, Callable[[], bool]]] = {}
        """Connections with a running question: its deadline, and whether it was abandoned."""
        self._lock = threading.Condition()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    @contextmanager
    def reader(self, abandoned: Callable[[], bool] = never) -> Iterator[sqlite3.Connection]:
        """
        A connection in a read transaction, for one query.

        Raises `TooSlow` when the question is past its deadline, `Abandoned` when `abandoned`, which any
        thread may call, becomes true, and `IndexTrouble` for other errors.
        """
        with self._places:
            if abandoned():
                raise Abandoned
            connection = self._take()
            try:
                with self._watched(connection, abandoned):
                    connection.execute("BEGIN")
                    yield connection
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                connection.close()
                if "interrupted" in str(error):
                    if abandoned():
                        raise Abandoned from None
                    raise TooSlow("the search took too long") from None
                raise IndexTrouble(str(error)) from error
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def interrupt_needless(self) -> None:
        """Interrupts the questions that are past their deadline or abandoned."""
        with self._lock:
            now = self._seconds()
            for connection, (deadline, abandoned) in self._asked.items():
                if now > deadline or abandoned():
                    connection.interrupt()

    def close(self) -> None:
        """Interrupt running queries and close idle connections; the others close when they are returned."""
        with self._lock:
            self._closed.set()
            self._lock.notify()
            idle, self._idle = self._idle, []
            for connection in self._asked:
                connection.interrupt()
        for connection in idle:
            connection.close()
        if self._watch is not None:
            self._watch.join()

    @contextmanager
    def _watched(self, connection: sqlite3.Connection, abandoned: Callable[[], bool]) -> Iterator[None]:
        with self._lock:
            self._asked[connection] = self._seconds() + QUERY_SECONDS, abandoned
            if self._watch is None:
                self._watch = threading.Thread(target=self._watch_over, name="index-watch", daemon=True)
                self._watch.start()
            self._lock.notify()
        try:
            yield
        finally:
            # `interrupt` is called with the lock held only: it cannot reach the connection's next question.
            with self._lock:
                del self._asked[connection]

    def _watch_over(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                self._lock.wait_for(lambda: self._asked or self._closed.is_set())
            self._closed.wait(LOOK_SECONDS)
            self.interrupt_needless()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed.is_set():
                raise IndexTrouble("closed")
            connection = self._idle.pop() if self._idle else None
        return connection or self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5
            )
            connection.execute("PRAGMA query_only = 1")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA temp_store = MEMORY")
        except sqlite3.Error as error:
            raise IndexTrouble(str(error)) from error
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed.is_set():
                self._idle.append(connection)
                return
        connection.close()
