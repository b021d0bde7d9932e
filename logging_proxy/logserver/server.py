"""The logging server put together: what its service and its site are made of."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.configuration.listeners import is_loopback
from logging_proxy.configuration.options import LoggingServerOptions, RetentionOptions
from logging_proxy.index import Indexer
from logging_proxy.index.opening import open_index
from logging_proxy.logserver.ingest.remote import RemoteSpools
from logging_proxy.logserver.ingest.spools import Spools, describe_error
from logging_proxy.logserver.live.feed import Feed
from logging_proxy.logserver.live.observers import Observers
from logging_proxy.logserver.process import Run, StorageService, StorageThread, Worker
from logging_proxy.logserver.retention.keeper import Keeper, Limits
from logging_proxy.logserver.retention.rounds import Housekeeping
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.logserver.storing import StoringAndIndexing
from logging_proxy.logserver.telemetry.counters import Deleted, Standing
from logging_proxy.logserver.threads import MOST_WAITING as MOST_WAITING_SEARCHES
from logging_proxy.logserver.threads import SEARCHES, Threads
from logging_proxy.logserver.uploads.indexing import UploadIndexing
from logging_proxy.logserver.uploads.intake import UploadStore
from logging_proxy.logserver.web.exchanges import Archive, Exchanges
from logging_proxy.logserver.web.guard import Gate, local_hosts
from logging_proxy.logserver.web.live import Hall, Live
from logging_proxy.logserver.web.puts import Desk
from logging_proxy.logserver.web.site import Parts, ServerSite, build
from logging_proxy.logserver.web.spool_ingest import SpoolIngest
from logging_proxy.logserver.web.status import Health, Metrics
from logging_proxy.logserver.web.visitors import Visitors, look
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.token_file import keep_token

_log = Logger()

MOST_WAITING = 2 << 30
"""Bytes that the storing of a spool may be put off; a quarter of the spool's limit if that is less."""

RECOVERY_INTERVAL = 5.0
"""Seconds until uploads of an earlier life are looked for again in a log directory that is in trouble."""

SECOND = 1_000_000
"""Microseconds."""


class Viewing(Service):
    """Sends the viewers of the live feed away when the server stops."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._hall.close()


@dataclass(frozen=True, slots=True)
class Server:
    """The parts that are started and stopped, and the site."""

    storing: StoringAndIndexing
    housekeeping: Housekeeping
    viewing: Viewing
    site: ServerSite


def make_server(
    reactor: Any,
    options: LoggingServerOptions,
    directory: LogDirectory,
    spool_root: str,
    spool_limit: int,
    sockets: list[socket.socket],
) -> Server:
    """
    A logging server that keeps captures in `directory` and takes in the spools below `spool_root`.

    Each may grow to `spool_limit` bytes.
    """

    def run(work: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    local = all(is_loopback(str(each.getsockname()[0])) for each in sockets)
    gate = make_gate(options, local, reactor.seconds, lambda: kept_token(directory.path), Visitors(look()))
    searches = Threads(reactor, "search", SEARCHES, MOST_WAITING_SEARCHES)
    builder = Builder(
        reactor,
        options,
        directory,
        spool_root,
        spool_limit,
        run,
        StorageThread(reactor),
        run_search=searches.run,
    )
    return builder.build(gate)


def make_gate(
    options: LoggingServerOptions,
    local: bool,
    seconds: Callable[[], float],
    keep: Callable[[], str],
    visitors: Visitors,
) -> Gate:
    """
    `local` says that only this machine can call.

    A token that is configured is asked of everybody.  Without one it is the token that `keep` gives, and
    on this machine `visitors` knows who does without.
    """
    hosts = local_hosts(options.host) if local else frozenset[str]()
    if options.token is not None:
        return Gate(hosts, options.token.value, seconds)
    if local and options.open_to == "machine":
        return Gate(hosts, None, seconds)
    return Gate(hosts, keep(), seconds, visitors if local else None)


def kept_token(log_dir: str) -> str:
    """The token of the log directory; where none can be kept, one that nobody knows."""
    try:
        return keep_token(log_dir)
    except UnsafeDirectory as error:
        reason = str(error)
    except OSError as error:
        reason = f"{log_dir}: {error.strerror}"
    _log.error("no token can be kept for other users: {reason}", reason=reason)
    return secrets.token_urlsafe(32)


class Builder:
    """Makes the parts and joins them; `run`, `worker` and `run_search` do the work that may block."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: LoggingServerOptions,
        directory: LogDirectory,
        spool_root: str,
        spool_limit: int,
        run: Run,
        worker: Worker,
        run_search: Run | None = None,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self.reactor = reactor
        self.directory = directory
        self.reader = CaptureReader(directory.path)
        self.run = run
        self.run_search = run_search or run
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
        self.uploads = UploadStore(directory, self.halves.is_known, self.halves.published)
        self.worker = worker
        self.storage = StorageService(
            reactor, self.spools, self.worker, self.uploads.close, lambda: self.observers.feed.viewers > 0
        )
        keeper = _keeper(options.retention, self.index)
        self.housekeeping = Housekeeping(
            reactor, store, self.index, keeper, run, self.worker.run, wall_seconds
        )
        self.housekeeping.is_whole = self._is_whole
        self._wants_retention = options.retention is not None
        if self._wants_retention and keeper is None:
            self._log.error("nothing is deleted, whatever logging_server.retention says: there is no index")
        self.observers.housekeeping = self.housekeeping
        self._recovery_trouble = ""

    def build(self, gate: Gate) -> Server:
        hall = Hall(self.observers.feed, self.reactor, self.reactor.callFromThread)
        storing = StoringAndIndexing(
            self.storage,
            self.observers.indexer,
            self.index,
            self.run,
            self._recover_uploads,
            self.halves.settle,
        )
        return Server(storing, self.housekeeping, Viewing(hall), build(self._parts(hall), gate, self.reactor))

    def _parts(self, hall: Hall) -> Parts:
        seconds = self.reactor.seconds
        archive = Archive(
            self.reader,
            self.index,
            self.observers.under_way,
            self.spools,
            self.run,
            self.worker.run,
            self.run_search,
        )
        return Parts(
            Health(seconds, time.time_ns, self.standing),
            Metrics(seconds, time.time_ns, self.observers.telemetry, self.standing),
            Exchanges(archive),
            Live(hall),
            SpoolIngest(self.remote, self.run, self.storage.wake),
            Desk(self.uploads, self.worker.run, self.run, self.halves.add),
        )

    def standing(self) -> Standing:
        """How everything stands now."""
        indexer, keeper, trouble = self.observers.indexer, self.housekeeping.keeper, self.housekeeping.trouble
        state = "off" if keeper is None else "on" if self._is_whole() else "waiting"
        if self._wants_retention and keeper is None:
            trouble = "it is off, for there is no index"
        progress = indexer.progress if indexer is not None else None
        return Standing(
            self.spools.status,
            self.housekeeping.sizes,
            keeper.deleted if keeper is not None else Deleted(),
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

    def _is_whole(self) -> bool:
        return self.observers.indexer is not None and self.observers.indexer.is_whole

    def _recover_uploads(self) -> None:
        recovered = self.worker.run(self.uploads.recover)
        recovered.addCallback(lambda documents: self.run(partial(self._add_all, documents)))
        recovered.addErrback(self._recover_later)

    def _recover_later(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, OSError | UnsafeDirectory):
            self._log.failure("uploads of an earlier life are left where they are", failure=failure)
            return
        trouble = describe_error(error)
        if trouble != self._recovery_trouble:
            self._log.error("uploads of an earlier life wait: {reason}", reason=trouble)
        self._recovery_trouble = trouble
        self.reactor.callLater(RECOVERY_INTERVAL, self._recover_uploads)

    def _add_all(self, documents: list[dict[str, Any]]) -> None:
        for document in documents:
            self.halves.add(document)


def _keeper(options: RetentionOptions | None, index: Any) -> Keeper | None:
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
    return Keeper(limits, index)
