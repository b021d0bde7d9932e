"""Threads by purpose: a search that takes its time holds up nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.index import Abandoned, Page
from logging_proxy.logserver import threads
from logging_proxy.logserver.threads import Pool, TooBusy, make_threads
from logging_proxy.logserver.web.answers import Refused
from logging_proxy.test.web_stage import Pipe, ServerTestCase


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


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(threads, "ThreadPool", FakePool)
        self.patch(threads, "deferToThreadPool", self.defer)
        self.reactor = FakeReactor()
        self.work = Pool(self.reactor, "search", 2, 3)

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

    def test_no_limit(self) -> None:
        """Work whose queue has no limit is never refused."""
        self.work = Pool(self.reactor, "files", 2)
        for _ in range(1000):
            self.work.run(lambda: 1)
        self.assertEqual(len(self.pool.waiting), 1000)

    def test_purposes(self) -> None:
        """Every purpose has threads of its own, and only one of them stores, indexes or keeps house."""
        found = make_threads(self.reactor)
        pools = [found.storage._pool]  # type: ignore[attr-defined]
        for run in (found.queries, found.files, found.ingest, found.indexing, found.upkeep):
            run(lambda: 1)
            pools.append(run.__self__._pool)  # type: ignore[attr-defined]
        self.assertEqual(len(set(map(id, pools))), 6)
        self.assertEqual([pool.arguments[1] for pool in pools], [1, 4, 4, 2, 1, 1])


class PurposeTests(ServerTestCase):
    """Threads of all purposes but one hang."""

    def hang(self, *names: str) -> list[tuple[Deferred[Any], Any]]:
        """Work of these purposes is started by the test."""
        waiting: list[tuple[Deferred[Any], Any]] = []

        def later(work: Any) -> Deferred[Any]:
            waiting.append((Deferred(), work))
            return waiting[-1][0]

        more: dict[str, Any] = dict.fromkeys(names, later)
        self.parts.threads = replace(self.parts.threads, **more)
        self.server = self.parts.assemble(self.server.site._gate)
        return waiting

    def put(self, pipe: Pipe) -> None:
        message = b"GET /a HTTP/1.1\r\n\r\n"
        head = f"PUT /{self.id_of(7)}/request HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(message)}"
        pipe.send(head.encode() + b"\r\n\r\n" + message)

    def test_files(self) -> None:
        """Bytes and metadata are read while nothing else gets its turn."""
        id = self.capture(1)
        self.hang("queries", "ingest", "indexing", "upkeep")
        self.assertEqual(self.get(f"/api/exchanges/{id}")["id"], id)
        self.assertEqual(self.ask("GET", f"/api/exchanges/{id}/response").body[-2:], b"{}")

    def test_ingest(self) -> None:
        """A remote proxy gets its answers while nothing else gets its turn."""
        self.hang("queries", "files", "indexing", "upkeep")
        self.assertEqual(
            self.ask("GET", "/api/spools/0123456789abcdef0123456789abcdef").problem, "unknown-spool"
        )

    def test_queries(self) -> None:
        """Searches are answered while nothing else gets its turn."""
        self.hang("ingest", "files", "indexing", "upkeep")
        self.assertEqual(self.get("/api/exchanges")["exchanges"], [])

    def test_slow_lookup(self) -> None:
        """While an upload is looked up in the index, exchanges are stored; then it goes on in order."""
        waiting = self.hang("files")
        pipe = self.connect()
        self.put(pipe)
        self.assertEqual((len(waiting), pipe.value()), (1, b""))
        self.capture(1)
        done, work = waiting.pop()
        execute(work).chainDeferred(done)
        self.assertEqual(pipe.reply().status, 201)

    def test_lookup_fails(self) -> None:
        """An upload whose lookup fails by a fault of ours is refused, and nothing of it is kept."""
        waiting = self.hang("files")
        pipe = self.connect()
        self.put(pipe)
        waiting.pop()[0].errback(ValueError("a fault"))
        self.assertEqual(pipe.reply().problem, "internal")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.flushLoggedErrors(Refused)
        self.assertFalse(os.path.exists(os.path.join(self.log_dir, ".uploads")))

    def test_storage_asks_no_index(self) -> None:
        """The storage thread reads nothing from the index, whatever is uploaded."""
        self.put(self.connect())
        storage: Any = self.parts.threads.storage
        index: Any = self.parts.index
        get, run, stored = index.get, storage.run, []

        def without_index(work: Any) -> Deferred[Any]:
            index.get = None
            done = execute(work)
            index.get = get
            stored.append(work)
            return done

        storage.run = without_index
        self.server = self.parts.assemble(self.server.site._gate)
        self.parts.uploads._lately.clear()
        pipe = self.connect()
        self.put(pipe)
        storage.run = run
        self.assertEqual(pipe.reply().problem, "exists")
        self.assertTrue(stored)


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

        self.parts.threads = replace(self.parts.threads, queries=later)
        self.server = self.parts.assemble(self.server.site._gate)

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
        index: Any = self.parts.index
        index.list = None
        done, work = self.waiting.pop()
        done.callback(work())

    def test_client_leaves(self) -> None:
        """A search whose client leaves meanwhile is abandoned, and its thread free again."""
        pipe = self.connect()
        pipe.send(b"GET /api/exchanges?q=word HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        seen = []

        def slow(*args: Any, abandoned: Any) -> Page:
            seen.append(abandoned())
            pipe.protocol.connectionLost(Failure(ConnectionLost()))
            seen.append(abandoned())
            raise Abandoned

        index: Any = self.parts.index
        index.list = slow
        done, work = self.waiting.pop()
        done.callback(work())
        self.assertEqual(seen, [False, True])

    def test_too_many(self) -> None:
        """When too many wait the next one is told to come again."""
        self.full = True
        reply = self.ask("GET", "/api/exchanges?q=word")
        self.assertEqual((reply.status, reply.problem), (503, "busy"))
        self.assertIn("retry-after", reply.headers)
