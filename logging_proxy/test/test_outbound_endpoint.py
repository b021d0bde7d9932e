"""Connections through outbound proxies, in memory."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from logging_proxy.http.gathering import MOMENT
from logging_proxy.outbound.addresses import parse_proxy_url
from logging_proxy.outbound.endpoint import ProxyEndpoint
from logging_proxy.outbound.failures import (
    ProxyAuthenticationFailed,
    ProxyConnectFailed,
    ProxyTimedOut,
    ProxyUnreachable,
)
from logging_proxy.outbound.resolving import Address
from logging_proxy.proxy.failures import verdict
from logging_proxy.routing.mapping import parse_destination

SECURE, PLAIN = parse_destination("https://a.example/"), parse_destination("http://a.example:81/")
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
ASKED = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"


class Inner(Protocol):
    """The protocol that wants to speak to the destination."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Inner):
    half_closed = False

    def readConnectionLost(self) -> None:
        self.half_closed = True

    def writeConnectionLost(self) -> None:
        pass


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


@implementer(IStreamClientEndpoint)
class ToProxy:
    """The way to the proxy; `arrive` and `refuse` say how it ends."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.cancelled = 0
        self._factory: Any = None
        self._connecting: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, connecting: object) -> None:
        self.cancelled += 1

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self._factory = protocolFactory
        return self._connecting

    def arrive(self) -> Any:
        tunnel = self._factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 3128))
        tunnel.makeConnection(self.transport)
        self._connecting.callback(tunnel)
        return tunnel

    def refuse(self, error: Exception) -> None:
        self._connecting.errback(Failure(error))


def find(reactor: object, host: str, port: int) -> Deferred[list[Address]]:
    """Knows one name."""
    if host != "a.example":
        return fail(DNSLookupError(host))
    return succeed([IPv6Address("TCP", "2001:db8::1", port), IPv4Address("TCP", "192.0.2.7", port)])


class EndpointCase(SynchronousTestCase):
    def begin(
        self,
        url: str = "http://alice:hunter2@proxy:3128",
        destination: Any = SECURE,
        inner: type[Inner] = Inner,
    ) -> None:
        self.clock = Clock()
        self.to_proxy = ToProxy()
        endpoint = ProxyEndpoint(self.clock, parse_proxy_url(url), self.to_proxy, destination, 10, find)
        self.assertNotIn("hunter2", repr(endpoint))
        self.connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(inner))
        self.transport = self.to_proxy.transport

    def assertFailed(self, kind: type[Exception], text: str) -> Any:
        """It failed, said so without secrets, and left no timer."""
        failure = self.failureResultOf(self.connecting, kind)
        self.assertIs(failure.type, kind)
        self.assertIn(text, str(failure.value))
        shown = f"{failure.value!r} {verdict(failure)}"
        for secret in ("alice", "hunter2", "YWxpY2U6aHVudGVyMg"):
            self.assertNotIn(secret, shown)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return failure.value


class TunnelTests(EndpointCase):
    """A tunnel by CONNECT."""

    def test_success(self) -> None:
        """The protocol has the real transport, and everything that came behind the answer."""
        self.begin("http://proxy:3128")
        tunnel = self.to_proxy.arrive()
        self.assertEqual(self.transport.value(), ASKED)
        self.assertNoResult(self.connecting)
        tunnel.dataReceived(CONNECTED + b"hel")
        inner = self.successResultOf(self.connecting)
        self.assertIs(inner.transport, self.transport)
        tunnel.dataReceived(b"lo")
        self.assertEqual(inner.received, b"hello")
        tunnel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(inner.lost.check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_byte_by_byte(self) -> None:
        """The same for bytes that come one by one."""
        self.begin("http://proxy:3128")
        tunnel = self.to_proxy.arrive()
        for byte in CONNECTED + b"hello":
            tunnel.dataReceived(bytes([byte]))
        self.assertEqual(self.successResultOf(self.connecting).received, b"hello")

    def test_untouched(self) -> None:
        """Until the tunnel stands, the protocol has no transport."""
        self.begin()
        tunnel = self.to_proxy.arrive()
        inner = tunnel._inner
        self.assertIsNone(inner.transport)
        tunnel.dataReceived(CONNECTED[:-1])
        self.assertIsNone(inner.transport)
        tunnel.dataReceived(CONNECTED[-1:])
        self.assertIs(inner.transport, self.transport)
        self.successResultOf(self.connecting)

    def test_refused(self) -> None:
        """A proxy that refuses is left; what it has answered, in whatever pieces, is kept for the capture."""
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
        for pieces in ([answer], [answer[:-3], answer[-3:]], [b"%c" % byte for byte in answer]):
            self.begin()
            tunnel = self.to_proxy.arrive()
            for piece in pieces:
                tunnel.dataReceived(piece)
            self.clock.advance(MOMENT)
            self.assertTrue(self.transport.aborted)
            failure = self.assertFailed(
                ProxyConnectFailed, "http://proxy:3128: the outbound proxy answered CONNECT with 403"
            )
            self.assertEqual(failure.kept, answer)

    def test_lost_in_its_answer(self) -> None:
        """What came of an answer that is not whole is kept as well."""
        for answer in (b"HTTP/1.1 4", b"SSH-2.0"):
            self.begin()
            tunnel = self.to_proxy.arrive()
            tunnel.dataReceived(answer)
            tunnel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.assertFailed(ProxyConnectFailed, "").kept, answer)

    def test_authentication(self) -> None:
        """407 has its own kind, and its own text for the client."""
        self.begin()
        self.to_proxy.arrive().dataReceived(b"HTTP/1.1 407 No\r\n\r\n")
        self.clock.advance(MOMENT)
        self.assertFailed(ProxyAuthenticationFailed, "refused our credentials (407)")

    def test_lost(self) -> None:
        """A proxy that closes before it has answered is a failure."""
        self.begin()
        tunnel = self.to_proxy.arrive()
        tunnel.dataReceived(b"HTTP/1.1 200 OK\r\n")
        tunnel.connectionLost(Failure(ConnectionDone()))
        self.assertFailed(ProxyConnectFailed, "http://proxy:3128: lost before it had connected us")

    def test_unreachable(self) -> None:
        """A proxy that refuses connections is named, not the destination."""
        self.begin()
        self.to_proxy.refuse(ConnectionRefusedError())
        self.assertFailed(ProxyUnreachable, "http://proxy:3128: connection refused")

    def test_half_close(self) -> None:
        """A half-close reaches a protocol that knows of it; before that it ends the handshake."""
        self.begin(inner=HalfCloseable)
        tunnel = self.to_proxy.arrive()
        self.assertTrue(IHalfCloseableProtocol.providedBy(tunnel))
        tunnel.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)
        self.begin(inner=HalfCloseable)
        tunnel = self.to_proxy.arrive()
        tunnel.dataReceived(CONNECTED)
        tunnel.readConnectionLost()
        self.assertTrue(self.successResultOf(self.connecting).half_closed)
        self.begin()
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.to_proxy.arrive()))


class TimeTests(EndpointCase):
    """The time-out covers all of it, and giving up leaves nothing behind."""

    def test_reaching_the_proxy(self) -> None:
        """A proxy that cannot be reached in time is given up."""
        self.begin()
        self.clock.advance(9.9)
        self.assertNoResult(self.connecting)
        self.clock.advance(0.1)
        self.assertEqual(self.to_proxy.cancelled, 1)
        self.assertFailed(ProxyTimedOut, "http://proxy:3128: not connected within 10 s")

    def test_handshake(self) -> None:
        """What reaching it took is not there for the handshake, however busy that is."""
        self.begin()
        self.clock.advance(8)
        tunnel = self.to_proxy.arrive()
        tunnel.dataReceived(b"HTTP/1.1 200")
        self.clock.advance(1.9)
        tunnel.dataReceived(b" OK")
        self.assertNoResult(self.connecting)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.aborted)
        self.assertFailed(ProxyTimedOut, "not connected within 10 s")

    def test_verdicts(self) -> None:
        """Each failure has a status and a code of its own, and one outcome."""
        for kind, status, code in (
            (ProxyTimedOut, 504, "outbound_proxy_timeout"),
            (ProxyAuthenticationFailed, 502, "outbound_proxy_credentials"),
            (ProxyUnreachable, 502, "outbound_proxy_unreachable"),
            (ProxyConnectFailed, 502, "outbound_proxy_failed"),
        ):
            given = verdict(Failure(kind("http://proxy: why")))
            self.assertEqual((given.outcome, given.status), ("connect_failed", status))
            self.assertEqual(given.kind.code, code)
            text = "cannot connect to http://to through the outbound proxy: http://proxy: why"
            self.assertEqual(given.message("http://to"), text)
            self.assertEqual(given.error, "http://proxy: why")

    def test_cancelled(self) -> None:
        """Who does not wait any longer ends it in either phase."""
        self.begin()
        self.connecting.cancel()
        self.failureResultOf(self.connecting)
        self.assertEqual(self.to_proxy.cancelled, 1)
        self.begin()
        tunnel = self.to_proxy.arrive()
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertTrue(self.transport.aborted)
        tunnel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ForwardingTests(EndpointCase):
    """An http:// destination behind an HTTP proxy."""

    def test_at_once(self) -> None:
        """No word is said but the protocol's own."""
        self.begin(destination=PLAIN)
        tunnel = self.to_proxy.arrive()
        inner = self.successResultOf(self.connecting)
        self.assertEqual(self.transport.value(), b"")
        tunnel.dataReceived(b"hello")
        self.assertEqual((inner.received, inner.transport), (b"hello", self.transport))


class SecureProxyTests(EndpointCase):
    """A proxy that is reached by TLS."""

    def test_verified_first(self) -> None:
        """Neither credentials nor requests are sent before the proxy is known."""
        for destination in (SECURE, PLAIN):
            self.begin("https://alice:hunter2@proxy", destination)
            tunnel = self.to_proxy.arrive()
            self.assertEqual(self.transport.value(), b"")
            self.assertNoResult(self.connecting)
            tunnel.handshakeCompleted()
            if destination is SECURE:
                self.assertIn(b"Proxy-Authorization: ", self.transport.value())
                tunnel.dataReceived(CONNECTED)
            self.successResultOf(self.connecting)

    def test_not_verified(self) -> None:
        """A proxy that is somebody else hears nothing, and its name is in the failure."""
        self.begin("https://alice:hunter2@proxy")
        tunnel = self.to_proxy.arrive()
        tunnel.connectionLost(Failure(SSL.Error([("SSL routines", "", "certificate verify failed")])))
        self.assertEqual(self.transport.value(), b"")
        self.assertFailed(
            ProxyUnreachable, "https://proxy:443: lost before it had connected us: TLS: certificate"
        )


class SocksTests(EndpointCase):
    """SOCKS5 for destinations of either scheme."""

    def assertAsks(self, address: bytes) -> None:
        tunnel = self.to_proxy.arrive()
        self.assertEqual(self.transport.value(), b"\x05\x01\x00")
        tunnel.dataReceived(b"\x05\x00")
        self.assertEqual(self.transport.value(), b"\x05\x01\x00\x05\x01\x00" + address + b"\x00\x51")
        tunnel.dataReceived(b"\x05\x00\x00\x01" + bytes(6) + b"hello")
        self.assertEqual(self.successResultOf(self.connecting).received, b"hello")

    def test_remote_names(self) -> None:
        """With socks5h the proxy gets the name."""
        self.begin("socks5h://proxy", PLAIN)
        self.assertAsks(b"\x03\x09a.example")

    def test_local_names(self) -> None:
        """With socks5 the name is looked up here, and IPv4 preferred."""
        self.begin("socks5://proxy", PLAIN)
        self.assertAsks(b"\x01\xc0\x00\x02\x07")

    def test_addresses(self) -> None:
        """An address needs no looking up."""
        self.begin("socks5://proxy", parse_destination("http://127.0.0.1:81/"))
        self.assertAsks(b"\x01\x7f\x00\x00\x01")

    def test_unknown_names(self) -> None:
        """A name without an address is the destination's failure, not the proxy's."""
        self.begin("socks5://proxy", parse_destination("http://b.example/"))
        self.failureResultOf(self.connecting, DNSLookupError)
