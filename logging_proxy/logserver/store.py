"""
From the events of exchanges to capture files.

`Store` gathers what arrives, writes it when told to `flush`, and with `commit`
publishes the exchanges that have ended: bodies are synced first, in one go,
then the response's metadata get their names, and when those are synced the
request's.  So a metadata file vouches for its `.bin`, and a request's for both.
`settle` makes the metadata durable as well; until then what was committed
must not leave the spool.

An exchange that comes and ends between two commits, as most do, has its files
written whole, each with one open, write and close.

Every half gets a `.bin`, an empty one if no response came: the file reserves
the name.  After an OSError a store is of no use: drop it and restore another
from the last checkpoint.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from logging_proxy.logserver import metadata
from logging_proxy.logserver.assembly import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.logserver.exchanges import Exchange, Side
from logging_proxy.logserver.files import NOT_OURS, PAGE, Found, LogDirectory
from logging_proxy.logserver.metadata import StoredBody

BUFFER_LIMIT = 256 << 10
"""Bytes of one half that wait for the next flush; more are written at once."""

WAITING_LIMIT = 8 << 20
"""Bytes that wait in all halves together; more are written at once."""

KEPT_BODY = 16 << 10
"""Bodies of up to so many bytes are written whole, and given on to the index."""

OPEN_LIMIT = 128
"""Descriptors that a store keeps open; the default RLIMIT_NOFILE is 1024."""

SINGLE_SYNCS = 64
"""Up to so many files are synced one by one, more with one sync of the file system."""

FILE_GONE = "its file was removed or cut while it was being written"

_NO_BYTES = hashlib.sha256().hexdigest()

_REQUEST, _RESPONSE = Side.REQUEST, Side.RESPONSE
"""Looking up a member of an enumeration takes as long as a call."""

_new = tuple.__new__
"""Makes a named tuple without the call of a function in Python."""

Documents = list[tuple["HalfFile", bytes]]
"""Halves and their metadata."""


class HalfFile:
    """A half on its way to its `.bin`.  Without a name until it is written to the first time."""

    __slots__ = (
        "base",
        "body",
        "digest",
        "exchange",
        "fd",
        "gone",
        "prefix",
        "read_back",
        "side",
        "stored",
        "waiting",
        "waiting_size",
        "whole",
        "written",
    )

    def __init__(self, exchange: Exchange, side: Side, prefix: bytes) -> None:
        self.exchange = exchange
        self.side = side
        self.prefix = prefix
        """What stands in the file before the body."""
        self.base = ""
        self.fd: int | None = None
        self.waiting: list[bytes | memoryview] = []
        self.waiting_size = 0
        self.written = 0
        """Bytes of the file, prefix included, that were written by this life or an earlier one."""
        self.digest: Any = None
        """Of the body, in hexadecimal when it is `whole`."""
        self.read_back = False
        """The digest is computed from the file when the half ends: it was begun in an earlier life."""
        self.stored = False
        self.gone = False
        self.whole = False
        """Whether the file was written in one go, and closed again."""
        self.body: bytes | None = None
        """All of the body, if it was written at once and is small."""

    @property
    def stamp(self) -> str:
        return metadata.file_stamp(metadata.half_started(self.exchange, self.side))

    def gathered(self) -> bytes | memoryview:
        """What waits, in one piece."""
        waiting = self.waiting
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    @property
    def content(self) -> bytes | memoryview:
        """What waits, and before it what the file begins with."""
        return self.gathered() if self.written else self.prefix + self.gathered()


class Stored(NamedTuple):
    """An exchange whose files are all there."""

    exchange: Exchange
    request_file: str
    response_file: str
    request_body: bytes | None = None
    response_body: bytes | None = None
    """The bytes of small bodies, so that nobody need read them again."""


class _Finished(NamedTuple):
    exchange: Exchange
    request: HalfFile
    response: HalfFile


class Store:
    """Writes the capture files of one spool's exchanges."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._open: dict[HalfFile, None] = {}
        """Those of exchanges that have not ended."""
        self._unwritten: dict[HalfFile, None] = {}
        self._unsynced: dict[HalfFile, None] = {}
        self._unsynced_names: list[str] = []
        """Files that were written whole."""
        self._descriptors: OrderedDict[HalfFile, None] = OrderedDict()
        self._finished: list[_Finished] = []
        self._waiting = 0
        self._new_names = False
        """Whether files were made whose names may not survive a power loss yet."""
        self._renamed = False
        """The same of names given later: to sync a file keeps only the one that it was made with."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            BodyPiece: self._piece,
            Started: self._started,
            ResponseStarted: self._response_started,
            Ended: self._ended,
        }

    @property
    def finished(self) -> int:
        """Exchanges that wait for `commit`."""
        return len(self._finished)

    @property
    def dirty(self) -> bool:
        return bool(
            self._finished or self._unwritten or self._unsynced or self._unsynced_names or self._new_names
        )

    def handle(self, event: Event) -> None:
        """Takes in one event.  May write, so may raise OSError."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def flush(self) -> None:
        """Writes what waits of exchanges under way, so that readers of the files see it."""
        while self._unwritten:
            half, _ = self._unwritten.popitem()
            self._write(half)

    def commit(self) -> list[Stored]:
        """Publishes the exchanges that have ended."""
        finished = self._finished
        self._complete_all(finished)
        requests: Documents = []
        responses: Documents = []
        for item in finished:
            self._document(item, requests, responses)
        self._publish(requests, responses)
        self._new_names = self._new_names or bool(requests or responses)
        stored = [_stored(*item) for item in finished]
        for exchange, request, response in finished:
            self._release(request)
            self._release(response)
            exchange.request.forget_times()
            if exchange.response is not None:
                exchange.response.forget_times()
        self._finished = []
        return stored

    def settle(self) -> list[Stored]:
        """Commits, and makes all that was written durable, names as well."""
        self.flush()
        stored = self.commit()
        self._sync()
        if self._new_names:
            self._directory.sync_names()
            self._new_names = False
        return stored

    def close(self) -> None:
        """Lets go of all descriptors and names, and of whatever was not committed."""
        for half in self._descriptors:
            self._close_descriptor(half)
        self._descriptors.clear()
        ended = (half for item in self._finished for half in (item.request, item.response))
        for half in (*self._open, *ended):
            self._directory.release(half.base)
        self._open.clear()
        self._finished.clear()

    def preview(self, exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The documents of an exchange that is not published yet, as far as it has come."""
        names = {Side.REQUEST: "", Side.RESPONSE: ""}
        for half in (exchange.request, exchange.response):
            if half is not None and half.file is not None and half.file.base:
                names[half.file.side] = f"{half.file.base}.bin"
        return metadata.preview(exchange, names[Side.REQUEST], names[Side.RESPONSE])

    def finished_exchanges(self) -> list[Exchange]:
        return [item.exchange for item in self._finished]

    # --- checkpoints: the names of the unfinished files

    def checkpoint(self) -> list[list[Any]]:
        """The files of the open exchanges as JSON-able values; only right after `settle`."""
        return [[half.exchange.number, half.side.value, half.base] for half in self._open]

    def restore(self, exchanges: dict[int, Exchange], state: Iterable[list[Any]]) -> None:
        """Takes up the files of `exchanges`.  Raises KeyError, TypeError or ValueError else."""
        for number, side_name, base in state:
            exchange, side = exchanges[number], Side(side_name)
            tracked = exchange.half(side)
            assert tracked is not None
            half = HalfFile(exchange, side, _prefix(exchange, side))
            half.base, half.read_back = base, True
            half.written = len(half.prefix) + tracked.size
            if self._directory.reclaim(base, exchange.id):
                self._found_stored(half)
            tracked.file = half
            self._open[half] = None

    # --- the life of a half

    def _started(self, event: Started) -> None:
        (exchange,) = event
        half = exchange.request.file = HalfFile(exchange, _REQUEST, exchange.opening.prefix)
        self._open[half] = self._unwritten[half] = None

    def _response_started(self, event: ResponseStarted) -> None:
        (exchange,) = event
        response = exchange.response
        assert response is not None
        half = response.file = HalfFile(exchange, _RESPONSE, response.head)
        self._open[half] = self._unwritten[half] = None

    def _piece(self, event: BodyPiece) -> None:
        exchange, side, _, data, _ = event
        tracked = exchange.request if side is _REQUEST else exchange.response
        half: HalfFile = tracked.file  # type: ignore[union-attr]
        size = len(data)
        half.waiting.append(data)
        half.waiting_size += size
        self._waiting += size
        if half.waiting_size > BUFFER_LIMIT:
            self._unwritten.pop(half, None)
            self._write(half)
        else:
            self._unwritten[half] = None
            if self._waiting > WAITING_LIMIT:
                self._write_everything()

    def _write_everything(self) -> None:
        """Also what has ended: its metadata wait for `commit`."""
        self.flush()
        self._complete_all(self._finished)

    def _ended(self, event: Ended) -> None:
        (exchange,) = event
        request: HalfFile = exchange.request.file
        if exchange.response is None:
            response = HalfFile(exchange, _RESPONSE, b"")
        else:
            response = exchange.response.file
            del self._open[response]
            self._unwritten.pop(response, None)
        del self._open[request]
        self._unwritten.pop(request, None)
        self._finished.append(_new(_Finished, (exchange, request, response)))

    def _release(self, half: HalfFile) -> None:
        self._directory.release(half.base)
        if half.fd is not None:
            del self._descriptors[half]
            self._close_descriptor(half)

    # --- files

    def _complete_all(self, finished: list[_Finished]) -> None:
        """All that has ended is in its files afterwards, and the digests are known."""
        for exchange, request, response in finished:
            short = exchange.id[:8]
            self._complete(request, f"_{short}_request")
            self._complete(response, f"_{short}_response")

    def _complete(self, half: HalfFile, suffix: str) -> None:
        if half.base or half.waiting_size > KEPT_BODY:
            if half.waiting or not half.base:
                self._write(half)
            return
        body = bytes(half.gathered())
        content = half.prefix + body
        base = half.stamp + suffix
        if not self._directory.put(base, content):
            self._write(half)
            return
        half.base = base
        half.written = len(content)
        half.whole, half.body = True, body
        half.digest = hashlib.sha256(body).hexdigest() if body else _NO_BYTES
        self._waiting -= half.waiting_size
        half.waiting, half.waiting_size = [], 0
        self._unsynced_names.append(f"{base}.bin")

    def _write(self, half: HalfFile) -> None:
        fd = None if half.stored else self._descriptor(half)
        data, at = half.content, half.written
        half.body = bytes(data[len(half.prefix) :]) if not at and len(data) <= KEPT_BODY else None
        if not half.read_back:
            if half.digest is None:
                half.digest = hashlib.sha256()
            half.digest.update(data if at else memoryview(data)[len(half.prefix) :])
        half.waiting = []
        half.written += len(data)
        self._waiting -= half.waiting_size
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
        claim = self._directory.claim(half.stamp, half.exchange.id, half.side.value, half.prefix)
        half.base, half.fd = claim.base, claim.fd
        self._new_names = True
        if claim.stored:
            self._found_stored(half)

    def _found_stored(self, half: HalfFile) -> None:
        """An earlier life published this half, and may have been killed before it came to sync that."""
        half.stored = self._new_names = self._renamed = True
        self._unsynced_names.append(f"{half.base}_metadata.json")

    # --- committing

    def _document(self, item: _Finished, requests: Documents, responses: Documents) -> None:
        """Adds the metadata of the halves that are not published yet."""
        exchange, request, response = item
        asked = _stored_body(request, self._digest_of(request))
        answered = _stored_body(response, self._digest_of(response))
        if request.gone or response.gone:
            exchange.mark_damaged(FILE_GONE)
        request_text, response_text = metadata.texts(exchange, asked, answered)
        if not request.stored:
            requests.append((request, request_text.encode("ascii")))
        if not response.stored:
            responses.append((response, response_text.encode("ascii")))

    def _digest_of(self, half: HalfFile) -> str:
        if half.whole:
            return half.digest  # type: ignore[no-any-return]
        if half.read_back:
            self._digest_file(half)
        return _NO_BYTES if half.digest is None else str(half.digest.hexdigest())

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

    def _publish(self, requests: Documents, responses: Documents) -> None:
        """
        Puts on disk all that was written, then gives the metadata their names.

        A request's metadata tell how the whole exchange ended, so they come when those
        of its response are on disk: a power cut may keep what is not synced in any order.
        """
        for half, text in (*requests, *responses):
            if len(text) > PAGE:
                self._write_temporary(half, text)
        for documents in (responses, requests):
            self._sync()
            if self._renamed:
                self._directory.sync_names()
                self._renamed = False
            for half, text in documents:
                self._name_metadata(half, text)
        self._renamed = False

    def _name_metadata(self, half: HalfFile, text: bytes) -> None:
        name = f"{half.base}_metadata.json"
        if len(text) > PAGE:
            self._rename(half)
        elif self._directory.put_file(name, text):
            self._unsynced_names.append(name)
        else:
            self._settle_clash(half, text)

    def _rename(self, half: HalfFile) -> None:
        self._directory.publish(half.base, half.exchange.id)
        self._renamed = True

    def _write_temporary(self, half: HalfFile, text: bytes) -> None:
        self._unsynced_names.append(self._directory.write_temporary(half.base, half.exchange.id, text))

    def _sync(self) -> None:
        halves, self._unsynced = self._unsynced, {}
        names, self._unsynced_names = self._unsynced_names, []
        names += [f"{half.base}.bin" for half in halves if half.fd is None]
        fds = [half.fd for half in halves if half.fd is not None]
        if len(fds) + len(names) > SINGLE_SYNCS:
            self._directory.sync_everything()
        else:
            self._directory.sync_files(fds)
            self._directory.sync_named(names)

    def _settle_clash(self, half: HalfFile, text: bytes) -> None:
        """There is something where the metadata of `half` are to be."""
        found = self._directory.found_at(half.base, half.exchange.id)
        if found is Found.OURS:
            # Published in an earlier life, and its bytes deleted since: nobody misses them.
            if half.whole:
                self._directory.withdraw(half.base)
            self._found_stored(half)
            return
        if found is Found.FOREIGN and half.whole:
            text = self._take_another_name(half)
        if not half.stored:
            self._write_temporary(half, text)
            self._sync()
            self._rename(half)

    def _take_another_name(self, half: HalfFile) -> bytes:
        """Moves a half that was written whole and whose name is taken; its metadata."""
        self._directory.withdraw(half.base)
        half.base, half.written, half.digest, half.whole = "", 0, None, False
        half.waiting = [half.body or b""]
        self._write(half)
        stored = _stored_body(half, self._digest_of(half))
        texts = metadata.texts(half.exchange, stored, stored)
        return texts[0 if half.side is _REQUEST else 1].encode("ascii")


def _prefix(exchange: Exchange, side: Side) -> bytes:
    """What stands in the file before the body."""
    if side is _REQUEST:
        return exchange.opening.prefix
    return exchange.response.head if exchange.response else b""


def _stored_body(half: HalfFile, digest: str) -> StoredBody:
    return _new(StoredBody, (f"{half.base}.bin", digest))


def _stored(exchange: Exchange, request: HalfFile, response: HalfFile) -> Stored:
    files = f"{request.base}.bin", f"{response.base}.bin"
    return _new(Stored, (exchange, *files, request.body, response.body))
