"""How a destination's name is reached."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.proxy.endpoints import ATTEMPT_DELAY, NameEndpoint, endpoint_for
from logging_proxy.routing.mapping import parse_destination

V6 = IPv6Address("TCP", "::1", 80)
V4 = IPv4Address("TCP", "127.0.0.1", 80)
OTHER = IPv4Address("TCP", "127.0.0.2", 80)


class Resolver:
    """Finds the addresses it is given, when it is told to."""

    def __init__(self, *addresses: IPv4Address | IPv6Address) -> None:
        self.addresses = addresses
        self.receiver: Any = None

    def resolveHostName(self, receiver: Any, name: str, port: int = 0) -> None:
        self.receiver = receiver
        receiver.resolutionBegan(None)

    def complete(self) -> None:
        for address in self.addresses:
            self.receiver.addressResolved(address)
        self.receiver.resolutionComplete()


class NameEndpointTests(SynchronousTestCase):
    def connect(self, *addresses: IPv4Address | IPv6Address) -> None:
        reactor: Any = MemoryReactorClock()
        self.reactor = reactor
        self.resolver = Resolver(*addresses)
        self.reactor.nameResolver = self.resolver
        self.protocol = Protocol()
        factory = Factory.forProtocol(lambda: self.protocol)
        self.connected = NameEndpoint(self.reactor, "localhost", 80, 10.0).connect(factory)

    @property
    def tried(self) -> list[str]:
        return [attempt[0] for attempt in self.reactor.tcpClients]

    def refuse(self, index: int, reason: Exception | None = None) -> None:
        factory = self.reactor.tcpClients[index][2]
        factory.clientConnectionFailed(None, Failure(reason or error.ConnectionRefusedError()))

    def accept(self, index: int) -> None:
        self.reactor.tcpClients[index][2].buildProtocol(None).makeConnection(StringTransport())

    def assertOver(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_next_at_once(self) -> None:
        """A refusal costs no time: the next address is tried at once."""
        self.connect(V6, V4)
        self.resolver.complete()
        self.assertEqual(self.tried, ["::1"])
        self.refuse(0)
        self.assertEqual(self.tried, ["::1", "127.0.0.1"])
        self.accept(1)
        self.assertIs(self.successResultOf(self.connected), self.protocol)
        self.assertOver()

    def test_silence(self) -> None:
        """Beside an address that does not answer, the next is tried a little later; the first wins."""
        self.connect(V6, V4, OTHER)
        self.resolver.complete()
        self.reactor.advance(ATTEMPT_DELAY - 0.01)
        self.assertEqual(len(self.tried), 1)
        self.reactor.advance(0.01)
        self.assertEqual(len(self.tried), 2)
        self.accept(0)
        self.assertIs(self.successResultOf(self.connected), self.protocol)
        self.assertTrue(self.reactor.connectors[1].stoppedConnecting)
        self.assertOver()

    def test_all_refuse(self) -> None:
        """When the last address refuses, that is the failure."""
        self.connect(V6, V4)
        self.resolver.complete()
        self.refuse(0)
        self.assertNoResult(self.connected)
        self.refuse(1)
        self.failureResultOf(self.connected, error.ConnectionRefusedError)
        self.assertOver()

    def test_unknown(self) -> None:
        """A name without addresses is a failure of DNS."""
        self.connect()
        self.resolver.complete()
        self.failureResultOf(self.connected, error.DNSLookupError)
        self.assertOver()

    def test_time(self) -> None:
        """Everything together has the time-out: a resolver that is silent, and addresses that are."""
        self.connect(V4)
        self.reactor.advance(10)
        self.failureResultOf(self.connected, error.TimeoutError)
        self.resolver.complete()
        self.assertEqual(self.tried, [])
        self.connect(V6, V4)
        self.reactor.advance(9)
        self.resolver.complete()
        self.reactor.advance(1)
        self.failureResultOf(self.connected, error.TimeoutError)
        self.assertOver()

    def test_cancel(self) -> None:
        """Cancelling gives up every attempt."""
        self.connect(V6, V4)
        self.resolver.complete()
        self.reactor.advance(ATTEMPT_DELAY)
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.assertEqual([each.stoppedConnecting for each in self.reactor.connectors], [True, True])
        self.assertOver()

    def test_cancel_while_resolving(self) -> None:
        """What the resolver finds afterwards is not tried."""
        self.connect(V4)
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.resolver.complete()
        self.assertEqual(self.tried, [])
        self.assertOver()


class EndpointForTests(SynchronousTestCase):
    def test_addresses_are_not_resolved(self) -> None:
        """An address in the configuration needs no resolver."""
        for url, kind in (
            ("http://127.0.0.1:1/", TCP4ClientEndpoint),
            ("http://[::1]:1/", TCP6ClientEndpoint),
        ):
            self.assertIsInstance(endpoint_for(MemoryReactorClock(), parse_destination(url), 1.0), kind)

    def test_names(self) -> None:
        """A name does."""
        endpoint = endpoint_for(MemoryReactorClock(), parse_destination("http://h.example/"), 1.0)
        self.assertIsInstance(endpoint, NameEndpoint)
