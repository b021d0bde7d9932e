"""The common part of both ends of HTTP: sending, a tunnel, and the loss of a connection."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.deadlines import NEVER
from logging_proxy.http.link import Link


class End:
    """A tunnel's end that records its calls."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def bytesReceived(self, data: bytes) -> None:
        self.told.append(data)

    def sendingEnded(self) -> None:
        self.told.append("ended")

    def connectionLost(self, reason: Failure) -> None:
        self.told.append(reason.type)


class LinkTests(SynchronousTestCase):
    """One connection, below heads and bodies."""

    def setUp(self) -> None:
        self.transport = StringTransport()
        self.link = Link(Clock().seconds)
        self.link.makeConnection(self.transport)
        self.end = End()

    def test_sends(self) -> None:
        """Bytes go to the transport while the connection is there, and nowhere after its loss."""
        self.link.send(b"one")
        self.link.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.link.send(b"two"))
        self.assertEqual(self.transport.value(), b"one")

    def test_tunnel(self) -> None:
        """A tunnel gets the bytes that were there before it, those that come, and the end of them."""
        self.link._begin_tunnel(self.end, b"early")
        self.link.dataReceived(b"late")
        self.link.readConnectionLost()
        self.assertEqual(self.end.told, [b"early", b"late", "ended"])

    def test_ended_before(self) -> None:
        """A peer that has ended its sending before the switch has ended its direction of the tunnel."""
        self.link.readConnectionLost()
        self.link._begin_tunnel(self.end, b"all")
        self.assertEqual(self.end.told, [b"all", "ended"])

    def test_paused(self) -> None:
        """A tunnel reads, even if the connection was paused."""
        self.link._pause_transport()
        self.assertEqual(self.transport.producerState, "paused")
        self.link._begin_tunnel(self.end, b"")
        self.assertEqual(self.transport.producerState, "producing")

    def test_given_up(self) -> None:
        """Giving up resets the connection and passes the reason on, once."""
        self.link._begin_tunnel(self.end, b"")
        self.link.deadline = 5.0
        self.link.give_up(Failure(TimeoutError()))
        self.assertTrue(self.transport.disconnected)
        self.assertEqual((self.end.told, self.link.deadline), ([TimeoutError], NEVER))
        self.link.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.end.told, [TimeoutError])

    def test_failed_send(self) -> None:
        """After a failed send the end of reading is the loss of the connection."""
        self.link._begin_tunnel(self.end, b"")
        self.link._note_failed_send()
        self.link.readConnectionLost()
        self.assertEqual((self.end.told, self.transport.disconnected), ([ConnectionLost], True))

    def test_failed_send_then_lost(self) -> None:
        """After a failed send no connection ends in good order, whatever the transport says."""
        self.link._begin_tunnel(self.end, b"")
        self.link._note_failed_send()
        self.link.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.end.told, [ConnectionLost])
