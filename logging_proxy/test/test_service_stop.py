"""The service's end: in order, with the last byte safe, and in bounded time."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from logging_proxy.configuration.options import Configuration, LoggingOptions, ServerOptions
from logging_proxy.http.limits import NEWCOMER
from logging_proxy.net import shortcut
from logging_proxy.net.listening import bind
from logging_proxy.outbound.ourselves import LeadsToOurselves, addresses_of
from logging_proxy.recording.recorder import Recording
from logging_proxy.recording.records import OUTCOMES, Kind
from logging_proxy.service.engine import FAREWELL, GRACE, Serving
from logging_proxy.service.output import Output
from logging_proxy.service.proxy_service import CHILD_PATIENCE, ProxyService
from logging_proxy.test.capture_stage import FAST, ThreadedClock, records
from logging_proxy.test.proxy_stage import Wire, get, ok, route

TIMEOUT = 30.0


class Reactor(ThreadedClock, MemoryReactor):
    """Time and threads as the test wants them, and no sockets."""

    def __init__(self) -> None:
        ThreadedClock.__init__(self)
        MemoryReactor.__init__(self)
        self.ports: list[Port] = []
        self.accepted: list[Any] = []

    def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
        self.accepted.append(factory)

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> IListeningPort:
        self.ports.append(Port(super().adoptStreamPort(fd, family, factory), os.dup(fd), factory))
        return self.ports[-1]


@implementer(IListeningPort)
class Port:
    """A port that takes a moment to stop."""

    def __init__(self, real: IListeningPort, fd: int, factory: Any) -> None:
        self._real = real
        self._fd = fd
        self.factory = factory
        self.stopped: Deferred[None] | None = None

    def fileno(self) -> int:
        return self._fd

    def startListening(self) -> None:
        """It listens already."""

    def stopReading(self) -> None:
        """It is read by somebody else."""

    def getHost(self) -> Any:
        return self._real.getHost()

    def stopListening(self) -> Deferred[None]:
        os.close(self._fd)
        self.stopped = Deferred()
        self.stopped.callback(None)
        return self.stopped


class Child:
    """The logging server's process."""

    def __init__(self, scene: StopTests) -> None:
        self.scene = scene
        self.started = False
        self.ends: Deferred[None] | None = None

    def start(self) -> None:
        self.started = True

    def stop(self, patience: float) -> Deferred[None]:
        self.scene.assertEqual(patience, CHILD_PATIENCE)
        # Everything is on disk by now, for the child to work off.
        self.scene.assertEqual([path.name for path in self.scene.directory.glob("ring")], [])
        self.ends = Deferred()
        return self.ends


class Lines:
    """The sink of an output."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def rotate(self) -> None:
        """Nothing to rotate."""


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.directory = Path(self.mktemp()).absolute()
        logging = LoggingOptions(ring_dir=str(self.directory.parent / "none"))
        self.recording = Recording(self.directory, logging, self.reactor, None, FAST, 1 << 16)
        self.child = Child(self)
        self.lines = Lines()
        self.configuration = Configuration(
            server=ServerOptions(shutdown_timeout=TIMEOUT),
            logging=logging,
            routes=(route("api", "/api/", "http://127.0.0.1:9/"),),
        )
        output = Output(self.lines)
        self.serving = Serving(self.reactor, self.configuration, self.recording, output)
        self.service = ProxyService(
            self.reactor,
            self.configuration,
            bind("localhost", 0),
            self.serving,
            self.child,  # type: ignore[arg-type]
            output,
            lambda: self.configuration,
            lambda configuration, port: None,
        )
        self.service.startService()
        self.stopped: Deferred[None] | None = None

    def tearDown(self) -> None:
        if self.stopped is None:
            self.stop()
        self.service.hurry()
        self.pass_time(5)
        self.end_child()

    # --- what happens

    def client(self, data: bytes = b"") -> Wire:
        wire = Wire(self.reactor, self.serving.site.buildProtocol(None)).connect()
        wire.deliver(data)
        return wire

    def upstream(self) -> Wire:
        factory = self.reactor.tcpClients[-1][2]
        return Wire(self.reactor, factory.buildProtocol(None)).connect()

    def exchange(self) -> tuple[Wire, Wire]:
        """A request under way, whose answer has begun."""
        client = self.client(get())
        upstream = self.upstream()
        upstream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        return client, upstream

    def stop(self) -> Deferred[None]:
        self.stopped = self.service.stopService()
        return self.stopped

    def pass_time(self, seconds: float) -> None:
        until = self.reactor.seconds() + seconds
        while self.reactor.seconds() < until:
            self.reactor.advance(0.01)

    def end_child(self) -> None:
        """The recording has stopped; the child is told, and ends."""
        self.reactor.run_until(lambda: self.child.ends is not None)
        assert self.child.ends is not None and self.stopped is not None
        if not self.child.ends.called:
            self.child.ends.callback(None)
        self.successResultOf(self.stopped)

    def outcome(self) -> str:
        (end,) = [record for record in records(self.directory) if record.kind is Kind.END]
        return OUTCOMES[end.payload[0]]

    # --- what is promised

    def test_no_part_in_c(self) -> None:
        """The first lines say that the C extension could not be built or loaded, and why."""
        for trouble, lines in ((None, 0), ("it was not built", 1)):
            self.patch(shortcut, "trouble", trouble)
            with capturedLogs() as logged:
                self.service._say_hello()
            told = [event["why"] for event in logged if "C extension" in event["log_format"]]
            self.assertEqual(told, [trouble] * lines)

    def test_waiting_to_be_accepted(self) -> None:
        """Who has connected but has not been accepted when the ports close is accepted all the same."""
        port = self.reactor.ports[0]
        listener = socket.socket(fileno=os.dup(port.fileno()))
        self.addCleanup(listener.close)
        waiting = socket.create_connection(listener.getsockname()[:2])
        self.addCleanup(waiting.close)
        self.stop()
        self.pass_time(1)
        self.assertEqual(self.reactor.accepted, [self.serving.site])

    def test_started(self) -> None:
        """Started, the service records, has its child, and listens on all its addresses with its own site."""
        self.assertTrue(self.child.started)
        self.assertEqual({port[2] for port in self.reactor.adoptedPorts}, {self.serving.site})
        self.assertGreaterEqual(len(self.reactor.adoptedPorts), 1)
        self.exchange()
        self.reactor.run_until(lambda: len(records(self.directory)) > 2)

    def test_idle(self) -> None:
        """With nothing in flight it stops at once: idle connections are closed, ports as well."""
        client, upstream = self.exchange()
        upstream.deliver(b"llo")
        self.pass_time(0.1)
        self.assertFalse(client.lost)
        self.service._output.line("last words")
        self.stop()
        self.pass_time(GRACE + 0.1)
        self.assertTrue(client.lost)
        self.assertFalse(client.aborted)
        self.assertTrue(all(port.stopped is not None for port in self.reactor.ports))
        self.end_child()
        self.assertIn(b"last words\n", self.lines.data)

    def test_newcomer(self) -> None:
        """Who has connected and says nothing holds it up for little more than a second."""
        client = self.client()
        self.stop()
        self.pass_time(NEWCOMER - 0.1)
        self.assertFalse(client.lost)
        self.pass_time(0.7)
        self.assertTrue(client.lost and not client.aborted)
        self.end_child()

    def test_drains(self) -> None:
        """What is in flight ends as it would have; then the connection is closed."""
        client, upstream = self.exchange()
        self.stop()
        self.pass_time(10)
        self.assertFalse(client.lost)
        self.assertIsNone(self.child.ends)
        upstream.deliver(b"llo")
        self.pass_time(0.1)
        self.assertTrue(client.received().endswith(b"\r\n\r\nhello"))
        self.assertTrue(client.closed and not client.aborted)
        self.end_child()
        self.assertEqual(self.outcome(), "complete")

    def test_request_on_its_way(self) -> None:
        """A request that comes in the moment of the stop is answered, and told that the connection closes."""
        client = self.client()
        self.stop()
        client.deliver(get())
        self.upstream().deliver(ok())
        self.pass_time(0.2)
        answer = client.received()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "))
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.end_child()

    def test_interrupted(self) -> None:
        """What takes too long is cut where it is, seen by the client as cut, and recorded as interrupted."""
        client, _ = self.exchange()
        self.stop()
        self.pass_time(TIMEOUT - 1)
        self.assertFalse(client.lost)
        self.pass_time(1 + GRACE + 0.1)
        self.assertTrue(client.aborted)
        self.end_child()
        self.assertEqual(self.outcome(), "interrupted")

    def test_answered(self) -> None:
        """A client whose answer has not begun when time is up gets one, and time to read it."""
        client = self.client(get())
        self.upstream()
        self.stop()
        self.pass_time(TIMEOUT + GRACE + 0.2)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 503 "))
        self.assertTrue(client.closed and not client.aborted)
        self.end_child()
        self.assertEqual(self.outcome(), "interrupted")

    def test_hurry(self) -> None:
        """Who is told to hurry does not wait for what is in flight."""
        client, _ = self.exchange()
        self.stop()
        self.pass_time(1)
        self.service.hurry()
        self.pass_time(0.2)
        self.assertTrue(client.lost)
        self.end_child()
        self.assertEqual(self.outcome(), "interrupted")

    def test_client_that_does_not_read(self) -> None:
        """A client that takes nothing is given up a moment after its time."""
        client, upstream = self.exchange()
        client.stalled = True
        upstream.deliver(b"llo")
        self.stop()
        self.pass_time(TIMEOUT + 2 * FAREWELL + 0.5)
        self.assertTrue(client.lost)
        self.end_child()

    def test_a_step_fails(self) -> None:
        """A fault in one step does not keep the others from being taken: what was recorded is on disk."""
        self.exchange()

        def broken() -> None:
            raise ValueError("a fault of ours")

        self.patch(self.serving.site, "close", broken)
        self.patch(self.serving.forwarding, "close", broken)
        self.stop()
        self.service.hurry()
        self.pass_time(3)
        self.end_child()
        self.assertEqual(self.outcome(), "interrupted")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)


class HandOverTests(SynchronousTestCase):
    def test_listeners(self) -> None:
        """The listening sockets are the reactor's alone once the service has started."""
        listeners = bind("127.0.0.1", 0)
        reactor = Reactor()
        lines = Lines()
        configuration = Configuration(routes=(route("api", "/api/", "http://127.0.0.1:9/"),))
        output = Output(lines)
        serving = Serving(reactor, configuration, None, output)
        service = ProxyService(
            reactor, configuration, listeners, serving, None, output, lambda: configuration, lambda *_: None
        )
        service.startService()
        self.assertEqual([listener.fileno() for listener in listeners], [-1])
        (adopted,) = reactor.adoptedPorts
        self.assertEqual(adopted[1], socket.AF_INET)
        stopped = service.stopService()
        reactor.pump([0.02] * 10)
        self.successResultOf(stopped)

    def test_ourselves(self) -> None:
        """What the sockets of a listener say is where no request is forwarded to, also when they change."""
        old, new = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
        (before,), (after,) = addresses_of(old), addresses_of(new)
        reactor = Reactor()
        configuration = Configuration(routes=(route("api", "/api/", "http://127.0.0.1:9/"),))
        serving = Serving(reactor, configuration, None, Output(Lines()))
        self.assertFalse(serving._ourselves.loopback)
        self.successResultOf(Deferred.fromCoroutine(serving.start(old)))
        self.assertRaises(LeadsToOurselves, serving._ourselves.check, *before)
        serving._ourselves.check(*after)
        used = Deferred.fromCoroutine(serving.use(configuration, new))
        self.successResultOf(used)
        self.assertRaises(LeadsToOurselves, serving._ourselves.check, *after)
        serving._ourselves.check(*before)
        self.assertTrue(serving._ourselves.loopback)
        stopped = Deferred.fromCoroutine(serving.stop())
        reactor.pump([0.02] * 10)
        self.successResultOf(stopped)
