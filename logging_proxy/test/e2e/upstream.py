"""
A scripted upstream: it reads requests strictly and answers with the exact bytes that a test wants.

Each connection has a thread, for these tests are about processes and sockets, not about speed.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

import h11

TIMEOUT = 60.0
"""Seconds: a test that hangs ends with an error, not with the suite."""


class End(enum.Enum):
    """How a script ends its connection."""

    CLOSE = "FIN"
    RESET = "RST"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    """In the order and the case of the wire."""
    body: bytes
    """Without transfer coding; empty where the script answers before the body."""
    trailers: list[tuple[bytes, bytes]]
    raw: bytes
    """The request's bytes."""


Step = bytes | float | End
"""Bytes to send, seconds to wait, or an end of the connection."""

Script = Callable[[Received], Iterable[Step]]


class Upstream:
    """
    Listens on 127.0.0.1 while the context is entered.

    `scripts` answer whole requests, `early` those whose body has not been read yet, by the target's
    path.  What arrived is in `received`.
    """

    def __init__(self, scripts: Mapping[str, Script], early: Mapping[str, Script] | None = None) -> None:
        self._scripts = scripts
        self._early = early or {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.received: list[Received] = []
        self.failures: list[Exception] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Upstream:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread inside accept keeps a closed socket's port open on Linux; shutdown wakes it.
        _shut(self._listener)
        with self._lock:
            for connection in self._connections:
                _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        reader = Reader(connection)
        try:
            with connection:
                while self._exchange(connection, reader):
                    pass
        except OSError:
            pass  # The other side left, which is what many tests make it do.
        except h11.RemoteProtocolError as error:
            self.failures.append(error)
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _exchange(self, connection: socket.socket, reader: Reader) -> bool:
        """Serve one request; whether another may follow."""
        request = reader.head()
        if request is None:
            return False
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        early = self._early.get(path)
        if early is not None and not perform(connection, early(reader.so_far())):
            return False
        reader.rest()
        received = reader.so_far()
        with self._lock:
            self.received.append(received)
        if early is None and not perform(connection, self._scripts.get(path, not_scripted)(received)):
            return False
        reader.next_cycle()
        return True


class Reader:
    """The requests of a connection, read with h11, which refuses what is not well-formed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._start(b"")

    def _start(self, raw: bytes) -> None:
        self._parser = h11.Connection(h11.SERVER)
        self._raw = bytearray(raw)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._trailers: list[tuple[bytes, bytes]] = []
        if raw:
            self._parser.receive_data(raw)

    def head(self) -> h11.Request | None:
        """The next request's head; None if the client left instead."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._request = event
            return event
        return None

    def rest(self) -> None:
        """Read the request's body and trailers."""
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._trailers = event.headers.raw_items()
                return
            else:
                raise h11.RemoteProtocolError("the connection ended inside a request's body")

    def so_far(self) -> Received:
        """The request, as much of it as was read."""
        assert self._request is not None
        raw = self._raw[: len(self._raw) - len(self._parser.trailing_data[0])]
        headers = self._request.headers.raw_items()
        return Received(
            self._request.method, self._request.target, headers, bytes(self._body), self._trailers, bytes(raw)
        )

    def next_cycle(self) -> None:
        """Go on to the next request."""
        self._start(self._parser.trailing_data[0])

    def _next_event(self) -> object:
        while True:
            event = self._parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = self._connection.recv(65536)
            self._raw += data
            self._parser.receive_data(data)


def perform(connection: socket.socket, steps: Iterable[Step]) -> bool:
    """Carry out a script; whether the connection is still open after it."""
    for step in steps:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, End):
            _end(connection, step)
            return False
        else:
            time.sleep(step)
    return True


def _end(connection: socket.socket, how: End) -> None:
    if how is End.RESET:
        # Lingering for no time turns close into an RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    else:
        connection.shutdown(socket.SHUT_RDWR)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


# --- scripts ---------------------------------------------------------------------


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response with a length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", b""]
    return b"\r\n".join(lines) + body


def not_scripted(request: Received) -> Iterable[Step]:
    """What answers a path without a script."""
    yield answer(b"no script for " + request.target, status=b"404 Not Found")


def echo(request: Received) -> Iterable[Step]:
    """The request's body, as the response's."""
    yield answer(request.body, b"Content-Type: application/octet-stream")


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(pieces: Iterable[bytes], *headers: bytes, gap: float = 0.0, trailers: bytes = b"") -> Script:
    """A script that sends `pieces` as chunks, with `gap` seconds before each."""

    def script(request: Received) -> Iterable[Step]:
        yield b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"Transfer-Encoding: chunked", b"", b""])
        for piece in pieces:
            if gap:
                yield gap
            yield chunk(piece)
        yield b"0\r\n" + trailers + b"\r\n"

    return script


def event(tag: str, number: int) -> bytes:
    """A server-sent event."""
    return f'data: {{"tag":"{tag}","number":{number}}}\n\n'.encode()


def events(count: int, gap: float, go_on: threading.Event | None = None) -> Script:
    """
    A script that sends `count` events, which carry the query of the request's target as their tag.

    After the first event it waits for `go_on`, if that is given.
    """

    def pieces(tag: str) -> Iterable[bytes]:
        for number in range(count):
            if number == 1 and go_on is not None:
                go_on.wait(TIMEOUT)
            yield event(tag, number)

    def script(request: Received) -> Iterable[Step]:
        tag = request.target.partition(b"?")[2].decode()
        return chunked(pieces(tag), b"Content-Type: text/event-stream", gap=gap)(request)

    return script
