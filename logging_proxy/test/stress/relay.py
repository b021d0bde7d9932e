"""
A relay that simulates a bad network, like a small Toxiproxy.

It relays bytes between its clients and a port of this machine.  A `Toxics` for each direction says what it
does to them; it may be replaced at any time and applies from the next piece on.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from logging_proxy.test.stress.peers import HOST, Connection

PIECE = 65536


@dataclass(frozen=True, slots=True)
class Toxics:
    """The faults of one direction.  Times are in seconds; None and 0 disable a fault."""

    latency: float = 0
    """Delay of each piece."""
    bandwidth: float = 0
    """Maximum bytes a second."""
    slow_close: float = 0
    """Delay of the end of the data."""
    timeout: float | None = None
    """Drop all data, and close the connection after this time."""
    reset_peer: float | None = None
    """Reset both sides this long after the first piece."""
    slicer: int = 0
    """Send pieces of at most this many bytes."""
    limit_data: int | None = None
    """Close the connection after this many bytes."""


HEALTHY = Toxics()


class Relay:
    """A relay to a port while the context is entered; `onward` is towards that port, `back` from it."""

    def __init__(self, target: int) -> None:
        self.onward = HEALTHY
        self.back = HEALTHY
        self.port = 0
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, HOST, 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        near = Connection(reader, writer)
        try:
            far = Connection(*await asyncio.open_connection(HOST, self._target))
        except OSError:
            near.reset()
            self._tasks.discard(task)
            return
        try:
            await asyncio.gather(self._pass(near, far, "onward"), self._pass(far, near, "back"))
        except OSError:
            _end(near, far, reset=True)
        except (asyncio.CancelledError, EOFError):
            _end(near, far, reset=False)
        finally:
            self._tasks.discard(task)

    async def _pass(self, source: Connection, sink: Connection, direction: str) -> None:
        """Relay one direction to its end.  OSError requests a reset of both sides, EOFError their close."""
        passed, began = 0, None
        while data := await source.reader.read(PIECE):
            began = began or time.monotonic()
            toxics: Toxics = getattr(self, direction)
            if toxics.timeout is not None:
                await asyncio.sleep(toxics.timeout)
                raise EOFError
            if toxics.limit_data is not None:
                data = data[: toxics.limit_data - passed]
            await _send(sink, data, toxics, began)
            passed += len(data)
            if toxics.limit_data is not None and passed >= toxics.limit_data:
                raise EOFError
        await asyncio.sleep(getattr(self, direction).slow_close)
        sink.writer.write_eof()


async def _send(sink: Connection, data: bytes, toxics: Toxics, began: float) -> None:
    await asyncio.sleep(toxics.latency)
    size = toxics.slicer or len(data)
    if toxics.bandwidth:
        size = max(1, min(size, int(toxics.bandwidth / 20)))
    for start in range(0, len(data), size):
        if toxics.reset_peer is not None and time.monotonic() - began >= toxics.reset_peer:
            raise ConnectionResetError
        piece = data[start : start + size]
        await sink.send(piece)
        if toxics.bandwidth:
            await asyncio.sleep(len(piece) / toxics.bandwidth)
        elif toxics.slicer:
            await asyncio.sleep(0)


def _end(*connections: Connection, reset: bool) -> None:
    for connection in connections:
        with suppress(OSError):  # It may be closed already.
            connection.reset() if reset else connection.close()
