"""The way of what is shipped: whom it goes to, and what is said when it cannot."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.http_headers import Headers

from logging_proxy.configuration import Configuration, ServerOptions
from logging_proxy.logserver.tap import ToServer
from logging_proxy.outbound.ourselves import LeadsToOurselves
from logging_proxy.shipping.shipper import _describe
from logging_proxy.test.certificates import AUTHORITY, Identity, Issuer, identity
from logging_proxy.test.test_tls_upstream import UpstreamCase, server
from logging_proxy.test.tls_pair import End, Wire
from logging_proxy.tls.verification import CertificateRefused

ISSUER = Issuer()


class TcpWire(Wire):
    """The agent's end: it asks for TCP_NODELAY."""

    def setTcpNoDelay(self, enabled: bool) -> None: ...


class ToServerTests(UpstreamCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def ask(self, url: str) -> Any:
        configuration = Configuration(server=ServerOptions(host="127.0.0.1", port=5601))
        to_server = ToServer(self.reactor, url, configuration)
        agent = Agent.usingEndpointFactory(self.reactor, to_server, HTTPConnectionPool(self.reactor))
        return agent.request(b"GET", url.encode(), Headers({b"Authorization": [b"Bearer canary"]}))

    def meet(self, who: Identity) -> tuple[End, Any]:
        """A server with this certificate, and what becomes of the request."""
        asked = self.ask("https://127.0.0.1:9/base/api")
        end = End()
        wrapped = TLSMemoryBIOFactory(server(who), False, Factory.forProtocol(lambda: end), self.reactor)
        ends = [self.reactor.tcpClients[0][2].buildProtocol(None), wrapped.buildProtocol(None)]
        wires = [TcpWire(), Wire()]
        for each, wire in zip(ends, wires, strict=True):
            each.makeConnection(wire)
        for _ in range(20):
            self.reactor.advance(0)
            for wire, other in zip(wires, reversed(ends), strict=True):
                data = wire.value()
                wire.clear()
                if data and not wire.closed:
                    other.dataReceived(data)
        if wires[0].closed:
            ends[0].connectionLost(Failure(ConnectionRefusedError()))
        return end, asked

    def test_verified(self) -> None:
        """A server whose certificate is for the URL's host is spoken to."""
        self.trust(AUTHORITY)
        end, asked = self.meet(identity("127.0.0.1"))
        self.assertTrue(end.secure)
        self.assertNoResult(asked)

    def test_no_name(self) -> None:
        """One whose certificate names nobody, or somebody else, hears nothing, and the reason is told."""
        self.trust(ISSUER.pem)
        end, asked = self.meet(ISSUER.issue(None, "127.0.0.1"))
        self.assertEqual((end.secure, end.received), (False, b""))
        failure = self.failureResultOf(asked, ResponseNeverReceived)
        self.assertEqual(_describe(failure.value), "the certificate names no host, and so not 127.0.0.1")

    def test_ourselves(self) -> None:
        """The proxy's own listener is no logging server."""
        self.failureResultOf(self.ask("http://127.0.0.1:5601/"), LeadsToOurselves)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_described(self) -> None:
        """What happens to a connection is told in the words that a destination's failure has."""
        for error, words in (
            (
                ResponseNeverReceived([Failure(CertificateRefused("the certificate is self-signed"))]),
                "self-signed",
            ),
            (
                ResponseNeverReceived([Failure(SSL.Error([("", "", "wrong version number")]))]),
                "not speak TLS",
            ),
            (ConnectionRefusedError(), "refused"),
            (ValueError(), "ValueError"),
        ):
            self.assertIn(words, _describe(error))
