"""
From the events of exchanges to capture files.

`FileWriter` buffers bytes, writes them on `flush`, and publishes the ended exchanges on `commit`.  `settle`
makes the metadata durable as well; until then the spool must keep the exchanges.

After an OSError a writer must not be used again: restore another one from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from logging_proxy.captures import metadata
from logging_proxy.captures.events import BodyPiece, Ended, Event, ResponseStarted, Started
from logging_proxy.captures.exchanges import Exchange, Half, Side, snapshot
from logging_proxy.captures.stored import Stored
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.halves import Finished, HalfFile
from logging_proxy.logserver.store.protocol import Preview
from logging_proxy.logserver.store.publishing import Publisher

BUFFER_LIMIT = 256 << 10
"""The most bytes of one half in the buffer; beyond it they are written immediately."""

WAITING_LIMIT = 8 << 20
"""The most bytes of all halves in the buffer; beyond it they are written immediately."""

_REQUEST, _RESPONSE = Side.REQUEST, Side.RESPONSE
"""Module constants, because access to an enum member costs as much as a function call."""

_new = tuple.__new__
"""Makes a named tuple without a call of a Python function; this is a hot path."""


class FileWriter:
    """Writes the capture files of one spool's exchanges; see `CaptureWriter`."""

    def __init__(self, directory: LogDirectory) -> None:
        self._publisher = Publisher(directory)
        self._open: dict[HalfFile, None] = {}
        """The halves of exchanges that have not ended."""
        self._unwritten: dict[HalfFile, None] = {}
        self._finished: list[Finished] = []
        self._waiting = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            BodyPiece: self._piece,
            Started: self._started,
            ResponseStarted: self._response_started,
            Ended: self._ended,
        }

    @property
    def finished(self) -> int:
        """The number of exchanges that wait for `commit`."""
        return len(self._finished)

    @property
    def dirty(self) -> bool:
        return bool(self._finished or self._unwritten or self._publisher.dirty)

    def handle(self, event: Event) -> None:
        """Takes in one event.  May write, and so raise OSError."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def flush(self) -> None:
        """Writes the buffered bytes of open exchanges, so that readers of the files see them."""
        publisher = self._publisher
        while self._unwritten:
            half, _ = self._unwritten.popitem()
            self._waiting -= half.waiting_size
            publisher.write(half)

    def commit(self) -> list[Stored]:
        """Publishes the exchanges that have ended."""
        finished, publisher = self._finished, self._publisher
        self._waiting -= publisher.complete_all(finished)
        publisher.publish(finished)
        stored = [_stored(*item) for item in finished]
        for exchange, request, response in finished:
            publisher.release(request)
            publisher.release(response)
            exchange.request.forget_times()
            if exchange.response is not None:
                exchange.response.forget_times()
        self._finished = []
        return stored

    def settle(self) -> list[Stored]:
        """Commits, and makes durable all files and their names."""
        self.flush()
        stored = self.commit()
        self._publisher.settle()
        return stored

    def close(self) -> None:
        """Releases all descriptors and names, and drops what was not committed."""
        ended = (half for item in self._finished for half in (item.request, item.response))
        self._publisher.close((*self._open, *ended))
        self._open.clear()
        self._finished.clear()

    def preview(self, exchange: Exchange) -> Preview:
        """
        The metadata so far of an exchange that is not published yet.

        It is made in another thread, because with many pieces it takes long.
        """
        names = {Side.REQUEST: "", Side.RESPONSE: ""}
        for half in (exchange.request, exchange.response):
            if half is not None and isinstance(half.file, HalfFile) and half.file.base:
                names[half.file.side] = f"{half.file.base}.bin"
        now = snapshot(exchange)
        return partial(metadata.preview, now, names[Side.REQUEST], names[Side.RESPONSE])

    def finished_exchanges(self) -> list[Exchange]:
        return [item.exchange for item in self._finished]

    # --- checkpoints: the names of the unfinished files

    def checkpoint(self) -> list[list[Any]]:
        """The files of the open exchanges as JSON values; only right after `settle`."""
        return [[half.exchange.number, half.side.value, half.base] for half in self._open]

    def restore(self, exchanges: dict[int, Exchange], state: Iterable[list[Any]]) -> None:
        """Restores the files of `exchanges`.  Raises KeyError, TypeError or ValueError for other values."""
        for number, side_name, base in state:
            exchange, side = exchanges[number], Side(side_name)
            tracked = exchange.half(side)
            assert tracked is not None
            half = HalfFile(exchange, side, _prefix(exchange, side))
            half.base, half.read_back = base, True
            half.written = len(half.prefix) + tracked.size
            self._publisher.take_up(half)
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
        half = _file_of(tracked)
        size = len(data)
        half.waiting.append(data)
        half.waiting_size += size
        self._waiting += size
        if half.waiting_size > BUFFER_LIMIT:
            self._unwritten.pop(half, None)
            self._waiting -= half.waiting_size
            self._publisher.write(half)
        else:
            self._unwritten[half] = None
            if self._waiting > WAITING_LIMIT:
                self._write_everything()

    def _write_everything(self) -> None:
        """Writes all buffered bytes, those of ended exchanges included; their metadata wait for `commit`."""
        self.flush()
        self._waiting -= self._publisher.complete_all(self._finished)

    def _ended(self, event: Ended) -> None:
        (exchange,) = event
        request = _file_of(exchange.request)
        if exchange.response is None:
            response = HalfFile(exchange, _RESPONSE, b"")
        else:
            response = _file_of(exchange.response)
            del self._open[response]
            self._unwritten.pop(response, None)
        del self._open[request]
        self._unwritten.pop(request, None)
        self._finished.append(_new(Finished, (exchange, request, response)))


def _file_of(half: Half | None) -> HalfFile:
    """The state of a half that has been started."""
    assert half is not None and isinstance(half.file, HalfFile)
    return half.file


def _prefix(exchange: Exchange, side: Side) -> bytes:
    """The bytes in the file before the body."""
    if side is _REQUEST:
        return exchange.opening.prefix
    return exchange.response.head if exchange.response else b""


def _stored(exchange: Exchange, request: HalfFile, response: HalfFile) -> Stored:
    files = f"{request.base}.bin", f"{response.base}.bin"
    replayed = request.stored and response.stored
    return _new(Stored, (exchange, *files, request.body, response.body, replayed))
