"""How a destination's name is reached."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.outbound.addresses import parse_proxy_url
from logging_proxy.outbound.ourselves import LeadsToOurselves, Ourselves
from logging_proxy.outbound.resolving import Address, find_addresses
from logging_proxy.proxy.endpoints import ATTEMPT_DELAY, NOBODY, NameEndpoint, endpoint_for
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.tls.reasons import explain

V6 = IPv6Address("TCP", "::1", 80)
V4 = IPv4Address("TCP", "127.0.0.1", 80)
OTHER = IPv4Address("TCP", "127.0.0.2", 80)


class Resolver:
    """Finds the addresses it is given, when it is told to."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = addresses
        self.found: Deferred[list[Address]] = Deferred()

    def find(self, reactor: object, host: str, port: int) -> Deferred[list[Address]]:
        return self.found

    def complete(self) -> None:
        if self.addresses:
            self.found.callback(list(self.addresses))
        else:
            self.found.errback(error.DNSLookupError("h.example cannot be looked up: nobody knows it"))


class NameEndpointTests(SynchronousTestCase):
    def connect(self, *addresses: Address, ourselves: Ourselves = NOBODY) -> None:
        reactor: Any = MemoryReactorClock()
        self.reactor = reactor
        self.resolver = Resolver(*addresses)
        self.protocol = Protocol()
        factory = Factory.forProtocol(lambda: self.protocol)
        endpoint = NameEndpoint(self.reactor, "h.example", 80, 10.0, ourselves, self.resolver.find)
        self.connected = endpoint.connect(factory)

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
        failure = self.failureResultOf(self.connected, error.TimeoutError)
        self.assertEqual(explain(failure), "no connection within 10 s")
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
        """Addresses that the resolver finds afterwards are not tried."""
        self.connect(V4)
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.resolver.complete()
        self.assertEqual(self.tried, [])
        self.assertOver()

    def test_ourselves(self) -> None:
        """No connection is made to one of our own listeners, whatever other addresses the name has."""
        ourselves = Ourselves()
        ourselves.listen_on([("127.0.0.1", 80)])
        self.connect(V4, ourselves=ourselves)
        self.resolver.complete()
        self.failureResultOf(self.connected, LeadsToOurselves)
        self.assertEqual(self.tried, [])
        self.assertOver()
        self.connect(V6, V4, OTHER, ourselves=ourselves)
        self.resolver.complete()
        self.refuse(0)
        self.refuse(1)
        self.failureResultOf(self.connected, LeadsToOurselves)
        self.assertEqual(self.tried, ["::1", "127.0.0.2"])
        self.connect(V4, OTHER, ourselves=ourselves)
        self.resolver.complete()
        self.accept(0)
        self.assertIs(self.successResultOf(self.connected), self.protocol)
        self.assertEqual(self.tried, ["127.0.0.2"])


class EndpointForTests(SynchronousTestCase):
    def connected(self, url: str, ourselves: Ourselves = NOBODY, proxy: str | None = None) -> Any:
        """The reactor, and the result of a connection to `url`."""
        reactor: Any = MemoryReactorClock()
        through = parse_proxy_url(proxy) if proxy else None
        endpoint = endpoint_for(reactor, parse_destination(url), 1.0, None, through, ourselves)
        return reactor, endpoint.connect(Factory.forProtocol(Protocol))

    def test_addresses_are_not_resolved(self) -> None:
        """An address in the configuration needs no resolver."""
        for url, host in (("http://127.0.0.1:1/", "127.0.0.1"), ("http://[::1]:1/", "::1")):
            reactor, _ = self.connected(url)
            self.assertEqual([attempt[:2] for attempt in reactor.tcpClients], [(host, 1)])

    def test_time(self) -> None:
        """An address that is silent is told by the time that it had."""
        reactor, connected = self.connected("http://127.0.0.1:1/")
        connector = reactor.connectors[0]
        reactor.tcpClients[0][2].clientConnectionFailed(connector, Failure(error.TimeoutError()))
        failure = self.failureResultOf(connected, error.TimeoutError)
        self.assertEqual(explain(failure), "no connection within 1 s")

    def test_names(self) -> None:
        """A name does."""
        endpoint = endpoint_for(MemoryReactorClock(), parse_destination("http://h.example/"), 1.0)
        self.assertIsInstance(endpoint, NameEndpoint)

    def test_ourselves(self) -> None:
        """An address that is our own is not connected to, nor is an outbound proxy that is ourselves."""
        ourselves = Ourselves(server=[("127.0.0.1", 8080)])
        ourselves.listen_on([("0.0.0.0", 5601)])
        for url, proxy in (
            ("http://127.0.0.1:8080/", None),
            ("http://127.0.0.1:5601/", None),
            ("https://127.0.0.1:5601/", None),
            ("https://a.example/", "http://127.0.0.1:5601"),
            ("http://a.example/", "https://127.0.0.1:8080"),
        ):
            reactor, connected = self.connected(url, ourselves, proxy)
            self.failureResultOf(connected, LeadsToOurselves)
            self.assertEqual(reactor.tcpClients, [])


class Pool:
    """Works when it is told to."""

    def __init__(self) -> None:
        self.work: Any = None

    def callInThreadWithCallback(self, done: Any, work: Any, *arguments: Any, **named: Any) -> None:
        def run() -> None:
            try:
                result = work(*arguments, **named)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        self.work = run


class FindAddressesTests(SynchronousTestCase):
    """The system's resolver."""

    def find(self, host: str, answer: Any) -> Any:
        asked = []

        def getaddrinfo(*arguments: Any, **options: Any) -> Any:
            asked.append(arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.patch(socket, "getaddrinfo", getaddrinfo)
        pool, reactor = Pool(), Clock()
        reactor.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        reactor.callFromThread = lambda call, *arguments: call(*arguments)  # type: ignore[attr-defined]
        found = find_addresses(reactor, host, 80)
        self.assertNoResult(found)
        pool.work()
        self.assertEqual([arguments[1] for arguments in asked], [80])
        self.asked = asked[0][0]
        return found

    def test_found(self) -> None:
        """The addresses of both families, in the resolver's order; nothing else that it may know."""
        answer = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 80, 0, 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/tmp/x"),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)),
        ]
        self.assertEqual(self.successResultOf(self.find("my_service", answer)), [V6, V4])
        self.assertEqual(self.asked, "my_service")

    def test_localhost(self) -> None:
        """`localhost` is this machine with a final dot, too, and so is everything below it."""
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
        for host in ("localhost.", "LocalHost", "a.localhost", "a.localhost."):
            self.assertEqual(self.successResultOf(self.find(host, answer)), [V4])
            self.assertEqual(self.asked, "localhost")

    def test_raises(self) -> None:
        """Whatever the resolver raises, and also nothing, is a failure of DNS at once; it names the host."""
        cannot = "the name h.example cannot be resolved"
        for raised, why in (
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such host: h.example"),
            (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), f"{cannot}: Temporary failure"),
            (UnicodeError("label too long"), f"{cannot}: UnicodeError"),
            (RuntimeError("canary"), f"{cannot}: RuntimeError"),
            (OSError(24, "Too many open files"), f"{cannot}: Too many open files"),
            ([], "no such host: h.example"),
        ):
            failure = self.failureResultOf(self.find("h.example", raised), error.DNSLookupError)
            self.assertEqual(explain(failure), why)
