"""
Peers on asyncio: scripted upstreams, and clients that parse strictly.

They send and receive exact bytes; the test itself contains the misbehaviour.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

HOST = "127.0.0.1"
PATIENCE = 60.0
"""Seconds after which a waiting peer gives up, so that every test ends."""

LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A received request with its whole body."""

    method: str
    target: str
    body: bytes


class Connection:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send all of `data`, waiting for the peer where necessary."""
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """Close with a FIN after the sent data."""
        self.writer.close()

    def reset(self) -> None:
        """Close with an RST, which discards undelivered data."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def drop(self) -> None:
        """Close the socket at once: over TLS, without close_notify."""
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the peer has disconnected in any way."""
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass


Script = Callable[[Request, Connection], Awaitable[None]]
Read = Callable[[asyncio.StreamReader], Awaitable[Request | None]]


class Upstream:
    """A server that answers each request with a script while the context is entered."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, read: Read | None = None) -> None:
        """`read` reads requests; by default with their whole bodies."""
        self._script = script
        self._tls = tls
        self._read = read or read_request
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """The number of connections ever accepted."""
        self.port = 0

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(
            self._serve, HOST, 0, backlog=2048, ssl=self._tls, limit=LIMIT
        )
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
        return f"http{'s' if self._tls else ''}://{'localhost' if self._tls else HOST}:{self.port}/"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection = Connection(reader, writer)
        try:
            while not writer.is_closing() and (request := await self._read(reader)) is not None:
                await self._script(request, connection)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The peer has disconnected, or the test is over.
        finally:
            self._tasks.discard(task)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None if the peer has disconnected."""
    return await _read_request(reader, True)


async def read_request_head(reader: asyncio.StreamReader) -> Request | None:
    """The next request's head without its body; None if the peer has disconnected."""
    return await _read_request(reader, False)


async def _read_request(reader: asyncio.StreamReader, whole: bool) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    length = int(fields(head).get("content-length", "0")) if whole else 0
    return Request(method, target, await reader.readexactly(length))


def fields(head: bytes) -> dict[str, str]:
    """The fields of a head by lower-case name."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


# --- clients ------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """A response, as far as it was received."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """Whether it ended as its framing says."""

    @property
    def keeps(self) -> bool:
        """Whether the connection can be reused."""
        return self.whole and self.fields.get("connection", "").lower() != "close"


async def connect(port: int, receive_buffer: int = 0) -> Connection:
    """Connect to the proxy.  Raises OSError."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
    except BaseException:
        sock.close()
        raise
    limit = receive_buffer or LIMIT
    return Connection(*await asyncio.open_connection(sock=sock, limit=limit))


def request(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return (
        "\r\n".join([f"{method} {path} HTTP/1.1", "Host: proxy.test", *lines, *length, "", ""]).encode()
        + body
    )


async def ask(connection: Connection, data: bytes, answer: Answer | None = None) -> Answer:
    """Send a request and read the response into `answer` as it arrives.  Never raises OSError."""
    answer = Answer() if answer is None else answer
    try:
        await connection.send(data)
        async with asyncio.timeout(PATIENCE):  # wait_for of Python 3.11 may swallow a cancellation
            await read_answer(connection.reader, answer)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass  # It shows in `whole`.
    return answer


async def call(port: int, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    """Make a request on a new connection; the answer has status 0 if connecting fails."""
    try:
        connection = await connect(port)
    except OSError:
        return Answer()
    try:
        return await ask(connection, request(method, path, *lines, body=body))
    finally:
        connection.close()


async def read_answer(reader: asyncio.StreamReader, answer: Answer) -> None:
    """Read one response.  Raises IncompleteReadError or OSError if it is truncated."""
    head = await reader.readuntil(b"\r\n\r\n")
    answer.status, answer.fields = int(head[9:12]), fields(head)
    if answer.fields.get("transfer-encoding") == "chunked":
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            await _read_body(reader, answer, size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    else:
        await _read_body(reader, answer, int(answer.fields["content-length"]))
    answer.whole = True


async def _read_body(reader: asyncio.StreamReader, answer: Answer, size: int) -> None:
    while size:
        piece = await reader.read(min(size, 65536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        answer.body += piece
        size -= len(piece)


# --- answers ------------------------------------------------------------------------


def response(body: bytes, *lines: str) -> bytes:
    """A complete response with a Content-Length."""
    return head(*lines, f"Content-Length: {len(body)}") + body


def head(*lines: str) -> bytes:
    """The head of a response."""
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """A chunk of the chunked coding; the last chunk if `data` is empty."""
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = "Transfer-Encoding: chunked"
EVENTS = "Content-Type: text/event-stream"
