"""A worker's service: it does what it is told, and ends with who tells it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.application.service import Application
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, LoggingOptions, ServerOptions
from logging_proxy.net.listening import bind
from logging_proxy.outbound.ourselves import LeadsToOurselves, addresses_of
from logging_proxy.recording.records import OUTCOMES, Kind
from logging_proxy.recording.rings import lock_spool
from logging_proxy.service.engine import FAREWELL
from logging_proxy.service.output import Output
from logging_proxy.test.capture_stage import records
from logging_proxy.test.proxy_stage import Wire, get, route
from logging_proxy.test.test_service_stop import Lines, Port, Reactor
from logging_proxy.workers.board import Board, new_board_file
from logging_proxy.workers.orders import Begin, Hurry, Listen, Order, Stop, Use
from logging_proxy.workers.worker import ALONE, WorkerService


class WorkerReactor(Reactor):
    """Can be told to stop, and watches sockets that nobody connects to."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = WorkerReactor()
        self.spool = Path(self.mktemp()).absolute()
        self.logging = LoggingOptions(ring_dir=str(self.spool.parent / "none"))
        self.alarms: list[int] = []
        self.lines = Lines()
        with new_board_file(2) as file:
            self.board = Board(file.fileno())
            self.board_fd = os.dup(file.fileno())
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        output = Output(self.lines, name="worker 1")
        self.worker = WorkerService(self.reactor, 1, theirs.detach(), output, self.alarms.append)
        self.worker.setServiceParent(Application("test"))
        self.worker.startService()
        self.stopped: Deferred[None] | None = None

    def tearDown(self) -> None:
        if self.stopped is None:
            self.worker.alone()
            self.stopped = self.worker.stopService()
        self.reactor.run_until(self.has_stopped)
        if self.board_fd >= 0:
            os.close(self.board_fd)

    def has_stopped(self) -> bool:
        self.reactor.advance(0.02)
        assert self.stopped is not None
        return bool(self.stopped.called)

    def order(self, order: Order, *attached: int) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.worker.obey(order, list(attached))))

    def configuration(self, name: str = "api") -> Configuration:
        return Configuration(
            server=ServerOptions(shutdown_timeout=30),
            routes=(route(name, f"/{name}/", "http://127.0.0.1:9/"),),
        )

    def begin(self) -> None:
        self.order(Begin(self.configuration(), self.spool, self.logging), self.board_fd)
        self.board_fd = -1

    def listen(self) -> list[Port]:
        """The new ports."""
        before = len(self.reactor.ports)
        self.order(Listen(), *self.sockets())
        return self.reactor.ports[before:]

    def sockets(self) -> list[int]:
        return [listener.detach() for listener in bind("127.0.0.1", 0)]

    def client(self, data: bytes) -> Wire:
        serving = self.worker._serving
        assert serving is not None
        wire = Wire(self.reactor, serving.site.buildProtocol(None)).connect()
        wire.deliver(data)
        return wire

    def stop(self) -> None:
        """The reactor does as it was told."""
        self.assertEqual(self.reactor.stops, 1)
        self.stopped = self.worker.stopService()

    def test_log_observer(self) -> None:
        """twistd logs through the worker's output."""
        application = Application("test")
        WorkerService(self.reactor, 1, -1, Output(self.lines)).setServiceParent(application)
        self.assertIsInstance(application.getComponent(ILogObserver), Output)

    def test_begins(self) -> None:
        """Told to begin it records, and accepts only when it is told to; then it is on the board."""
        self.begin()
        self.reactor.run_until(lambda: [each.kind for each in records(self.spool)] == [Kind.SESSION])
        self.assertEqual((self.reactor.ports, self.board.connections()), ([], {}))
        self.assertEqual(len(self.listen()), 1)
        self.assertEqual(self.board.connections(), {1: 0})

    def test_ourselves(self) -> None:
        """It forwards nothing to the logging server, nor to the sockets that it accepts on."""
        order = Begin(self.configuration(), None, self.logging, 1, (("127.0.0.1", 8080),))
        self.order(order, self.board_fd)
        self.board_fd = -1
        serving = self.worker._serving
        assert serving is not None
        self.assertRaises(LeadsToOurselves, serving._ourselves.check, "127.0.0.1", 8080)
        sockets = bind("127.0.0.1", 0)
        (where,) = addresses_of(sockets)
        self.order(Listen(), *(each.detach() for each in sockets))
        self.assertRaises(LeadsToOurselves, serving._ourselves.check, *where)

    def test_records_nothing(self) -> None:
        """Without a spool it forwards and does not record."""
        self.order(Begin(self.configuration(), None, self.logging), self.board_fd)
        self.board_fd = -1
        self.client(get("/api/"))
        self.assertFalse(self.spool.exists())

    def test_cannot_begin(self) -> None:
        """Without its spool it says why, and ends."""
        self.spool.mkdir(parents=True)
        lock = lock_spool(self.spool)
        self.addCleanup(os.close, lock)
        self.begin()
        self.stop()
        self.order(Listen(), *self.sockets())
        self.assertEqual(self.reactor.ports, [])

    def test_uses(self) -> None:
        """A new configuration takes over; new sockets take the place of the old."""
        self.begin()
        (old,) = self.listen()
        self.order(Use(self.configuration("new")))
        self.client(get("/new/"))
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.assertIsNone(old.stopped)
        self.order(Use(self.configuration("new")), *self.sockets())
        self.assertEqual(len(self.reactor.ports), 2)
        self.assertIsNotNone(old.stopped)

    def test_stops(self) -> None:
        """Told to stop it lets what is in flight finish, until it is told to hurry."""
        self.begin()
        self.listen()
        client = self.client(get("/api/"))
        self.order(Stop())
        self.order(Stop())
        self.stop()
        self.reactor.pump([0.1] * 100)
        self.assertFalse(client.lost)
        self.order(Hurry())
        self.reactor.pump([0.1] * int(10 * FAREWELL))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 503 "))
        self.reactor.run_until(self.has_stopped)
        (end,) = [each for each in records(self.spool) if each.kind is Kind.END]
        self.assertEqual(OUTCOMES[end.payload[0]], "interrupted")
        self.assertEqual(self.alarms, [])

    def test_alone(self) -> None:
        """When nobody is there any more it ends without waiting; were it to hang, the system would end it."""
        self.begin()
        self.listen()
        client = self.client(get("/api/"))
        self.worker.alone()
        self.stop()
        self.reactor.pump([0.1] * int(10 * FAREWELL))
        self.assertTrue(client.lost)
        self.reactor.run_until(self.has_stopped)
        self.assertEqual(self.alarms, [ALONE])

    def test_told_nothing(self) -> None:
        """Left alone before it was told anything it ends as well."""
        self.worker.alone()
        self.stop()
        self.successResultOf(self.worker.stopService())
