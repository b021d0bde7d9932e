"""Connections to a TLS listener until their handshake is complete."""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet import error, protocol
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.tls.reasons import trouble_with_client

MOST_FAILURES, PERIOD = 10, 60.0
"""How many failed handshakes are logged, and in how many seconds: any client can cause them."""


class HandshakePolicy(Protocol):
    """How a listener treats connections without a complete handshake."""

    @property
    def handshake_timeout(self) -> float:
        """Seconds that a handshake may take, from the start of the connection."""

    def refuse_plain(self, transport: Any, data: bytes) -> None:
        """Answer a client that has sent `data`, plain HTTP, on `transport` that TLS is expected here."""


class HandshakeFactory(TLSMemoryBIOFactory):
    """
    Puts TLS in front of the protocols of `inner`, for incoming connections.

    Handshakes have a deadline, and failed ones are logged.
    """

    def __init__(
        self,
        creator: IOpenSSLServerConnectionCreator,
        inner: IProtocolFactory,
        policy: HandshakePolicy,
        clock: IReactorTime,
    ) -> None:
        super().__init__(creator, False, inner, clock)
        self.policy = policy
        self.clock = clock
        self.failures = FailureLog(clock)

    def buildProtocol(self, addr: IAddress | None) -> _HandshakeTransport:
        return _HandshakeTransport(self, self.wrappedFactory.buildProtocol(addr))


class _HandshakeTransport(BufferingTLSTransport):
    """The TLS layer of one connection; the first bytes tell whether the client speaks TLS at all."""

    factory: HandshakeFactory

    def __init__(self, factory: HandshakeFactory, inner: Any) -> None:
        self._handshake = _Handshake(inner)
        super().__init__(factory, self._handshake)
        self.heard = False
        self.dataReceived = self._first_bytes  # type: ignore[method-assign]

    def _first_bytes(self, data: bytes) -> None:
        self.heard = True
        del self.dataReceived
        if data[:1].isalpha():  # an HTTP method; a handshake begins with 0x16
            self._go_on_in_clear(data)
        else:
            self.dataReceived(data)  # type: ignore[no-untyped-call]

    def _go_on_in_clear(self, data: bytes) -> None:
        below = self.transport
        self._handshake.withdraw()
        self.factory.unregisterProtocol(self)  # type: ignore[no-untyped-call]
        self.factory.failures.log(below, "the client speaks plain HTTP")
        self.factory.policy.refuse_plain(below, data)


@implementer(IHandshakeListener)
class _Handshake(protocol.Protocol):
    """Takes the place of `inner` until the handshake is complete."""

    transport: Any

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._deadline: IDelayedCall | None = None
        self._why = ""

    def makeConnection(self, transport: ITransport) -> None:
        super().makeConnection(transport)  # type: ignore[no-untyped-call]
        self._inner.makeConnection(transport)
        factory = self.transport.factory
        seconds = factory.policy.handshake_timeout
        self._deadline = factory.clock.callLater(seconds, self._timed_out, seconds)

    def handshakeCompleted(self) -> None:
        self._end()
        self.transport.wrappedProtocol = self._inner
        if IHandshakeListener.providedBy(self._inner):
            self._inner.handshakeCompleted()

    def _timed_out(self, seconds: float) -> None:
        self._deadline = None
        self._why = f"not complete within {seconds:g} s"
        self.transport.abortConnection()

    def withdraw(self) -> None:
        """Give up the handshake, and end the connection for the inner protocol."""
        self._end()
        self._inner.connectionLost(connectionDone)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()
        why = self._why or _why(reason)
        if why and self.transport.heard:  # not heard: browsers preconnect, and monitors probe the port
            self.transport.factory.failures.log(self.transport, why)
        self._inner.connectionLost(reason)

    def _end(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()


def _why(reason: Failure) -> str:
    """Why a handshake has failed; empty if it was ended on this side."""
    if isinstance(reason.value, SSL.Error):
        return trouble_with_client(reason.value)
    return "the client left" if reason.check(error.ConnectionDone, error.ConnectionLost) else ""


class FailureLog:
    """Logs failed handshakes, at a limited rate."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._until = 0.0
        self._logged = self._suppressed = 0

    def log(self, transport: Any, why: str) -> None:
        now = self._clock.seconds()
        if now >= self._until:
            if self._suppressed:
                self._log.info("{count} more TLS handshakes have failed", count=self._suppressed)
            self._until, self._logged, self._suppressed = now + PERIOD, 0, 0
        if self._logged == MOST_FAILURES:
            self._suppressed += 1
            return
        self._logged += 1
        peer: Any = transport.getPeer()
        self._log.info(
            "TLS handshake with {host} port {port} failed: {why}",
            host=getattr(peer, "host", "a client"),
            port=getattr(peer, "port", "?"),
            why=why,
        )
