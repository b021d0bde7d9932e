"""Storage and index of a logging server, started and stopped as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from logging_proxy.index import Index, Indexer
from logging_proxy.logserver.process import Drainable
from logging_proxy.logserver.threads import Run


class StoringAndIndexing(Service):
    """Storage and index as one service: what is stored when it has stopped is in the index."""

    def __init__(
        self,
        storage: Any,
        indexer: Indexer | None,
        index: Index | None,
        run: Run,
        begin: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`begin` is called when storage has started, `settle`, which may block, when it has stopped."""
        self._storage = storage
        self._indexer = indexer
        self._index = index
        self._run = run
        self._begin = begin
        self._settle = settle

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._indexer is not None:
            self._indexer.start()
        self._storage.startService()
        self._begin()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._storage.stopService()
        await self._run(self._settle)
        if self._indexer is not None:
            await self._run(self._indexer.stop)
        if self._index is not None:
            await self._run(self._index.close)

    # --- as the storage service itself

    def drain(self) -> Deferred[None]:
        storage: Drainable = self._storage
        return storage.drain()

    def wake(self) -> None:
        self._storage.wake()
