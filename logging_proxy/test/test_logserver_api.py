"""`GET /api/exchanges`: listing, details, bytes; finished exchanges and those under way."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.exchanges import Side
from logging_proxy.index import Page, Row
from logging_proxy.index.cursors import read_cursor, write_cursor
from logging_proxy.logserver.live.listing import merged
from logging_proxy.logserver.web.answers import Refused
from logging_proxy.logserver.web.attachments import CHUNK, Span, read_range
from logging_proxy.test.web_stage import Pipe, ServerTestCase

SCRIPT = b"<script>alert(1)</script>"


class ListTests(ServerTestCase):
    def ids(self, query: str = "") -> list[str]:
        return [row["id"] for row in self.get(f"/api/exchanges{query}")["exchanges"]]

    def test_newest_first(self) -> None:
        """The newest comes first, and pages follow each other by their cursors."""
        ids = [self.capture(number) for number in range(1, 6)]
        ids.reverse()
        self.assertEqual(self.ids(), ids)
        first = self.get("/api/exchanges?limit=2")
        second = self.get(f"/api/exchanges?limit=3&cursor={first['next']}")
        self.assertEqual([row["id"] for row in first["exchanges"] + second["exchanges"]], ids)
        self.assertIsNone(second["next"])

    def test_filters(self) -> None:
        """Filters by route, status, class, outcome, model, session, time and text, alone and together."""
        a = self.capture(1, b'{"model":"gpt-5","messages":[{"content":"apples"}]}')
        b = self.capture(2, b'{"text":"pears"}', route=b"other", method=b"GET")
        for query, wanted in (
            ("route=other", [b]),
            ("route=lmstudio", [a]),
            ("method=get", [b]),
            ("status=200", [b, a]),
            ("status=4xx", []),
            ("outcome=complete", [b, a]),
            ("outcome=interrupted", []),
            ("model=gpt-5", [a]),
            ("q=apples", [a]),
            ("q=pears&route=other", [b]),
            ("q=pears&route=lmstudio", []),
            ("since=2025-09-13T00:11:11Z", [b]),
            ("until=2025-09-13T00:11:11Z", [a]),
        ):
            self.assertEqual(self.ids(f"?{query}"), wanted, query)

    def test_unknown(self) -> None:
        """What cannot have been meant is told, with what is known, and not answered with nothing."""
        self.capture(1)
        self.capture(2, route=b"other")
        id = self.id_of(1)
        for target, parameter, known in (
            (
                "?rout=lmstudio",
                "rout",
                "cursor, limit, method, model, outcome, q, route, run, session, since",
            ),
            ("?route=nope", "route", "there is no such route; known routes: configured, lmstudio, other"),
            (
                "?outcome=foo",
                "outcome",
                "no outcome; known outcomes: complete, client_closed, upstream_closed",
            ),
            ("?status=9xx", "status", "neither a status such as 200 nor a class such as 4xx"),
            (f"/{id}?revael=true", "revael", "there is no such parameter; known parameters: reveal"),
            (f"/{id}/request?reveal=true", "reveal", "there is no such parameter; known parameters: none"),
        ):
            reply = self.ask("GET", f"/api/exchanges{target}")
            problem = reply.json()
            self.assertEqual((reply.status, problem["parameter"]), (400, parameter), target)
            self.assertIn(known, problem["detail"])
        self.assertEqual(self.ids("?route=configured"), [])
        self.assertEqual(self.ids("?route=other&status=500"), [])

    def test_given_twice(self) -> None:
        """A parameter that is given twice is refused: which one is meant?"""
        self.assertEqual(self.ask("GET", "/api/exchanges?limit=1&limit=2").problem, "bad-parameter")

    def test_under_way(self) -> None:
        """An exchange is listed from its head on, with null as its outcome, and filters apply to it."""
        done = self.capture(1)
        script = self.script(2)
        self.record(script.head())
        (row, _) = self.get("/api/exchanges")["exchanges"]
        self.assertEqual((row["id"], row["outcome"], row["status"]), (self.id_of(2), None, None))
        self.assertIsNone(row["completed_at"])
        self.record(script.response_head(), script.response(b"abc"))
        row = self.get("/api/exchanges?status=200&limit=1")["exchanges"][0]
        self.assertEqual((row["status"], row["response"]["bytes"]), (200, 3))
        self.assertEqual(self.ids("?status=5xx"), [])
        self.assertEqual(self.ids("?route=lmstudio&status=5xx"), [])
        self.assertEqual(self.ids("?outcome=complete"), [done])
        self.assertEqual(self.ids("?q=abc"), [])

    def test_never_gone(self) -> None:
        """From its end until the index has it, an exchange is listed once all the same."""
        self.indexer.held = []
        script = self.script(1)
        self.record(*script.simple())
        self.assertEqual(self.ids(), [self.id_of(1)])
        self.publish()
        (row,) = self.get("/api/exchanges")["exchanges"]
        self.assertEqual((row["id"], row["outcome"]), (self.id_of(1), "complete"))
        held, self.indexer.held = self.indexer.held, None
        for stored in held:
            self.indexer.on_stored(stored)
        self.assertEqual(self.ids(), [self.id_of(1)])
        self.assertEqual(self.parts.observers.under_way.row(self.id_of(1)), None)

    def test_after_a_restart(self) -> None:
        """Exchanges under way are listed again when another life of the server takes them up."""
        script = self.script(1)
        self.record(script.head(), script.response_head(), script.response(b"abc"))
        self.publish()
        self.spools.close()
        self.build()
        self.spools.turn()
        (row,) = self.get("/api/exchanges")["exchanges"]
        self.assertEqual((row["id"], row["outcome"], row["response"]["bytes"]), (self.id_of(1), None, 3))


class MergeTests(SynchronousTestCase):
    """Pages of indexed rows and rows under way."""

    @settings(max_examples=200, deadline=None)
    @given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(1, 7))
    def test_pages(self, indexed: set[int], waiting: set[int], limit: int) -> None:
        """Following the cursors gives every exchange once and in order, however they are mixed."""
        rows = {number: Row(f"i{number}", number) for number in indexed}
        under_way = [Row(f"w{number}", number) for number in sorted(waiting - indexed, reverse=True)]

        def ask(cursor: str | None, limit: int) -> Page:
            below = read_cursor(cursor) if cursor else 1000
            found = [rows[n] for n in sorted(rows, reverse=True) if n < below]
            more = len(found) > limit
            return Page(found[:limit], write_cursor(found[limit - 1].started) if more else None)

        seen: list[int] = []
        cursor: str | None = None
        while True:
            left = [row for row in under_way if cursor is None or row.started < read_cursor(cursor)]
            page = merged(ask, left, cursor, limit)
            self.assertLessEqual(len(page.rows), limit)
            seen += [row.started for row in page.rows]
            cursor = page.next
            if cursor is None:
                break
        self.assertEqual(seen, sorted(indexed | waiting, reverse=True))


class DetailsTests(ServerTestCase):
    def test_both_halves(self) -> None:
        """The metadata of both halves, and what was understood."""
        id = self.capture(1, b'{"model":"gpt-5","stream":true}', b'{"b":2}')
        found = self.get(f"/api/exchanges/{id}")
        self.assertEqual((found["id"], found["model"], found["stream"]), (id, "gpt-5", True))
        self.assertEqual((found["outcome"], found["status"]), ("complete", 200))
        for side in Side:
            with open(self.file(found[side.value]["filename"], "_metadata.json")) as file:
                self.assertEqual(found[side.value], json.load(file))

    def file(self, name: str, ending: str = ".bin") -> str:
        return os.path.join(self.log_dir, name.removesuffix(".bin") + ending)

    def test_redacted(self) -> None:
        """Secrets in headers and URLs are shown only when that is asked for."""
        script = self.script(1)
        self.record(script.head(b"Authorization: Bearer canary-secret\r\n"), *script.simple()[1:])
        self.publish()
        hidden = self.ask("GET", f"/api/exchanges/{self.id_of(1)}").body
        self.assertNotIn(b"canary", hidden)
        self.assertIn(b"Authorization", hidden)
        shown = self.ask("GET", f"/api/exchanges/{self.id_of(1)}?reveal=true")
        self.assertIn(b"canary", shown.body)
        self.assertNotIn(b"canary", self.ask("GET", "/api/exchanges").body)

    def test_under_way(self) -> None:
        """Of an exchange under way there is what is known so far; the rest is null."""
        script = self.script(1)
        self.record(script.head(), script.request(b"abc"))
        found = self.get(f"/api/exchanges/{self.id_of(1)}")
        self.assertIsNone(found["outcome"])
        self.assertIsNone(found["response"])
        request = found["request"]
        self.assertEqual((request["bytes"], request["sha256"], request["completed_at"]), (3, None, None))
        self.record(script.response_head(), script.response(b"xy"))
        response = self.get(f"/api/exchanges/{self.id_of(1)}")["response"]
        self.assertEqual((response["status"], response["bytes"], response["outcome"]), (200, 2, None))

    def test_unknown(self) -> None:
        """Ids that are none are 400, those of no exchange 404, on every address."""
        for tail in ("", "/request", "/response"):
            for id, wanted in (
                ("99999999-9999-9999-9999-999999999999", (404, "unknown-exchange")),
                ("092d0424", (400, "bad-id")),
                ("..%2f..%2fetc", (400, "bad-id")),
                ("%2e%2e", (400, "bad-id")),
                (self.id_of(171).upper(), (400, "bad-id")),
                ("x" * 4096, (400, "bad-id")),
                ("%00", (400, "bad-id")),
            ):
                reply = self.ask("GET", f"/api/exchanges/{id}{tail}")
                self.assertEqual((reply.status, reply.problem), wanted, (id, tail))


class BytesTests(ServerTestCase):
    def test_attachment(self) -> None:
        """The bytes come exactly as they are stored, and as nothing that a browser runs or shows."""
        script = self.script(1)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Disposition: inline\r\n\r\n"
        records = script.simple(response=SCRIPT)
        records[2] = script.response_head(head)
        self.record(*records)
        self.publish()
        reply = self.ask("GET", f"/api/exchanges/{self.id_of(1)}/response")
        self.assertEqual((reply.status, reply.body), (200, head + SCRIPT))
        self.assertEqual(reply.headers["content-type"], "application/octet-stream")
        self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
        self.assertEqual(reply.headers["content-disposition"], 'attachment; filename="response.bin"')
        self.assertTrue(reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'"))
        request = self.ask("GET", f"/api/exchanges/{self.id_of(1)}/request")
        self.assertTrue(request.body.endswith(b'\r\n\r\n{"a":1}'))

    def test_head(self) -> None:
        """HEAD tells the size and sends nothing."""
        id = self.capture(1)
        whole = self.ask("GET", f"/api/exchanges/{id}/request")
        reply = self.ask("HEAD", f"/api/exchanges/{id}/request")
        self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertEqual(reply.headers["content-length"], str(len(whole.body)))

    def test_range(self) -> None:
        """A range is answered with its bytes, one beyond the file with 416 and the size."""
        id = self.capture(1, response=b"0123456789")
        target = f"/api/exchanges/{id}/response"
        whole = self.ask("GET", target).body
        reply = self.ask("GET", target, Range="bytes=-10")
        self.assertEqual((reply.status, reply.body), (206, b"0123456789"))
        self.assertEqual(
            reply.headers["content-range"], f"bytes {len(whole) - 10}-{len(whole) - 1}/{len(whole)}"
        )
        reply = self.ask("GET", target, Range=f"bytes={len(whole)}-")
        self.assertEqual((reply.status, reply.problem), (416, "bad-range"))
        self.assertEqual(reply.headers["content-range"], f"bytes */{len(whole)}")

    def test_under_way(self) -> None:
        """While an exchange is under way its bytes so far can be fetched; a response not begun is 404."""
        script = self.script(1)
        self.record(script.head(), script.request(b"abc"))
        target = f"/api/exchanges/{self.id_of(1)}"
        self.assertTrue(self.ask("GET", f"{target}/request").body.endswith(b"\r\n\r\nabc"))
        reply = self.ask("GET", f"{target}/response")
        self.assertEqual((reply.status, reply.problem), (404, "no-bytes"))
        self.record(script.response_head(), script.response(b"xy"))
        self.assertTrue(self.ask("GET", f"{target}/response").body.endswith(b"\r\n\r\nxy"))

    def test_deleted(self) -> None:
        """Bytes that are gone are 410; a link or a directory in their place is not followed."""
        id = self.capture(1)
        name = self.get(f"/api/exchanges/{id}")["response"]["filename"]
        path = os.path.join(self.log_dir, name)
        os.unlink(path)
        replacements = (lambda: None, lambda: os.symlink("/etc/passwd", path), lambda: os.mkdir(path))
        for replace in replacements:
            replace()
            reply = self.ask("GET", f"/api/exchanges/{id}/response")
            self.assertEqual((reply.status, reply.problem), (410, "deleted"))
            if os.path.islink(path):
                os.unlink(path)

    def test_back_pressure(self) -> None:
        """A client that does not read holds no more than a chunk; when it reads again the rest comes."""
        body = bytes(range(256)) * 16 * 1024
        id = self.capture(1, response=body)
        pipe = self.connect()
        pipe.send(f"GET /api/exchanges/{id}/response HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.assertTrue(pipe.reply().body.endswith(body))
        pipe = Slow(self.server.site)
        pipe.send(f"GET /api/exchanges/{id}/response HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.assertLess(len(pipe.value()), 2 * CHUNK)
        while pipe.paused:
            pipe.read_on()
        self.assertTrue(pipe.value().endswith(body))

    def test_client_leaves(self) -> None:
        """A client that leaves in the middle ends the reading, without a word in the log."""
        id = self.capture(1, response=bytes(4 * CHUNK))
        pipe = Slow(self.server.site)
        pipe.send(f"GET /api/exchanges/{id}/response HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sent = len(pipe.value())
        pipe.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(pipe.value()), sent)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_ranges(self) -> None:
        """Ranges as RFC 9110 has them; what is no single range is answered with the whole."""
        for value, wanted in (
            (None, Span(0, 100)),
            ("bytes=0-0", Span(0, 1, True)),
            ("bytes=10-", Span(10, 100, True)),
            ("bytes=90-1000", Span(90, 100, True)),
            ("bytes=-1000", Span(0, 100, True)),
            ("bytes=5-4", Span(0, 100)),
            ("bytes=-", Span(0, 100)),
            ("bytes=0-1,5-6", Span(0, 100)),
            ("lines=1-2", Span(0, 100)),
        ):
            self.assertEqual(read_range(value, 100), wanted, value)
        for value in ("bytes=100-", "bytes=-0", "bytes=200-300"):
            self.assertRaises(Refused, read_range, value, 100)


class Slow(Pipe):
    """A client that stops reading whenever something comes."""

    paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(data) > 1000:
            self.paused = True
            producer: Any = self.producer
            producer.pauseProducing()

    def read_on(self) -> None:
        self.paused = False
        producer: Any = self.producer
        producer.resumeProducing()
