"""A run's proxy: its counts, its spool, its logging server, and the link to the command line."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, cast

from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration
from logging_proxy.recording.rings import SpoolBusy
from logging_proxy.recording.tail import SpoolLock
from logging_proxy.service.child import ChildProcess
from logging_proxy.service.chosen import choose
from logging_proxy.service.run import (
    LOOK,
    RunService,
    Tally,
    any_is_read,
    first_free_slot,
    hello,
    is_read,
    settings_of_run,
)


def loaded(**options: str) -> Configuration:
    return settings_of_run(choose(**options).load({}))


class HelloTests(SynchronousTestCase):
    def variables(self, everything: bool = True, **options: str) -> dict[str, str]:
        found: dict[str, str] = hello(loaded(**options), 4000, everything)["variables"]
        self.assertEqual(found.pop("LOGGING_PROXY_BASE_URL"), "http://127.0.0.1:4000")
        return {name: url.removeprefix("http://127.0.0.1:4000") for name, url in found.items()}

    def test_routes(self) -> None:
        """The built-in routes have the variables of their providers, at the run's own listener."""
        self.assertEqual(
            self.variables(everything=False),
            {
                "OPENAI_BASE_URL": "/openai/v1",
                "ANTHROPIC_BASE_URL": "/anthropic",
                "OPENROUTER_BASE_URL": "/api/v1",
            },
        )

    def test_one_destination(self) -> None:
        """A single destination takes what the usual SDKs send, with or without a version in its path."""
        both = {"OPENAI_BASE_URL": "/v1", "ANTHROPIC_BASE_URL": ""}
        for url, expected in (
            ("http://127.0.0.1:9000", both),
            ("https://llm.example/gateway/", both),
            ("https://llm.example/v1", {"OPENAI_BASE_URL": ""}),
            ("https://llm.example/openai/v2beta/", {"OPENAI_BASE_URL": ""}),
            ("http://127.0.0.1:11434", {**both, "OLLAMA_HOST": ""}),
        ):
            self.assertEqual(self.variables(to=url), expected, url)

    def test_own_listener(self) -> None:
        """A run listens on loopback alone, on a port of its own, and writes no console lines."""
        configuration = loaded()
        self.assertEqual((configuration.server.host, configuration.server.port), ("127.0.0.1", 0))
        self.assertFalse(configuration.logging.console)
        self.assertEqual(settings_of_run(configuration, 4000).server.port, 4000)


class TallyTests(SynchronousTestCase):
    def count(self, *events: dict[str, Any]) -> dict[str, int]:
        tally = Tally()
        for event in events:
            tally(event)
        return tally.document()

    def test_counts(self) -> None:
        """Each exchange counts once; errors are bad outcomes and statuses from 400 on, and not both twice."""
        for response, outcome, errors in (
            (b"HTTP/1.1 200 OK\r\n\r\n", "complete", 0),
            (b"HTTP/1.1 200 OK\r\n\r\n", "client_closed", 0),
            (b"HTTP/1.1 200 OK\r\n\r\n", "upstream_reset", 1),
            (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "complete", 1),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "connect_failed", 1),
            (b"", "protocol_error", 1),
        ):
            id = b"1" * 16
            at_once = {"exchange": id, "method": b"GET", "response": response, "outcome": outcome}
            steps: list[dict[str, Any]] = [
                {"exchange": id, "method": b"GET"},
                {"exchange": id, "response": response},
                {"exchange": id, "outcome": outcome},
            ]
            expected = {"exchanges": 1, "errors": errors}
            self.assertEqual(self.count(at_once), expected, outcome)
            self.assertEqual(self.count(*steps), expected, outcome)

    def test_failure_of_an_observer(self) -> None:
        """An event that is no exchange's does not count."""
        self.assertEqual(self.count({"log_failure": None}), {"exchanges": 0, "errors": 0})


class SpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.root.mkdir()

    def test_slots(self) -> None:
        """A run takes the first spool that is free, so that spools do not become more and more."""
        busy = {"run-1", "run-2"}

        def attempt(spool: Path) -> str:
            if spool.name in busy:
                raise SpoolBusy(spool.name)
            return spool.name

        self.assertEqual(first_free_slot(self.root, attempt), "run-3")
        busy.discard("run-1")
        self.assertEqual(first_free_slot(self.root, attempt), "run-1")

    def test_readers(self) -> None:
        """A spool is read while another process, or another holder of its lock, has it."""
        spool = self.root / "5601"
        self.assertFalse(is_read(spool))
        spool.mkdir()
        self.assertFalse(any_is_read(self.root))
        lock = SpoolLock(str(spool))
        self.assertTrue(lock.acquire())
        self.addCleanup(lock.release)
        self.assertTrue(is_read(spool))
        self.assertTrue(any_is_read(self.root))
        lock.release()
        self.assertFalse(any_is_read(self.root))
        self.assertTrue(lock.acquire(), "the look has left the lock taken")
        self.assertFalse(any_is_read(self.root / "none"))


class FakeServer:
    """A logging server's process."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    async def stop(self, patience: float) -> None:
        self.done.append("stop")


class LinkReactor(MemoryReactorClock):
    """Connects the adopted descriptor to a transport in memory."""

    def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
        self.link = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.link.makeConnection(self.transport)


class RunServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = LinkReactor()
        self.server = FakeServer()
        self.tally = Tally()
        self.stops = 0
        self.has_reader = False

    def start(self) -> RunService:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        service = RunService(
            self.reactor,
            theirs.detach(),
            {"variables": {}},
            self.tally,
            lambda: self.has_reader,
            self.make_server,
            1.0,
            self.stop_process,
        )
        service.startService()
        for call, args, kwargs in self.reactor.whenRunningHooks:
            call(*args, **kwargs)
        return service

    def make_server(self) -> ChildProcess:
        return cast(ChildProcess, self.server)

    def stop_process(self) -> None:
        self.stops += 1

    def said(self) -> list[Any]:
        return [json.loads(line) for line in self.reactor.transport.value().splitlines()]

    def stop(self, service: RunService) -> None:
        stopped = service.stopService()
        self.reactor.link.connectionLost()
        self.successResultOf(stopped)

    def test_says_hello_and_counts(self) -> None:
        """The command line is told where to go at the start, and the counts when everything is stored."""
        self.has_reader = True
        service = self.start()
        self.assertEqual(self.said(), [{"variables": {}}])
        self.tally({"exchange": b"1", "method": b"GET", "outcome": "complete"})
        self.stop(service)
        self.assertEqual(self.said()[1:], [{"exchanges": 1, "errors": 0}])
        self.assertEqual(self.server.done, [])

    def test_ends_with_the_command_line(self) -> None:
        """The end of the link, however it comes about, ends the proxy once; a stopping one is left alone."""
        service = self.start()
        self.reactor.link.readConnectionLost()
        self.assertEqual(self.stops, 1)
        self.stop(service)
        self.assertEqual(self.stops, 1)

    def test_server_without_a_reader(self) -> None:
        """A logging server is started after two looks that found no reader, and then no look follows."""
        service = self.start()
        self.reactor.advance(LOOK)
        self.assertEqual(self.server.done, [])
        self.reactor.advance(LOOK)
        self.reactor.advance(10 * LOOK)
        self.assertEqual(self.server.done, ["start"])
        self.stop(service)
        self.assertEqual(self.server.done, ["start", "stop"])

    def test_reader_comes_late(self) -> None:
        """A reader that is seen at the second look is enough, and the next one may leave again."""
        self.start()
        for seen in (False, True, False, True):
            self.has_reader = seen
            self.reactor.advance(LOOK)
        self.assertEqual(self.server.done, [])

    def test_short_run(self) -> None:
        """A run that ends before any look is stored, too."""
        service = self.start()
        self.stop(service)
        self.assertEqual(self.server.done, ["start", "stop"])

    def test_server_cannot_start(self) -> None:
        """The counts are said even if nothing can be stored now; the spool has it."""

        def fail() -> ChildProcess:
            raise OSError("no port")

        self.patch(self, "make_server", fail)
        service = self.start()
        stopped = service.stopService()
        self.reactor.link.connectionLost()
        self.failureResultOf(stopped, OSError)
        self.assertEqual(self.said()[1:], [{"exchanges": 0, "errors": 0}])

    def test_command_line_is_gone(self) -> None:
        """Nothing is said when nobody listens any more."""
        self.has_reader = True
        service = self.start()
        self.reactor.link.connectionLost()
        self.successResultOf(service.stopService())
        self.assertEqual(len(self.said()), 1)

    def test_descriptor_is_ours_alone(self) -> None:
        """The link's descriptor is closed once the reactor has its own."""
        ours, theirs = socket.socketpair()
        fd = theirs.detach()
        self.addCleanup(ours.close)
        service = RunService(
            self.reactor, fd, {}, self.tally, lambda: True, lambda: None, 1.0, self.stop_process
        )
        service.startService()
        for call, args, kwargs in self.reactor.whenRunningHooks:
            call(*args, **kwargs)
        self.assertRaises(OSError, os.fstat, fd)
