"""For the engine's tests: clients in memory, and resources whose requests the test answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from logging_proxy.http.bodies import Piece
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeRoot
from logging_proxy.http.resources import answer_fault
from logging_proxy.http.server import ServerConnection, ServerLimits, Site

GET = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WALL = 1_700_000_000.0
"""The wall clock, which is not the clock that waits are told by."""


class Pending:
    """A request that waits for the test to answer it."""

    def __init__(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> None:
        self.connection = connection
        self.head = head
        self.content = piece.content
        self.framed = piece.framed
        self.done = piece.last
        self.trailers = piece.trailers
        self.lost: list[Failure] = []
        self.refused = 0
        """The status of the fault that the body had."""
        self.kept = b""
        self.begun = False
        """Whether the test has begun to answer."""

    def bodyReceived(self, piece: Piece) -> None:
        assert not self.done, "more of a body that was complete"
        self.content += piece.content
        self.framed += piece.framed
        self.done = piece.last
        self.trailers = piece.trailers

    def read_buffer(self, most: int) -> memoryview | None:
        return None

    def fast_path(self, *of: object) -> None: ...

    def requestRefused(self, fault: RequestFault, kept: bytes) -> None:
        self.refused, self.kept = fault.status, kept
        if self.begun:
            self.connection.abort()
        else:
            answer_fault(self.connection, fault, self.connection.site.wall_seconds())

    def clientLost(self, reason: Failure) -> None:
        self.lost.append(reason)

    def begin(self, data: bytes) -> None:
        self.begun = True
        self.connection.send(data)

    def answer(self, data: bytes = OK, keep_alive: bool = True) -> None:
        self.connection.send(data)
        self.connection.finish(keep_alive)


@implementer(IExchangeRoot)
class Desk(Resource):
    """Keeps the requests it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Pending] = []
        self.refused: list[bytes] = []
        """The bytes of malformed requests."""

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> Pending | None:
        pending = self.take(Pending(connection, head, piece))
        self.pending.append(pending)
        return pending

    def refuse(self, connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        self.refused.append(kept)
        answer_fault(connection, fault, connection.site.wall_seconds())

    def take(self, pending: Pending) -> Pending:
        return pending


class Prompt(Pending):
    """Answers with the target, a colon and the body as soon as the body is complete."""

    def bodyReceived(self, piece: Piece) -> None:
        super().bodyReceived(piece)
        if piece.last:
            self.answer_now()

    def answer_now(self) -> None:
        connection, body = self.connection, self.head.target + b":" + self.content
        keep = connection.may_keep_alive
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
        self.answer(head + (b"" if keep else b"Connection: close\r\n") + b"\r\n" + body, keep)


class PromptDesk(Desk):
    """Answers inside `respond`, if the body is there."""

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> Pending | None:
        prompt = Prompt(connection, head, piece)
        if not piece.last:
            return prompt
        prompt.answer_now()
        return None


class WireTransport(StringTransport):
    """Keeps the sent bytes, and supports half-close and abort."""

    half_closed = False
    protocol: Any = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True


class SlowTransport(FileDescriptor):
    """A transport with Twisted's own queue whose peer reads only when the test lets it."""

    def __init__(self) -> None:
        super().__init__(reactor=_NoReactor())  # type: ignore[arg-type]
        self.connected = 1
        self.sent = b""
        self.room = 0
        self.reading = True
        self.half_closed = False
        self.protocol: Any = None

    def writeSomeData(self, data: bytes) -> int:
        taken = bytes(data[: self.room])
        self.sent += taken
        self.room -= len(taken)
        return len(taken)

    def drain(self, room: int) -> None:
        """The peer reads `room` bytes."""
        self.room = room
        while self.room and (self.dataBuffer or self._tempDataBuffer) and not self.disconnected:
            self._finish(self.doWrite())
        if not self.disconnected and not (self.dataBuffer or self._tempDataBuffer):
            self._finish(self.doWrite())

    def _finish(self, why: Exception | None) -> None:
        if why is not None:
            self.connectionLost(Failure(why))

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.protocol.connectionLost(reason)

    def abortConnection(self) -> None:
        self.connectionLost(Failure(ConnectionAborted()))

    def _closeWriteConnection(self) -> None:
        self.half_closed = True
        self.protocol.writeConnectionLost()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def getPeer(self) -> None:
        return None

    getHost = getPeer


class _NoReactor:
    def addReader(self, reader: object) -> None: ...

    removeReader = addWriter = removeWriter = addReader


class Client:
    """A client's end of one connection to a site."""

    def __init__(
        self,
        root: IResource,
        limits: ServerLimits | None = None,
        clock: Clock | None = None,
        transport: Any = None,
    ) -> None:
        self.clock = clock or Clock()
        self.transport = transport or WireTransport()
        self.site = Site(root, self.clock, limits or ServerLimits(), wall_seconds=lambda: WALL)
        self.connection = self.site.buildProtocol(None)
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """The client sends `data`, and then nothing for a while, so that a fault in it is judged."""
        self.connection.dataReceived(data)
        self.turn()

    def turn(self) -> None:
        self.clock.advance(0)
        if self.connection._gathering is not None:
            self.connection._gathering.finish()
            self.clock.advance(0)

    def send_bytewise(self, data: bytes) -> None:
        for at in range(len(data)):
            if self.ended:
                break
            self.send(data[at : at + 1])

    def send_pieces(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if piece and not self.ended:
                self.send(piece)

    def read(self) -> bytes:
        """The bytes sent to the client since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def wait(self, seconds: float) -> None:
        """Let time pass in the steps of a reactor that has other things to do."""
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def leave(self) -> None:
        """Close the connection."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))

    @property
    def ended(self) -> bool:
        """Whether the server has begun to end the connection, one way or other."""
        transport = self.transport
        return bool(transport.half_closed or transport.disconnecting or self.aborted)

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)

    @property
    def half_closed(self) -> bool:
        return bool(self.transport.half_closed)

    @property
    def aborted(self) -> bool:
        return bool(getattr(self.transport, "disconnected", False))
