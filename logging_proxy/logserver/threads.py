"""
The threads of the logging server, by what they are for: none of it waits for the others.

Storing has one of its own (`service.StorageThread`), and so has the index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

SEARCHES = 4
"""Threads for searches; a slow one may take seconds."""

MOST_WAITING = 64
"""Searches that wait for a thread; more are refused."""


class TooBusy(Exception):
    """So much is waiting that more would wait in vain."""


class Threads:
    """A few threads for one kind of work, from the first piece of it to the end of the reactor."""

    def __init__(self, reactor: Any, name: str, most: int, most_waiting: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._most_under_way = most + most_waiting
        self._under_way = 0
        self._started = False

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Runs `work`; the Deferred has its result.  Raises `TooBusy`."""
        if self._under_way >= self._most_under_way:
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
