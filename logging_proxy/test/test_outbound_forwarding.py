"""What an HTTP proxy that forwards requests says of itself is not the destination's answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from logging_proxy.http.bodies import Piece
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.gathering import MOMENT
from logging_proxy.http.pool import ClientLimits, Pool
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.outbound.forwarding import parse_forwarded_head
from logging_proxy.proxy.failures import verdict


@implementer(IStreamClientEndpoint)
class Connected:
    """An endpoint that is there at once."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        protocol: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        protocol.makeConnection(StringTransport())
        return succeed(protocol)


class Receiver:
    """Keeps what a response was."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.lost: Failure | None = None

    def informationalReceived(self, head: Any) -> None:
        raise AssertionError("there is none")

    def switchReceived(self, head: Any, data: bytes) -> None:
        raise AssertionError("there is no request for it")

    def headReceived(self, head: Any, piece: Piece) -> None:
        self.statuses.append(head.status)

    def bodyReceived(self, piece: Piece) -> None:
        raise AssertionError("there is none")

    def read_buffer(self, most: int) -> memoryview | None:
        raise AssertionError("there is no body")

    def fast_path(self, *way: object) -> None:
        raise AssertionError("there is no body")

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        self.lost, self.kept = reason, kept


class AnswerTests(SynchronousTestCase):
    """Answers that come through the proxy."""

    def answered(self, status: int) -> Receiver:
        clock = Clock()
        pool = Pool(
            Connected(), clock, Deadlines(clock), ClientLimits(), False, "up", parse_head=parse_forwarded_head
        )
        client: ProxyClient = self.successResultOf(pool.connect())
        receiver = Receiver()
        client.begin(receiver, b"GET")
        client.dataReceived(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        clock.advance(MOMENT)
        self.assertEqual(client.transport.disconnecting or client.transport.disconnected, status == 407)
        return receiver

    def test_passed_on(self) -> None:
        """Everything but 407 is the destination's, as far as can be told."""
        for status in (200, 401, 403, 502, 503):
            receiver = self.answered(status)
            self.assertEqual((receiver.statuses, receiver.lost), ([status], None))

    def test_authentication(self) -> None:
        """407 is never passed on: it is the proxy that wants credentials, and of us."""
        receiver = self.answered(407)
        self.assertEqual(receiver.statuses, [])
        self.assertEqual(receiver.kept, b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n")
        assert receiver.lost is not None
        given = verdict(receiver.lost)
        self.assertEqual((given.outcome, given.status), ("connect_failed", 502))
        self.assertIn("credentials", given.message("http://up"))
