"""Threads by purpose: a search that takes its time holds up nothing else."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver import threads
from logging_proxy.logserver.threads import Threads, TooBusy
from logging_proxy.test.web_stage import ServerTestCase


class FakePool:
    """Starts work when it is told to."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.started = 0
        self.waiting: list[Any] = []

    def start(self) -> None:
        self.started += 1

    def stop(self) -> None: ...


class FakeReactor:
    def __init__(self) -> None:
        self.triggers: list[Any] = []

    def addSystemEventTrigger(self, *trigger: Any) -> None:
        self.triggers.append(trigger)


class ThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(threads, "ThreadPool", FakePool)
        self.patch(threads, "deferToThreadPool", self.defer)
        self.reactor = FakeReactor()
        self.work = Threads(self.reactor, "search", 2, 3)

    def defer(self, reactor: Any, pool: FakePool, work: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        pool.waiting.append((done, work))
        return done

    @property
    def pool(self) -> Any:
        return self.work._pool

    def test_started_once(self) -> None:
        """Threads are there with the first work, and end with the reactor."""
        self.assertEqual((self.pool.started, self.reactor.triggers), (0, []))
        for _ in range(3):
            self.work.run(lambda: 1)
        self.assertEqual((self.pool.started, len(self.reactor.triggers)), (1, 1))

    def test_too_much(self) -> None:
        """What would wait behind too much is refused; results and failures make room."""
        results = [self.work.run(lambda: 1) for _ in range(5)]
        self.assertRaises(TooBusy, self.work.run, lambda: 1)
        self.pool.waiting[0][0].callback(7)
        self.pool.waiting[1][0].errback(ValueError())
        self.assertEqual(self.successResultOf(results[0]), 7)
        self.failureResultOf(results[1], ValueError)
        self.work.run(lambda: 1)
        self.work.run(lambda: 1)
        self.assertRaises(TooBusy, self.work.run, lambda: 1)


class SearchTests(ServerTestCase):
    """Searches that are under way, and others that wait."""

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        self.full = False

        def later(work: Any) -> Deferred[Any]:
            if self.full:
                raise TooBusy
            self.waiting.append((Deferred(), work))
            return self.waiting[-1][0]

        self.builder.run_search = later
        self.server = self.builder.build(self.server.site._gate)

    def test_nothing_waits(self) -> None:
        """While searches take their time exchanges are stored, fetched and looked up."""
        pipe = self.connect()
        pipe.send(b"GET /api/exchanges?q=word HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        self.assertEqual(len(self.waiting), 1)
        id = self.capture(1)
        self.assertEqual(self.get(f"/api/exchanges/{id}")["id"], id)
        self.assertEqual(self.ask("GET", f"/api/exchanges/{id}/response").body[-2:], b"{}")
        done, work = self.waiting.pop()
        execute(work).chainDeferred(done)
        self.assertEqual(pipe.reply().status, 200)

    def test_client_left(self) -> None:
        """A search whose client has left by its turn is not made."""
        pipe = self.connect()
        pipe.send(b"GET /api/exchanges?q=word HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        pipe.protocol.connectionLost(Failure(ConnectionLost()))
        index: Any = self.builder.index
        index.list = None
        done, work = self.waiting.pop()
        done.callback(work())

    def test_too_many(self) -> None:
        """When too many wait the next one is told to come again."""
        self.full = True
        reply = self.ask("GET", "/api/exchanges?q=word")
        self.assertEqual((reply.status, reply.problem), (503, "busy"))
        self.assertIn("retry-after", reply.headers)
