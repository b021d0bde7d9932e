"""
Peers on asyncio, as many as a test wants: upstreams that do what a script says, clients that read strictly.

They see and send exact bytes; what a peer does wrong is written in the test that makes it do so.
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
"""Seconds after which a peer that waits gives up: every test ends."""

LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived, with its whole body."""

    method: str
    target: str
    body: bytes


class Connection:
    """One side's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send all of `data`, as fast as the peer takes it."""
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """FIN, behind what was sent."""
        self.writer.close()

    def reset(self) -> None:
        """RST; what the peer has not received yet is gone."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def drop(self) -> None:
        """Close the socket at once: over TLS, without close_notify."""
        self.writer.transport.abort()

    async def left(self) -> None:
        """Returns when the peer has left, however it did."""
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass


Script = Callable[[Request, Connection], Awaitable[None]]
Read = Callable[[asyncio.StreamReader], Awaitable[Request | None]]


class Upstream:
    """Answers each request by a script, while the context is entered."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, read: Read | None = None) -> None:
        """`read` is how requests are read: whole, if nothing is said."""
        self._script = script
        self._tls = tls
        self._read = read or read_request
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many were ever made."""
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
            pass  # The other side has left, or the test is over.
        finally:
            self._tasks.discard(task)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the peer has left instead."""
    return await _read_request(reader, True)


async def read_request_head(reader: asyncio.StreamReader) -> Request | None:
    """The next request's head, and nothing of its body; None when the peer has left instead."""
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
    """A head's fields, names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


# --- clients ------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """A response, as far as it came."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """Whether it ended as its framing says."""

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again."""
        return self.whole and self.fields.get("connection", "").lower() != "close"


async def connect(port: int, receive_buffer: int = 0) -> Connection:
    """A connection to the proxy; raises OSError."""
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
    """A request's bytes."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return (
        "\r\n".join([f"{method} {path} HTTP/1.1", "Host: proxy.test", *lines, *length, "", ""]).encode()
        + body
    )


async def ask(connection: Connection, data: bytes, answer: Answer | None = None) -> Answer:
    """Send a request's bytes and read the answer, into `answer` as it comes; never raises OSError."""
    answer = Answer() if answer is None else answer
    try:
        await connection.send(data)
        async with asyncio.timeout(PATIENCE):  # wait_for of Python 3.11 may swallow a cancellation
            await read_answer(connection.reader, answer)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass  # It shows in `whole`.
    return answer


async def call(port: int, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    """A request on a connection of its own, and its answer; status 0 if there is no connection."""
    try:
        connection = await connect(port)
    except OSError:
        return Answer()
    try:
        return await ask(connection, request(method, path, *lines, body=body))
    finally:
        connection.close()


async def read_answer(reader: asyncio.StreamReader, answer: Answer) -> None:
    """Read one response; raises IncompleteReadError or OSError when it is cut."""
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
    """A whole response with a length."""
    return head(*lines, f"Content-Length: {len(body)}") + body


def head(*lines: str) -> bytes:
    """The head of a response."""
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding; the last one if empty."""
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = "Transfer-Encoding: chunked"
EVENTS = "Content-Type: text/event-stream"
