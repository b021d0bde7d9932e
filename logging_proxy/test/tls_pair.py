"""TLS between two ends in memory, pumped by the test."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IHandshakeListener)
class End(Protocol):
    """One end: what it heard, whether the handshake is done, why it is over."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.secure = False
        self.lost: Failure | None = None

    def handshakeCompleted(self) -> None:
        self.secure = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Wire(StringTransport):
    """Knows when it was closed."""

    closed = False

    def loseConnection(self) -> None:
        self.closed = True

    def abortConnection(self) -> None:
        self.closed = True


class _Only(Factory):
    def __init__(self, end: End) -> None:
        self._end = end

    def buildProtocol(self, addr: object) -> End:
        return self._end


class HandshakePolicy:
    """What a listener has for who does not shake hands: ten seconds, and a word in clear."""

    handshake_timeout = 10.0

    def refuse_plain(self, transport: Any, data: bytes) -> None:
        transport.write(b"in clear")


class Pair:
    """
    A client and a server that shake hands.

    `client_wire` and `server_wire` are all bytes that each has sent, as a listener in between would see them.
    """

    def __init__(self, client_creator: Any, server_creator: Any) -> None:
        self.clock = Clock()
        self.client, self.server = End(), End()
        self.client_wire = self.server_wire = b""
        self._tls: list[Any] = []
        self._wires = [Wire(), Wire()]
        for creator, end, is_client, wire in (
            (client_creator, self.client, True, self._wires[0]),
            (server_creator, self.server, False, self._wires[1]),
        ):
            factory = _Only(end)
            if not is_client and hasattr(creator, "wrap"):
                wrapped = creator.wrap(factory, HandshakePolicy(), self.clock)
            else:
                wrapped = TLSMemoryBIOFactory(creator, is_client, factory, self.clock)
            protocol: Any = wrapped.buildProtocol(None)
            self._tls.append(protocol)
            protocol.makeConnection(wire)
        self.pump()

    def pump(self) -> None:
        """Carry bytes to and fro until there are none; then tell who was left."""
        while True:
            self.clock.advance(0)
            moved = [wire.value() for wire in self._wires]
            for wire in self._wires:
                wire.clear()
            if not any(moved):
                break
            self.client_wire += moved[0]
            self.server_wire += moved[1]
            for data, protocol in zip(moved, reversed(self._tls), strict=True):
                if data:
                    protocol.dataReceived(data)
        if any(wire.closed for wire in self._wires):
            for protocol, end in zip(self._tls, (self.client, self.server), strict=True):
                if end.lost is None:
                    protocol.connectionLost(Failure(connectionDone.value))

    def say(self, end: End, data: bytes) -> None:
        end.transport.write(data)
        self.pump()

    @property
    def connection(self) -> SSL.Connection:
        """The client's."""
        connection: SSL.Connection = self._tls[0].getHandle()
        return connection
