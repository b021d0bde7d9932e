"""
The threads of the logging server: each kind of blocking work has its own, so none delays another.

The index's writer and catch-up threads belong to `Indexer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

QUERIES = 4
"""Threads for searches, each of which may take seconds."""

MOST_WAITING = 64
"""Length of the queue of searches; further ones are refused."""

FILES = 4
"""Threads that read captures: bytes, metadata and the index row of one exchange."""

INGEST = 2
"""Threads that append to the spools of remote proxies."""

Run = Callable[[Callable[[], Any]], "Deferred[Any]"]
"""Runs a function in a thread; the Deferred fires with its result."""


class TooBusy(Exception):
    """The queue for this kind of work is full."""


class Worker(Protocol):
    """Runs storage work, one function at a time, in the order of the calls."""

    def start(self) -> None: ...

    def run(self, work: Callable[[], Any]) -> Deferred[Any]: ...

    def stop(self) -> None: ...


class StorageThread:
    """The `Worker` of a real server: a single thread."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, "storage")

    def start(self) -> None:
        self._pool.start()

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._pool, work)

    def stop(self) -> None:
        self._pool.stop()


class Pool:
    """
    At most `most` threads for one kind of work, started when first needed and stopped with the reactor.

    `most_waiting` limits the queue; None is no limit.
    """

    def __init__(self, reactor: Any, name: str, most: int, most_waiting: int | None = None) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._most_under_way = None if most_waiting is None else most + most_waiting
        self._under_way = 0
        self._started = False

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Runs `work` in one of the threads.  Raises `TooBusy` when the queue is full."""
        if self._most_under_way is not None and self._under_way >= self._most_under_way:
            raise TooBusy
        if not self._started:
            self._started = True
            self._pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        self._under_way += 1
        return deferToThreadPool(self._reactor, self._pool, work).addBoth(self._done)

    def _done(self, result: Any) -> Any:
        self._under_way -= 1
        return result


@dataclass(frozen=True, slots=True)
class Threads:
    """One way to run blocking work for each purpose."""

    storage: Worker
    """Spools, uploads, deletions: the only thread that changes the log directory."""
    queries: Run
    """Searches.  May raise `TooBusy`."""
    files: Run
    """Downloads, metadata and single rows of the index."""
    ingest: Run
    """Appends to the spools of remote proxies."""
    indexing: Run
    """Index entries of uploads, and the last entries at the stop: one thread."""
    upkeep: Run
    """Measuring the log directory and planning retention: one thread."""


def make_threads(reactor: Any) -> Threads:
    """The threads of a real server; each starts with its first work."""
    return Threads(
        StorageThread(reactor),
        Pool(reactor, "query", QUERIES, MOST_WAITING).run,
        Pool(reactor, "files", FILES).run,
        Pool(reactor, "ingest", INGEST).run,
        Pool(reactor, "indexing", 1).run,
        Pool(reactor, "upkeep", 1).run,
    )
