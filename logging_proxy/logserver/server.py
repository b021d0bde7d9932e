"""The wiring of the logging server: makes every part and hands each the others that it needs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.configuration.listeners import is_loopback
from logging_proxy.configuration.options import LoggingServerOptions, RetentionOptions
from logging_proxy.index import Indexer
from logging_proxy.index.opening import open_index
from logging_proxy.logserver.ingest.remote import RemoteSpools
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.live.feed import Feed
from logging_proxy.logserver.live.observers import Observers
from logging_proxy.logserver.process import StorageService
from logging_proxy.logserver.retention.policy import Limits, Retention
from logging_proxy.logserver.retention.rounds import Housekeeping
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.logserver.storing import StoringAndIndexing
from logging_proxy.logserver.telemetry.counters import Deleted, ServerStatus
from logging_proxy.logserver.threads import Threads, make_threads
from logging_proxy.logserver.uploads.indexing import UploadIndexing
from logging_proxy.logserver.uploads.intake import Target, UploadStore
from logging_proxy.logserver.uploads.recovery import UploadRecovery
from logging_proxy.logserver.web.access import kept_token, make_gate
from logging_proxy.logserver.web.exchanges import Archive, Exchanges
from logging_proxy.logserver.web.guard import Gate
from logging_proxy.logserver.web.live import Live, Viewers
from logging_proxy.logserver.web.puts import UploadIntake
from logging_proxy.logserver.web.site import Resources, ServerSite, build
from logging_proxy.logserver.web.spool_ingest import SpoolIngest
from logging_proxy.logserver.web.status import Health, Metrics
from logging_proxy.logserver.web.visitors import Visitors, look

MOST_WAITING = 2 << 30
"""Most bytes of a spool that may wait for storage; a quarter of the spool's limit if that is less."""

SECOND = 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Server:
    """The services of a logging server, and its site."""

    storing: StoringAndIndexing
    housekeeping: Housekeeping
    viewers: Viewers
    site: ServerSite


def make_server(
    reactor: Any,
    options: LoggingServerOptions,
    directory: LogDirectory,
    spool_root: str,
    spool_limit: int,
    sockets: list[socket.socket],
    routes: Sequence[str] = (),
) -> Server:
    """
    A logging server that stores captures in `directory` and reads the spools below `spool_root`.

    Each spool may grow to `spool_limit` bytes.  `sockets` are listening already.  `routes` are the names of
    the configured ones.
    """
    local = all(is_loopback(str(each.getsockname()[0])) for each in sockets)
    gate = make_gate(options, local, reactor.seconds, lambda: kept_token(directory.path), Visitors(look()))
    threads = make_threads(reactor)
    parts = ServerParts(reactor, options, directory, spool_root, spool_limit, threads, routes=routes)
    return parts.assemble(gate)


class ServerParts:
    """The parts of a logging server, joined.  Blocking work runs in `threads`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: LoggingServerOptions,
        directory: LogDirectory,
        spool_root: str,
        spool_limit: int,
        threads: Threads,
        wall_seconds: Callable[[], float] = time.time,
        routes: Sequence[str] = (),
    ) -> None:
        self.reactor = reactor
        self._routes = tuple(routes)
        self.directory = directory
        self.reader = CaptureReader(directory.path)
        self.threads = threads
        self._index_trouble = ""
        self.index = open_index(directory.path, self._tell_index_trouble)
        self.observers = Observers(Feed(reactor.seconds, time.time_ns() // 1000))
        if self.index is not None:
            self.observers.indexer = Indexer(self.reader, self.index, self.observers.indexed)
        self.remote = RemoteSpools(spool_root, spool_limit)
        store = FileStore(directory)
        self.spools = Spools(
            store,
            spool_root,
            reactor.seconds,
            self.observers,
            min(MOST_WAITING, spool_limit // 4),
            self.remote.remove,
        )
        self.halves = UploadIndexing(self.reader, self.index, self.observers)
        self.uploads = UploadStore(directory, self._is_under_way, self.halves.published)
        self.recovery = UploadRecovery(reactor, threads, self.uploads, self.halves.add)
        self.storage = StorageService(
            reactor, self.spools, threads.storage, self.uploads.close, lambda: self.observers.feed.viewers > 0
        )
        retention = _retention(options.retention, self.index)
        self.housekeeping = Housekeeping(
            reactor, store, self.index, retention, threads.upkeep, threads.storage.run, wall_seconds
        )
        self.housekeeping.is_whole = self._is_whole
        self._wants_retention = options.retention is not None
        if self._wants_retention and retention is None:
            self._log.error("nothing is deleted, whatever logging_server.retention says: there is no index")
        self.observers.housekeeping = self.housekeeping

    def assemble(self, gate: Gate) -> Server:
        viewers = Viewers(self.observers.feed, self.reactor, self.reactor.callFromThread)
        storing = StoringAndIndexing(
            self.storage,
            self.observers.indexer,
            self.index,
            self.threads.indexing,
            self.recovery.start,
            self.halves.settle,
        )
        return Server(
            storing, self.housekeeping, viewers, build(self._resources(viewers), gate, self.reactor)
        )

    def _resources(self, viewers: Viewers) -> Resources:
        seconds, threads = self.reactor.seconds, self.threads
        archive = Archive(
            self.reader,
            self.index,
            self.observers.under_way,
            self.spools,
            threads.files,
            threads.storage.run,
            threads.queries,
            self._routes,
        )
        return Resources(
            Health(seconds, time.time_ns, self.status),
            Metrics(seconds, time.time_ns, self.observers.telemetry, self.status),
            Exchanges(archive),
            Live(viewers),
            SpoolIngest(self.remote, threads.ingest, self.storage.wake),
            UploadIntake(self.uploads, self.halves, threads),
        )

    def status(self) -> ServerStatus:
        """The figures and troubles of all parts, for `/health` and `/metrics`."""
        indexer, retention = self.observers.indexer, self.housekeeping.retention
        trouble = self.housekeeping.trouble
        state = "off" if retention is None else "on" if self._is_whole() else "waiting"
        if self._wants_retention and retention is None:
            trouble = "it is off, for there is no index"
        progress = indexer.progress if indexer is not None else None
        return ServerStatus(
            self.spools.status,
            self.housekeeping.sizes,
            retention.deleted if retention is not None else Deleted(),
            self.observers.under_way.in_flight(),
            self.observers.under_way.body_bytes(),
            self.observers.feed.viewers,
            indexer.waiting if indexer is not None else 0,
            indexer.trouble if indexer is not None else self._index_trouble,
            None if progress is None else (progress.done, progress.total),
            state,
            trouble,
        )

    def _tell_index_trouble(self, reason: str) -> None:
        self._index_trouble = f"it could not be opened: {reason}"
        self._log.error("captures are stored but not indexed: {reason}", reason=reason)

    def _is_under_way(self, target: Target) -> bool:
        """Asked on the storage thread, which never waits for the index: the intake asks that beforehand."""
        return self.observers.under_way.has_half(target.id, target.side)

    def _is_whole(self) -> bool:
        return self.observers.indexer is not None and self.observers.indexer.is_whole


def _retention(options: RetentionOptions | None, index: Any) -> Retention | None:
    if options is None or index is None:
        return None

    def age(seconds: int | None) -> int | None:
        return None if seconds is None else seconds * SECOND

    limits = Limits(
        age(options.max_age),
        options.max_bytes,
        options.max_exchanges,
        age(options.errors_max_age),
        age(options.bodies_max_age),
    )
    return Retention(limits, index)
