"""The entrance of a worker: when it accepts, and when it leaves that to the others for a moment."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration
from logging_proxy.http.limits import ServerLimits
from logging_proxy.net import admission
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.test.proxy_stage import route
from logging_proxy.workers.board import Board, new_board_file
from logging_proxy.workers.entrance import FIRST_PAUSE, LONGEST_PAUSE, PAUSE, SharedEntrance
from logging_proxy.workers.turns import PATIENCE


class Port:
    """The reactor's own port, on a real socket."""

    def __init__(self, fd: int, factory: Any) -> None:
        self.socket = socket.socket(fileno=os.dup(fd))
        self.factory = factory
        self.numberAccepts = 100
        self.accepts: list[int] = []
        """How many it was to accept at most, each time."""
        self.reading = True

    def fileno(self) -> int:
        return self.socket.fileno()

    def stopReading(self) -> None:
        self.reading = False

    def doRead(self) -> None:
        self.accepts.append(self.numberAccepts)

    def getHost(self) -> Any:
        return self.socket.getsockname()

    def stopListening(self) -> Deferred[None]:
        self.socket.close()
        stopped: Deferred[None] = Deferred()
        stopped.callback(None)
        return stopped


class Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.ports: list[Port] = []

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> Port:
        self.ports.append(Port(fd, factory))
        return self.ports[-1]

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class EntranceTests(SynchronousTestCase):
    """The entrance of worker 1 of 2."""

    def setUp(self) -> None:
        self.room = 1000
        self.reactor = Reactor()
        with new_board_file(2) as file:
            self.board = Board(file.fileno())
        self.board.join(2)
        self.entrance = SharedEntrance(self.reactor, self.board, 1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.port = self.entrance.adopt(
            self.listener.fileno(), socket.AF_INET, "a factory", lambda: self.room
        )
        self.addCleanup(self.port.stopListening)
        (self.real,) = self.reactor.ports

    def someone_comes(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname())
        self.addCleanup(client.close)
        return client

    def read(self) -> None:
        """The reactor has found somebody waiting, and reads who watches."""
        for reader in list(self.reactor.readers):
            reader.doRead()

    def test_watches(self) -> None:
        """The socket is watched in place of the reactor's own port, and the others know of us."""
        self.assertEqual(self.board.connections(), {1: 0, 2: 0})
        self.assertFalse(self.real.reading)
        self.assertEqual(self.reactor.readers, [self.port])
        self.assertEqual(self.port.fileno(), self.real.fileno())  # type: ignore[attr-defined]

    def test_our_turn(self) -> None:
        """As many are accepted at once as is fair, and as Twisted would."""
        self.board.set_connections(2, 7)
        self.read()
        self.board.set_connections(2, 700)
        self.read()
        self.assertEqual(self.real.accepts, [8, 8])
        self.real.numberAccepts = 100
        self.read()
        self.assertEqual(self.real.accepts, [8, 8, 100])

    def test_not_our_turn(self) -> None:
        """One that is ahead does not watch for a moment, again and again, but not for long."""
        self.board.set_connections(1, 10)
        pauses = []
        for _ in range(6):
            self.read()
            self.assertEqual(self.reactor.readers, [])
            (call,) = self.reactor.getDelayedCalls()
            pauses.append(call.getTime() - self.reactor.seconds())
            self.reactor.advance(pauses[-1])
            self.assertEqual(self.reactor.readers, [self.port])
        longest = min(2 * PAUSE, LONGEST_PAUSE)
        expected = [min(FIRST_PAUSE * 2**number, longest) for number in range(6)]
        for pause, wanted in zip(pauses, expected, strict=True):
            self.assertAlmostEqual(pause, wanted)
        self.assertEqual(self.real.accepts, [])
        self.board.set_connections(1, 0)
        self.read()
        self.board.set_connections(1, 10)
        self.read()
        self.assertAlmostEqual(
            self.reactor.getDelayedCalls()[0].getTime() - self.reactor.seconds(), FIRST_PAUSE
        )

    def test_no_room(self) -> None:
        """One that has no room for more does not watch for a moment, whosever turn it is."""
        self.room = 0
        self.board.set_connections(2, 50)
        self.read()
        self.assertEqual((self.real.accepts, self.reactor.readers), ([], []))
        self.room = 3
        self.reactor.advance(admission.PAUSE)
        self.read()
        self.assertEqual(self.real.accepts, [3])

    def ahead_for(self, seconds: float) -> None:
        """The reactor reads whenever somebody waits, for so long."""
        self.board.set_connections(1, 10)
        until = self.reactor.seconds() + seconds
        while self.reactor.seconds() < until:
            self.read()
            self.reactor.advance(FIRST_PAUSE)

    def test_waits_too_long(self) -> None:
        """Who waits and is not taken by the others is taken after all."""
        self.someone_comes()
        self.ahead_for(PATIENCE / 2)
        self.assertEqual(self.real.accepts, [])
        self.ahead_for(PATIENCE)
        self.assertTrue(self.real.accepts)

    def test_others_take(self) -> None:
        """While the others take whoever comes, however long that goes on, nothing is accepted."""
        self.ahead_for(3 * PATIENCE)
        self.assertEqual(self.real.accepts, [])

    def test_stops(self) -> None:
        """A port that stops while it pauses is not watched again."""
        self.board.set_connections(1, 10)
        self.read()
        self.port.stopListening()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers, [])

    def test_factory(self) -> None:
        """Connections go to the factory that was set last."""
        self.assertEqual(self.port.factory, "a factory")  # type: ignore[attr-defined]
        self.port.factory = "another"  # type: ignore[attr-defined]
        self.assertEqual(self.real.factory, "another")

    def test_counts(self) -> None:
        """The board says how many connections the site has."""
        configuration = Configuration(routes=(route("api", "/api/", "http://127.0.0.1:9/"),))
        tree = Forwarding(self.reactor, None, lambda configuration: ()).use(configuration)
        site = self.entrance.site(tree, ServerLimits(), False)
        connections = []
        for count in (1, 2):
            connections.append(site.buildProtocol(None))
            connections[-1].makeConnection(StringTransport())
            self.assertEqual(self.board.connections()[1], count)
        for count in (1, 0):
            connections.pop().connectionLost()
            self.assertEqual(self.board.connections()[1], count)
