"""Uploads that an earlier run of the server left unfinished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from logging_proxy.logserver.ingest.spools import describe_error
from logging_proxy.logserver.threads import Threads
from logging_proxy.logserver.uploads.intake import UploadStore
from logging_proxy.recording.directories import UnsafeDirectory

RECOVERY_INTERVAL = 5.0
"""Seconds between two attempts while the log directory cannot be used."""


class UploadRecovery:
    """Publishes leftover uploads as interrupted, and hands their metadata to `index`, which may block."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        threads: Threads,
        store: UploadStore,
        index: Callable[[dict[str, Any]], None],
    ) -> None:
        self._clock = clock
        self._threads = threads
        self._store = store
        self._index = index
        self._trouble = ""

    def start(self) -> None:
        """Tries until the log directory can be used; every new reason why it cannot is logged once."""
        recovered = self._threads.storage.run(self._store.recover)
        recovered.addCallback(lambda documents: self._threads.indexing(lambda: self._add(documents)))
        recovered.addErrback(self._retry)

    def _add(self, documents: list[dict[str, Any]]) -> None:
        for document in documents:
            self._index(document)

    def _retry(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, OSError | UnsafeDirectory):
            self._log.failure("uploads of an earlier life are left where they are", failure=failure)
            return
        trouble = describe_error(error)
        if trouble != self._trouble:
            self._log.error("uploads of an earlier life wait: {reason}", reason=trouble)
        self._trouble = trouble
        self._clock.callLater(RECOVERY_INTERVAL, self.start)
