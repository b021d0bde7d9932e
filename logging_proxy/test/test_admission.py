"""Who comes in: no more than there is room for, and those who wait longest for nothing make room."""

from __future__ import annotations

import errno
import resource
import socket

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import ServerLimits
from logging_proxy.net import descriptors
from logging_proxy.net.admission import AT_ONCE, PAUSE, Admission, listen
from logging_proxy.test.http_stage import GET, Client, Desk
from logging_proxy.test.test_workers_entrance import Reactor


class Guest:
    """A connection that has waited since a time, or is in use."""

    def __init__(self, since: float | None) -> None:
        self.waits_since = since
        self.said: list[str] = []

    def leave(self) -> None:
        self.said.append("leave")

    def abort(self) -> None:
        self.said.append("abort")


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.guests: set[Guest] = set()
        self.most = 100
        self.admission = Admission(self.guests, lambda: self.most)

    def guest(self, since: float | None = None) -> Guest:
        guest = Guest(since)
        self.guests.add(guest)
        return guest

    def test_room(self) -> None:
        """There is room up to the limit, whoever is there, and nobody is asked to leave."""
        guests = [self.guest(number) for number in range(60)]
        self.assertEqual(self.admission.room(), 40)
        self.most = 61
        self.assertEqual(self.admission.room(), 1)
        self.assertEqual([guest for guest in guests if guest.said], [])

    def test_longest_first(self) -> None:
        """At the limit those who have waited longest are closed; those in use never are."""
        busy = [self.guest() for _ in range(50)]
        idle = [self.guest(1000 - number) for number in range(50)]
        self.assertEqual(self.admission.room(), 0)
        self.assertEqual([guest.said for guest in busy], [[]] * 50)
        self.assertEqual([guest for guest in idle if guest.said], idle[-AT_ONCE:])
        self.guests.difference_update(idle[-AT_ONCE:])
        self.assertEqual(self.admission.room(), AT_ONCE)
        self.assertEqual(idle[-1].said, ["leave"])

    def test_does_not_leave(self) -> None:
        """Who does not leave at once is thrown out."""
        self.most = 1
        guest = self.guest(1)
        self.admission.room()
        guest.waits_since = None  # it closes
        self.admission.room()
        self.assertEqual(guest.said, ["leave", "abort"])

    def test_less_than_there_are(self) -> None:
        """A limit that has been lowered below what is there is no room."""
        for _ in range(5):
            self.guest()
        self.most = 3
        self.assertEqual(self.admission.room(), 0)


class PortTests(SynchronousTestCase):
    """A port that is read as long as there is room."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.room = 7
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.port = listen(self.reactor, listener.fileno(), socket.AF_INET, "a factory", lambda: self.room)
        (self.real,) = self.reactor.ports

    def read(self) -> None:
        for reader in list(self.reactor.readers):
            reader.doRead()

    def test_room(self) -> None:
        """As many are accepted at once as there is room for."""
        self.addCleanup(self.port.stopListening)
        self.read()
        self.assertEqual((self.real.accepts, self.real.reading), ([7], False))

    def test_no_room(self) -> None:
        """Without room nobody is accepted, and the port looks again after longer and longer moments."""
        self.addCleanup(self.port.stopListening)
        for room, pause in ((0, PAUSE), (0, 2 * PAUSE), (2, 4 * PAUSE)):
            self.room = 0
            self.read()
            self.assertEqual((self.real.accepts, self.reactor.readers), ([], []))
            self.reactor.advance(pause)
            self.assertEqual(self.reactor.readers, [self.port])
            self.room = room
        self.read()
        self.assertEqual(self.real.accepts, [2])

    def test_stops(self) -> None:
        """A port that stops while it waits does not look again."""
        self.room = 0
        self.read()
        self.port.stopListening()
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.readers), ([], []))


class ClientTests(SynchronousTestCase):
    """Since when a client of the proxy waits for a request."""

    def setUp(self) -> None:
        self.desk = Desk()

    def client(self) -> Client:
        return Client(self.desk, ServerLimits(keep_alive_timeout=75, head_timeout=10))

    def since(self, client: Client) -> float | None:
        return client.connection.waits_since

    def test_newcomer(self) -> None:
        """Since it has come; in the middle of a head, since its first byte."""
        client = self.client()
        self.assertEqual(self.since(client), 0)
        client.wait(5)
        self.assertEqual(self.since(client), 0)
        client.send(GET[:5])
        client.wait(2)
        client.send(GET[5:9])
        self.assertEqual(self.since(client), 5)

    def test_in_use(self) -> None:
        """Not while a request is under way; since the answer afterwards."""
        client = self.client()
        client.send(GET)
        self.assertIsNone(self.since(client))
        client.wait(20)
        self.desk.pending[0].answer()
        client.wait(3)
        self.assertEqual(self.since(client), 20)

    def test_leaves(self) -> None:
        """One that is told to leave is closed without a word."""
        client = self.client()
        client.connection.leave()
        self.assertIsNone(self.since(client))
        self.assertEqual((client.read(), client.aborted), (b"", False))


class SharesTests(SynchronousTestCase):
    def limited(self, soft: int) -> None:
        self.patch(resource, "getrlimit", lambda which: (soft, soft))

    def test_clients(self) -> None:
        """Each client may need a second descriptor, and there are enough left for recording."""
        for soft, most in ((512, 224), (1024, 480), (65536, 32736), (70, 3), (10, 1)):
            self.limited(soft)
            self.assertEqual(descriptors.most_clients(), most)

    def test_visitors(self) -> None:
        """A logging server takes few, for it stores."""
        for soft, most in ((256, 32), (512, 64), (65536, 1024), (resource.RLIM_INFINITY, 1024)):
            self.limited(soft)
            self.assertEqual(descriptors.most_visitors(), most)

    def test_the_last_ones(self) -> None:
        """A socket towards a destination does not get one of the last descriptors."""
        one = socket.socket()
        self.addCleanup(one.close)
        self.limited(one.fileno() + descriptors.RESERVED)
        descriptors.refuse_last(one)
        self.limited(one.fileno() + 10)
        self.assertEqual(self.assertRaises(OSError, descriptors.refuse_last, one).errno, errno.EMFILE)
        self.assertEqual(one.fileno(), -1)
