"""The fleet: what workers are told and when, and what becomes of one that ends."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.logger import globalLogPublisher as publisher
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, LoggingOptions, ServerOptions
from logging_proxy.net.listening import bind
from logging_proxy.service.child import FIRST_WAIT
from logging_proxy.service.output import Output
from logging_proxy.test.proxy_stage import route
from logging_proxy.test.workers_stage import End, FleetReactor
from logging_proxy.workers.board import Board
from logging_proxy.workers.fleet import START_PATIENCE, STOP_PATIENCE, USE_PATIENCE, Fleet
from logging_proxy.workers.orders import Begin, Use

TIMEOUT = 30.0


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def rotate(self) -> None:
        """There is nothing to rotate."""


class FleetCase(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        self.reactor = FleetReactor()
        self.sink = Sink()
        self.output = Output(self.sink)
        self.spools = [Path("/spool/1"), Path("/spool/1-2")]
        self.fleet = Fleet(
            self.reactor,
            self.configuration(),
            self.spools,
            self.output,
            ["-n", "proxy"],
            [("127.0.0.1", 8080)],
        )
        self.listeners = bind("127.0.0.1", 0)
        for listener in self.listeners:
            self.addCleanup(listener.close)
        self.started = Deferred.fromCoroutine(self.fleet.start(self.listeners))
        self.addCleanup(self.end_all)

    def end_all(self) -> None:
        self.fleet._board_file.close()
        for end in self.reactor.ends:
            if not end.dead:
                end.die()

    def configuration(self, name: str = "api", **logging: Any) -> Configuration:
        return Configuration(
            server=ServerOptions(shutdown_timeout=TIMEOUT),
            logging=LoggingOptions(**logging),
            routes=(route(name, "/api/", "http://127.0.0.1:9/"),),
        )

    def read(self) -> list[list[str]]:
        """What each process so far was ordered."""
        return [end.read() for end in self.reactor.ends]

    def ready(self) -> tuple[End, End]:
        """The two processes, when they accept."""
        self.read()
        self.read()
        self.successResultOf(self.started)
        one, other = self.reactor.ends[:2]
        return one, other


class StartTests(FleetCase):
    def test_begin(self) -> None:
        """Each worker has its number and its spool, and all have the board and know the logging server."""
        self.assertEqual(
            [process.arguments[-3:] for process in self.reactor.processes],
            [["-n", "proxy", "--worker=1"], ["-n", "proxy", "--worker=2"]],
        )
        self.assertEqual(self.read(), [["Begin 1"], ["Begin 1"]])
        begun = [end.orders[0][0] for end in self.reactor.ends]
        configuration = self.configuration()
        server = (("127.0.0.1", 8080),)
        self.assertEqual(
            begun, [Begin(configuration, spool, configuration.logging, 2, server) for spool in self.spools]
        )

    def test_all_at_once(self) -> None:
        """None accepts before all are ready; the fleet has started when all accept."""
        one, other = self.reactor.ends
        one.read()
        self.assertEqual(one.read(), ["Begin 1"])
        other.read()
        self.assertNoResult(self.started)
        self.assertEqual(self.read(), [["Begin 1", "Listen 1"], ["Begin 1", "Listen 1"]])
        self.successResultOf(self.started)

    def test_one_hangs(self) -> None:
        """One that is not ready in time is not waited for."""
        one, other = self.reactor.ends
        one.read()
        self.reactor.advance(START_PATIENCE)
        self.assertEqual(one.read(), ["Begin 1", "Listen 1"])
        self.reactor.advance(USE_PATIENCE)
        self.successResultOf(self.started)
        self.assertEqual(other.read(), ["Begin 1", "Listen 1"])

    def test_one_dies(self) -> None:
        """One that ends before it was ready holds up nobody."""
        one, other = self.reactor.ends
        one.read()
        other.die()
        self.assertEqual(one.read(), ["Begin 1", "Listen 1"])
        self.successResultOf(self.started)


class RestartTests(FleetCase):
    def test_started_again(self) -> None:
        """The next process of a worker has the same number and spool, and accepts at once."""
        one, other = self.ready()
        one.die()
        self.reactor.advance(FIRST_WAIT)
        self.assertEqual(len(self.reactor.ends), 3)
        self.assertEqual(self.reactor.processes[2].arguments, self.reactor.processes[0].arguments)
        self.assertEqual(self.reactor.ends[2].read(), ["Begin 1", "Listen 1"])
        self.assertEqual(self.reactor.ends[2].orders[0], one.orders[0])
        self.assertEqual(other.read(), ["Begin 1", "Listen 1"])

    def test_absent(self) -> None:
        """Nobody leaves connections to a worker that has ended."""
        one, other = self.ready()
        board = Board(self.fleet._board_file.fileno())
        for worker in (1, 2):
            board.join(worker)
        one.die()
        self.assertEqual(board.connections(), {2: 0})

    def test_again_and_again(self) -> None:
        """One that ends at once is started less and less often."""
        self.ready()
        self.reactor.ends[0].die()
        for _ in range(100):
            self.reactor.advance(0.5)
            if not self.reactor.ends[-1].dead:
                self.reactor.ends[-1].die()
        self.assertLess(len(self.reactor.processes), 10)


class UseTests(FleetCase):
    def use(self, configuration: Configuration, listeners: list[socket.socket]) -> Deferred[None]:
        return Deferred.fromCoroutine(self.fleet.use(configuration, listeners))

    def test_all(self) -> None:
        """All go on with a new configuration; it is in use when each has said so."""
        one, other = self.ready()
        new = self.configuration("new")
        used = self.use(new, [])
        self.assertEqual(one.read()[2:], ["Use 0"])
        self.assertNoResult(used)
        self.assertEqual(other.read()[2:], ["Use 0"])
        self.successResultOf(used)
        self.assertEqual(one.orders[-1][0], Use(new))

    def test_moved(self) -> None:
        """New sockets go to all, also to those that begin later; the old ones are let go."""
        one, _ = self.ready()
        listeners = bind("127.0.0.1", 0)
        self.addCleanup(listeners[0].close)
        self.use(self.configuration(), listeners)
        self.assertEqual(one.read()[2:], ["Use 1"])
        self.assertEqual([listener.fileno() for listener in self.listeners], [-1])
        self.assertNotEqual(listeners[0].fileno(), -1)
        one.die()
        self.reactor.advance(FIRST_WAIT)
        self.assertEqual(self.reactor.ends[-1].read(), ["Begin 1", "Listen 1"])

    def test_begins_later(self) -> None:
        """One that begins later has the new configuration, and records as the others do since the start."""
        one, _ = self.ready()
        new = self.configuration("new", fsync_interval=7.0)
        self.use(new, [])
        one.die()
        self.reactor.advance(FIRST_WAIT)
        self.reactor.ends[-1].read()
        begin = self.reactor.ends[-1].orders[0][0]
        logging = self.configuration().logging
        self.assertEqual(begin, Begin(new, self.spools[0], logging, 2, (("127.0.0.1", 8080),)))

    def test_before_all_are_ready(self) -> None:
        """A change during the start reaches all, and the new sockets are those that they begin with."""
        listeners = bind("127.0.0.1", 0)
        self.addCleanup(listeners[0].close)
        self.use(self.configuration("new"), listeners)
        self.read()
        self.assertEqual(self.read(), [["Begin 1", "Use 0", "Listen 1"]] * 2)

    def test_hangs(self) -> None:
        """A worker that hangs does not keep the others from it."""
        self.ready()
        used = self.use(self.configuration("new"), [])
        self.reactor.ends[0].read()
        self.reactor.advance(USE_PATIENCE)
        self.successResultOf(used)


class StopTests(FleetCase):
    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.fleet.stop())

    def test_stop(self) -> None:
        """All are told to stop, the sockets are let go, and it ends with the last."""
        one, other = self.ready()
        stopped = self.stop()
        self.assertEqual([each[2:] for each in self.read()], [["Stop 0"], ["Stop 0"]])
        self.assertEqual([listener.fileno() for listener in self.listeners], [-1])
        one.die(0)
        self.assertNoResult(stopped)
        other.die(0)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_in_the_middle_of_an_order(self) -> None:
        """Sockets that are on their way to a worker arrive, though they are let go here."""
        one, other = self.reactor.ends
        one.read()
        other.read()
        stopped = self.stop()
        self.assertEqual(one.read(), ["Begin 1", "Listen 1", "Stop 0"])
        one.die(0)
        other.die(0)
        self.successResultOf(stopped)

    def test_before_all_are_ready(self) -> None:
        """A stop during the start ends the start as well."""
        one, other = self.reactor.ends
        stopped = self.stop()
        self.assertEqual(one.read(), ["Begin 1", "Stop 0"])
        one.die(0)
        other.die(0)
        self.successResultOf(stopped)
        self.successResultOf(self.started)

    def test_hangs(self) -> None:
        """A worker that does not end in time is killed: what it has recorded is safe."""
        one, other = self.ready()
        stopped = self.stop()
        one.die(0)
        self.reactor.advance(TIMEOUT + STOP_PATIENCE - 0.1)
        self.assertEqual(other.process.signals, [])
        self.reactor.advance(0.1)
        self.assertEqual(other.process.signals, ["KILL"])
        other.die(9)
        self.successResultOf(stopped)

    def test_hurry(self) -> None:
        """Who is told again passes it on, and has less patience."""
        one, other = self.ready()
        stopped = self.stop()
        self.fleet.hurry()
        self.assertEqual([each[2:] for each in self.read()], [["Stop 0", "Hurry 0"]] * 2)
        self.reactor.advance(STOP_PATIENCE)
        self.assertEqual(other.process.signals, ["KILL"])
        one.die(9)
        other.die(9)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_is_waiting(self) -> None:
        """A worker that waits to be started again is not."""
        one, other = self.ready()
        one.die()
        stopped = self.stop()
        other.die(0)
        self.successResultOf(stopped)
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_no_descriptor_stays(self) -> None:
        """A fleet that has ended has left no descriptor open."""
        if not os.path.isdir("/proc/self/fd"):
            return
        for end in self.ready():
            end.die()
        before = len(os.listdir("/proc/self/fd"))
        self.reactor.advance(FIRST_WAIT)
        self.read()
        for end in self.reactor.ends[2:]:
            end.die()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class LinesTests(FleetCase):
    def test_output(self) -> None:
        """Lines of workers' outputs are passed on as they are, whole; what Python says is logged by name."""
        lines: list[str] = []
        observer = cast(ILogObserver, lambda event: lines.append(event["log_format"].format(**event)))
        publisher.addObserver(observer)
        self.addCleanup(publisher.removeObserver, observer)
        one, other = self.reactor.processes
        one.said(b"2026-11-25 12:00:00 fir")
        other.said(b"second\nthird\n")
        one.said(b"st\n")
        one.said(b"Traceback\n", 2)
        self.output.close()
        self.assertEqual(self.sink.data, b"second\nthird\n2026-11-25 12:00:00 first\n")
        self.assertEqual(lines, ["worker 1: Traceback"])
