"""Clients of a TLS listener that do not shake hands: what they are told, and what the log is."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface import implementer

from logging_proxy.configuration import ServerTLS
from logging_proxy.http.gathering import MOMENT
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.test.certificates import identity
from logging_proxy.test.proxy_stage import Stage
from logging_proxy.test.test_tls_listener import client
from logging_proxy.test.tls_pair import Pair
from logging_proxy.tls.handshakes import MOST_FAILURES, PERIOD
from logging_proxy.tls.listener import ListenerTLS
from logging_proxy.tls.pem import PEMFile

ONE = identity("one.example")
HTTPS_INSTEAD = b"use https:// in the URL\n"
HELLO = b"\x16\x03\x01\x02\x00\x01"
"""How a ClientHello begins."""


class Wire(StringTransport):
    """A client's end, as the kernel has it."""

    aborted = False
    half_closed = False

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True


@implementer(ILogObserver)
class Lines:
    """Keeps what we log."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __call__(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("logging_proxy"):
            self._lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))


class HandshakeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.site = Site(Resource(), self.clock, ServerLimits(head_timeout=10.0), secure=True)
        certificate, key = PEMFile("cert.pem", ONE.certificate), PEMFile("key.pem", ONE.key)
        self.tls = ListenerTLS(ServerTLS(certificate, key))
        self.listener = self.tls.wrap(self.site, self.site, self.clock)
        self.lines: list[str] = []
        observer = Lines(self.lines)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def arrive(self, data: bytes = b"", port: int = 1234) -> Wire:
        """A client connects and says something."""
        wire = Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", port))
        protocol = self.listener.buildProtocol(wire.getPeer())
        assert protocol is not None
        wire.protocol = protocol  # type: ignore[attr-defined]
        protocol.makeConnection(wire)
        if data:
            self.say(wire, data)
        return wire

    def say(self, wire: Any, data: bytes) -> None:
        wire.protocol.dataReceived(data)

    def leave(self, wire: Any, error: Exception) -> None:
        wire.protocol.connectionLost(Failure(error))

    def assertLog(self, *endings: str) -> None:
        begin = "TLS handshake with 192.0.2.1 port 1234 failed: "
        self.assertEqual(self.lines, [begin + each for each in endings])
        self.lines.clear()

    def assertOver(self) -> None:
        """Nobody is left, and no timer."""
        self.assertEqual(self.site.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimeTests(HandshakeCase):
    """`head_timeout` for the handshake."""

    def test_silence(self) -> None:
        """Who connects and says nothing has it, and leaves no line: browsers connect in advance."""
        wire = self.arrive()
        self.clock.advance(9.9)
        self.assertFalse(wire.aborted)
        self.clock.advance(0.1)
        self.assertTrue(wire.aborted)
        self.leave(wire, ConnectionLost())
        self.assertLog()
        self.assertOver()

    def test_slowly(self) -> None:
        """It is absolute: a byte now and then does not prolong it."""
        wire = self.arrive(HELLO)
        for _ in range(9):
            self.clock.advance(1)
            self.say(wire, b"\0")
        self.assertFalse(wire.aborted)
        self.clock.advance(1)
        self.assertTrue(wire.aborted)
        self.leave(wire, ConnectionLost())
        self.assertLog("not complete within 10 s")
        self.assertOver()

    def test_done(self) -> None:
        """A handshake that is done in time has none any more."""
        pair = Pair(client("one.example"), self.tls)
        self.assertTrue(pair.server.secure)
        self.assertEqual(pair.clock.getDelayedCalls(), [])


class PlainTests(HandshakeCase):
    """Plain HTTP where TLS is spoken."""

    def test_answer(self) -> None:
        """It is answered in clear, with what to do, and the connection ends in good order."""
        for request in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST", b"g", b"CONNECT a:443 HTTP/1.1\r\n"):
            wire = self.arrive(request)
            self.clock.advance(MOMENT)
            head, _, body = wire.value().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 400 Bad Request\r\n"))
            self.assertIn(b"\r\nContent-Type: text/plain; charset=utf-8\r\n", head)
            self.assertIn(b"\r\nConnection: close", head)
            self.assertEqual(body, b"plain HTTP on a port that speaks TLS: use https:// in the URL\n")
            self.assertTrue(wire.half_closed)
            self.assertFalse(wire.aborted)
            self.say(wire, b"more of the request")
            self.leave(wire, ConnectionDone())
            self.assertLog("the client speaks plain HTTP")
            self.assertOver()

    def test_reaches_no_resource(self) -> None:
        """Nothing of it is taken for a request."""
        asked: list[object] = []
        self.site.respond = lambda *request: asked.append(request)
        self.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.clock.advance(MOMENT)
        self.assertEqual(asked, [])

    def test_form(self) -> None:
        """The proxy's answer has the form that the request asks for, in how many pieces it may come."""
        stage = Stage()
        self.site.use(stage.tree, stage.site.limits)
        request = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n"
        for size in (1, 20, len(request)):
            wire = self.arrive(request[:size])
            for at in range(size, len(request), size):
                self.say(wire, request[at : at + size])
            self.clock.advance(MOMENT)
            self.assertIn(
                b'"code": "bad_request", "message": "plain HTTP on a port that speaks TLS', wire.value()
            )
        self.assertEqual(stage.console, ["POST /v1/x -> BAD_REQUEST [log]"] * 3)


class LogTests(HandshakeCase):
    """A line for each handshake that fails."""

    def test_no_tls(self) -> None:
        """What is neither TLS nor HTTP; a client that leaves in the middle; one that is gone before it."""
        self.say_and_leave(b"\x05\x01\x00" * 9)
        self.assertLog("wrong version number")
        self.say_and_leave(HELLO)
        self.assertLog("the client left")
        self.leave(self.arrive(), ConnectionDone())
        self.assertLog()
        self.assertOver()

    def say_and_leave(self, data: bytes) -> None:
        self.leave(self.arrive(data), ConnectionDone())

    def test_alert(self) -> None:
        """A client that does not trust us, or offers no protocol of ours, with its reason."""
        Pair(client("two.example"), self.tls)
        Pair(client("one.example", (b"h2", b"a\r\n\x1b[1m")), self.tls)
        distrust, protocol = self.lines
        self.assertRegex(distrust, r"^TLS handshake with \S+ port \S+ failed: .+$")
        offers = "no protocol in common, the client offers h2 and 'a\\r\\n\\x1b[1m'"
        self.assertTrue(protocol.endswith(offers), protocol)

    def test_bounded(self) -> None:
        """Of many only the first are told, and later how many there were."""
        for _ in range(MOST_FAILURES + 5):
            self.say_and_leave(HELLO)
        self.assertEqual(len(self.lines), MOST_FAILURES)
        self.clock.advance(PERIOD)
        self.lines.clear()
        self.say_and_leave(HELLO)
        self.assertEqual(self.lines[0], "5 more TLS handshakes have failed")
        self.assertEqual(len(self.lines), 2)
