"""
From the events of exchanges to capture files.

`Store` gathers what arrives, writes it when told to `flush`, and with `commit`
publishes the exchanges that have ended: bodies and temporary metadata are
synced first, in one go, then the metadata get their names.  So a metadata file
vouches for its `.bin`.

Every half gets a `.bin`, an empty one if no response came: the file reserves
the name.  After an OSError a store is of no use: drop it and restore another
from the last checkpoint.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from logging_proxy.logserver import metadata
from logging_proxy.logserver.assembly import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.logserver.exchanges import Exchange, Side
from logging_proxy.logserver.files import NOT_OURS, LogDirectory
from logging_proxy.logserver.metadata import StoredBody

BUFFER_LIMIT = 256 << 10
"""Bytes of one half that wait for the next flush; more are written at once."""

KEPT_BODY = 16 << 10
"""Files up to so many bytes are given on with the metadata."""

OPEN_LIMIT = 128
"""Descriptors that a store keeps open; the default RLIMIT_NOFILE is 1024."""

SINGLE_SYNCS = 64
"""Up to so many files are synced one by one, more with one sync of the file system."""

FILE_GONE = "its file was removed or cut while it was being written"


@dataclass(slots=True, eq=False)
class HalfFile:
    """A half on its way to its `.bin`.  Without a name until the first flush."""

    stamp: str
    id: str
    side: Side
    prefix: bytes
    base: str = ""
    fd: int | None = None
    waiting: list[bytes] = field(default_factory=list)
    waiting_size: int = 0
    written: int = 0
    """Bytes of the file, prefix included, that were written by this life or an earlier one."""
    digest: Any = None
    """None after a restore: computed from the file when the half ends."""
    stored: bool = False
    gone: bool = False
    body: bytes | None = None
    """The whole body, if it was written at once and is small."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An exchange whose files are all on disk."""

    exchange: Exchange
    request: dict[str, Any]
    response: dict[str, Any]
    bodies: dict[str, bytes] = field(default_factory=dict)
    """The bytes of small bodies by file name, so that nobody need read them again."""


@dataclass(slots=True)
class _Finished:
    exchange: Exchange
    request: HalfFile
    response: HalfFile


class Store:
    """Writes the capture files of one spool's exchanges."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._halves: dict[tuple[int, Side], HalfFile] = {}
        self._unwritten: dict[HalfFile, None] = {}
        self._unsynced: dict[HalfFile, None] = {}
        self._descriptors: OrderedDict[HalfFile, None] = OrderedDict()
        self._finished: list[_Finished] = []
        self._new_names = False
        """Whether files were made whose names may not survive a power loss yet."""

    @property
    def finished(self) -> int:
        """Exchanges that wait for `commit`."""
        return len(self._finished)

    @property
    def dirty(self) -> bool:
        return bool(self._finished or self._unwritten or self._unsynced)

    def handle(self, event: Event) -> None:
        """Takes in one event.  May write, so may raise OSError."""
        if isinstance(event, BodyPiece):
            self._append(self._halves[event.exchange.number, event.side], event.data)
        elif isinstance(event, Started):
            self._start(event.exchange, Side.REQUEST)
        elif isinstance(event, ResponseStarted):
            self._start(event.exchange, Side.RESPONSE)
        elif isinstance(event, Ended):
            self._finish(event.exchange)

    def flush(self) -> None:
        """Writes what waits, so that readers of the files see it."""
        while self._unwritten:
            half, _ = self._unwritten.popitem()
            self._write(half)

    def commit(self) -> list[Stored]:
        """Makes everything durable and publishes the exchanges that have ended."""
        self.flush()
        finished = self._finished
        records = [self._describe(item) for item in finished]
        fresh = [
            (half, document)
            for item, record in zip(finished, records, strict=True)
            for half, document in ((item.request, record.request), (item.response, record.response))
            if not half.stored
        ]
        self._sync_with_metadata(fresh)
        for half, _ in fresh:
            self._directory.publish(half.base, half.id)
        if fresh or self._new_names:
            # Also for files that are not published: the checkpoint that follows relies on them.
            self._directory.sync_names()
            self._new_names = False
        for item in finished:
            self._release(item.request)
            self._release(item.response)
        self._finished = []
        return records

    def close(self) -> None:
        """Lets go of all descriptors and names, and of whatever was not committed."""
        for half in self._descriptors:
            self._close_descriptor(half)
        self._descriptors.clear()
        halves = [
            *self._halves.values(),
            *(h for item in self._finished for h in (item.request, item.response)),
        ]
        for half in halves:
            self._directory.release(half.base)
        self._halves.clear()
        self._finished.clear()

    def preview(self, exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The documents of an exchange that is not published yet, as far as it has come."""
        halves = {side: self._halves.get((exchange.number, side)) for side in Side}
        for item in self._finished:
            if item.exchange is exchange:
                halves = {Side.REQUEST: item.request, Side.RESPONSE: item.response}
        names = {side: f"{half.base}.bin" if half and half.base else "" for side, half in halves.items()}
        return metadata.preview(exchange, names[Side.REQUEST], names[Side.RESPONSE])

    def finished_exchanges(self) -> list[Exchange]:
        return [item.exchange for item in self._finished]

    # --- checkpoints: the names of the unfinished files

    def checkpoint(self) -> list[list[Any]]:
        """The files of the open exchanges as JSON-able values; only right after `commit`."""
        return [[number, side.value, half.base] for (number, side), half in self._halves.items()]

    def restore(self, exchanges: dict[int, Exchange], state: Iterable[list[Any]]) -> None:
        """Takes up the files of `exchanges`.  Raises KeyError, TypeError or ValueError else."""
        for number, side_name, base in state:
            exchange, side = exchanges[number], Side(side_name)
            half = _half_file(exchange, side)
            tracked = exchange.half(side)
            assert tracked is not None
            half.base, half.digest = base, None
            half.waiting, half.waiting_size = [], 0
            half.written = len(half.prefix) + tracked.size
            half.stored = self._directory.reclaim(base, half.id)
            self._halves[number, side] = half

    # --- the life of a half

    def _start(self, exchange: Exchange, side: Side) -> HalfFile:
        half = _half_file(exchange, side)
        self._halves[exchange.number, side] = half
        self._unwritten[half] = None
        return half

    def _append(self, half: HalfFile, data: bytes) -> None:
        if half.digest is not None:
            half.digest.update(data)
        half.waiting.append(data)
        half.waiting_size += len(data)
        if half.waiting_size > BUFFER_LIMIT:
            self._unwritten.pop(half, None)
            self._write(half)
        else:
            self._unwritten[half] = None

    def _finish(self, exchange: Exchange) -> None:
        if (exchange.number, Side.RESPONSE) not in self._halves:
            self._start(exchange, Side.RESPONSE)
        request = self._halves.pop((exchange.number, Side.REQUEST))
        response = self._halves.pop((exchange.number, Side.RESPONSE))
        self._finished.append(_Finished(exchange, request, response))

    def _release(self, half: HalfFile) -> None:
        self._directory.release(half.base)
        if half.fd is not None:
            del self._descriptors[half]
            self._close_descriptor(half)

    # --- files

    def _write(self, half: HalfFile) -> None:
        fd = None if half.stored else self._descriptor(half)
        data, at = b"".join(half.waiting), half.written
        half.body = data[len(half.prefix) :] if not at and len(data) <= KEPT_BODY else None
        half.waiting.clear()
        half.written += half.waiting_size
        half.waiting_size = 0
        if fd is not None:
            self._directory.write(fd, data, at)
            self._unsynced[half] = None

    def _descriptor(self, half: HalfFile) -> int | None:
        """The open `.bin`; None for a half that is found to be published already."""
        if half.fd is not None:
            self._descriptors.move_to_end(half)
            return half.fd
        if half.base:
            half.fd = self._reopen(half)
        else:
            self._claim(half)
        if half.fd is None:
            return None
        self._hold(half)
        return half.fd

    def _hold(self, half: HalfFile) -> None:
        self._descriptors[half] = None
        if len(self._descriptors) > OPEN_LIMIT:
            oldest, _ = self._descriptors.popitem(last=False)
            self._close_descriptor(oldest)

    def _close_descriptor(self, half: HalfFile) -> None:
        if half.fd is not None:
            fd, half.fd = half.fd, None
            self._directory.close_file(fd)

    def _reopen(self, half: HalfFile) -> int | None:
        """The file of a half that was begun earlier; when it is gone or replaced, another, with a hole."""
        try:
            fd = self._directory.reopen(half.base)
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            half.gone = True
            self._directory.release(half.base)
            self._claim(half)
            if half.fd is not None:
                self._directory.write(half.fd, half.prefix, 0)
            return half.fd
        half.gone = half.gone or self._directory.size(fd) < half.written
        return fd

    def _claim(self, half: HalfFile) -> None:
        claim = self._directory.claim(half.stamp, half.id, half.side.value, half.prefix)
        half.base, half.fd, half.stored = claim.base, claim.fd, claim.stored
        self._new_names = self._new_names or claim.fd is not None

    # --- committing

    def _describe(self, item: _Finished) -> Stored:
        bodies = [self._stored_body(half) for half in (item.request, item.response)]
        if item.request.gone or item.response.gone:
            item.exchange.mark_damaged(FILE_GONE)
        request, response = metadata.documents(item.exchange, bodies[0], bodies[1])
        kept = {f"{half.base}.bin": half.body for half in (item.request, item.response) if half.body}
        return Stored(item.exchange, request, response, kept)

    def _stored_body(self, half: HalfFile) -> StoredBody:
        if half.digest is None:
            self._digest_file(half)
        return StoredBody(f"{half.base}.bin", half.digest.hexdigest())

    def _digest_file(self, half: HalfFile) -> None:
        """
        The digest of a half that was begun in an earlier life, read back from its file.

        The one place for it: hash states cannot be kept in a checkpoint.
        """
        half.digest, length = hashlib.sha256(), half.written - len(half.prefix)
        fd = self._descriptor(half)
        if fd is None:
            return
        for chunk in self._directory.read(fd, len(half.prefix), length):
            half.digest.update(chunk)
            length -= len(chunk)
        half.gone = half.gone or length > 0

    def _sync_with_metadata(self, fresh: list[tuple[HalfFile, dict[str, Any]]]) -> None:
        """Puts on disk all that was written and, under temporary names, the metadata of `fresh`."""
        unsynced, self._unsynced = self._unsynced, {}
        few = len(unsynced) + len(fresh) <= SINGLE_SYNCS
        temporaries = []
        try:
            for half, document in fresh:
                fd = self._directory.write_temporary(half.base, half.id, metadata.to_json(document))
                if few:
                    temporaries.append(fd)
                else:
                    self._directory.close_file(fd)
            if few and all(half.fd is not None for half in unsynced):
                bodies = [half.fd for half in unsynced if half.fd is not None]
                self._directory.sync_files([*bodies, *temporaries])
            elif unsynced or fresh:
                self._directory.sync_everything()
        finally:
            for fd in temporaries:
                self._directory.close_file(fd)


def _half_file(exchange: Exchange, side: Side) -> HalfFile:
    stamp = metadata.file_stamp(metadata.half_started(exchange, side))
    prefix = _prefix(exchange, side)
    return HalfFile(
        stamp, exchange.id, side, prefix, "", None, [prefix], len(prefix), digest=hashlib.sha256()
    )


def _prefix(exchange: Exchange, side: Side) -> bytes:
    """What stands in the file before the body."""
    if side is Side.RESPONSE:
        return exchange.response.head if exchange.response else b""
    return exchange.request.head + b"X-Proxy-Path: " + exchange.opening.source_url + b"\r\n\r\n"
