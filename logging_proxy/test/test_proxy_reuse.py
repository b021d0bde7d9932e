"""The reuse of a connection to an upstream: what a response announces, and how it ends."""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.bodies import response_body
from logging_proxy.http.heads import parse_response_head
from logging_proxy.http.reuse import REST, Reuse, reuse_after
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, ok

HEAD = get().replace(b"GET", b"HEAD")
NEXT = get("/api/next")


def respond(status: str, *fields: str) -> bytes:
    """A response's head."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def answered(request: bytes, response: bytes, **changes: float) -> tuple[Stage, Wire]:
    """A client that has its answer, and the upstream that gave it."""
    stage = Stage(limits=limits(**changes))
    client = stage.client(request)
    stage.upstream.deliver(response)
    stage.turn()
    assert stage.captures[0].outcome == "complete"
    client.rst()
    return stage, stage.upstream


class AnnouncedBodyTests(SynchronousTestCase):
    def assertOwnAnswer(self, stage: Stage) -> None:
        """The next client is answered by a connection of its own."""
        client = stage.client(NEXT)
        self.assertEqual(len(stage.endpoint.wires), 2)
        stage.upstream.deliver(ok(b"mine"))
        self.assertEqual(client.received(), ok(b"mine"))

    def test_contradiction(self) -> None:
        """A status without a body that announces one: the connection is not used again, ever."""
        for status in ("204 No Content", "205 Reset Content"):
            for field in ("Content-Length: 38", "Transfer-Encoding: chunked"):
                response = respond(status, field)
                if status.startswith("205"):
                    response += ok(b"") if "38" in field else b"0\r\n\r\n"
                stage, upstream = answered(get(), response)
                self.assertTrue(upstream.closed, response)
                self.assertOwnAnswer(stage)

    def test_interim_contradiction(self) -> None:
        """So is one on which an interim response announced a body."""
        for field in ("Content-Length: 5", "Transfer-Encoding: chunked"):
            stage, upstream = answered(get(), respond("103 Early Hints", field) + ok(b"done"))
            self.assertTrue(upstream.closed)
            self.assertOwnAnswer(stage)

    def test_no_body_announced(self) -> None:
        """A length of 0 announces none, and a 204 or 304 that says nothing neither: used again at once."""
        for request, response in (
            (get(), respond("204 No Content")),
            (get(), respond("204 No Content", "Content-Length: 0")),
            (get(), respond("205 Reset Content", "Content-Length: 0")),
            (get(), respond("304 Not Modified")),
            (HEAD, respond("200 OK", "Content-Length: 0")),
            (get(), respond("103 Early Hints", "Content-Length: 0") + ok()),
        ):
            stage, upstream = answered(request, response)
            self.assertIs(stage.pool.take(), upstream.protocol, response)

    def test_body_that_may_not_come(self) -> None:
        """After a HEAD or 304 that announces a body a connection rests: bytes of it reach no client."""
        for request, status in ((HEAD, "200 OK"), (HEAD, "404 Not Found"), (get(), "304 Not Modified")):
            stage, upstream = answered(request, respond(status, f"Content-Length: {len(ok(b'late'))}"))
            self.assertFalse(upstream.closed)
            self.assertOwnAnswer(stage)
            with capturedLogs() as logs:
                upstream.deliver(ok(b"late"))
                stage.pass_time(REST)
            self.assertTrue(upstream.aborted)
            self.assertEqual([event["size"] for event in logs], [len(ok(b"late"))])
            self.assertIs(stage.pool.take(), stage.upstream.protocol)
            self.assertIsNone(stage.pool.take())

    def test_rested(self) -> None:
        """If nothing comes it is used again."""
        for request, response in (
            (HEAD, respond("200 OK", "Content-Length: 9")),
            (HEAD, respond("200 OK")),
            (get(), respond("304 Not Modified", "Content-Length: 9")),
        ):
            stage, upstream = answered(request, response)
            stage.pass_time(REST - 0.5)
            self.assertIsNone(stage.pool.take())
            stage.pass_time(0.5)
            self.assertIs(stage.pool.take(), upstream.protocol)

    def test_body_without_a_length(self) -> None:
        """A body that is made on the way may come at any time: the connection is not used again."""
        for request, status in ((HEAD, "200 OK"), (get(), "304 Not Modified")):
            _, upstream = answered(request, respond(status, "Transfer-Encoding: chunked"))
            self.assertTrue(upstream.closed)

    def test_resting_counts(self) -> None:
        """One that rests is one of the `pool_size`; its time passes, and the pool's end is its own."""
        response = respond("200 OK", "Content-Length: 9")
        _, upstream = answered(HEAD, response, pool_size=0)
        self.assertTrue(upstream.closed)
        stage, upstream = answered(HEAD, response, pool_idle_timeout=2.0)
        stage.pass_time(3)
        self.assertTrue(upstream.closed)
        stage, upstream = answered(HEAD, response)
        stage.pool.close()
        self.assertTrue(upstream.closed)


class AnnouncedTimeTests(SynchronousTestCase):
    def test_heeded(self) -> None:
        """The upstream's announced time-out is respected, less one second."""
        for field, used, not_used in (
            ("Keep-Alive: timeout=5", 3.9, 4.0),
            ("keep-alive: max=100, Timeout = 5", 3.9, 4.0),
            ('Keep-Alive: timeout="5"', 3.9, 4.0),
            ("Keep-Alive: timeout=5;max=9\r\nKeep-Alive: timeout=4", 2.9, 3.0),
        ):
            for seconds in (used, not_used):
                stage, upstream = answered(get(), ok(b"ok", field))
                stage.clock.advance(seconds)
                self.assertEqual(stage.pool.take() is upstream.protocol, seconds == used, field)

    def test_too_short(self) -> None:
        """A second or less is no time: the connection is closed."""
        for seconds in (0, 1):
            _, upstream = answered(get(), ok(b"ok", f"Keep-Alive: timeout={seconds}"))
            self.assertTrue(upstream.closed)

    def test_nothing_said(self) -> None:
        """A missing time-out, or one above our own, has no effect."""
        for field in (
            "Keep-Alive: timeout",
            "Keep-Alive: max=1",
            "Keep-Alive: xtimeout=1",
            "Keep-Alive: timeout=90",
        ):
            stage, upstream = answered(get(), ok(b"ok", field), pool_idle_timeout=15.0)
            stage.clock.advance(14)
            self.assertIs(stage.pool.take(), upstream.protocol, field)
            stage, upstream = answered(get(), ok(b"ok", field), pool_idle_timeout=15.0)
            stage.pass_time(16)
            self.assertIsNone(stage.pool.take())

    def test_each_response(self) -> None:
        """The last response is the one that counts."""
        stage, upstream = answered(get(), ok(b"ok", "Keep-Alive: timeout=2"))
        client = stage.client(NEXT)
        upstream.deliver(ok(b"ok"))
        client.rst()
        stage.clock.advance(5)
        self.assertIs(stage.pool.take(), upstream.protocol)

    def test_slow_client(self) -> None:
        """The time runs from the response's last byte, though the client takes longer to receive it."""
        stage = Stage()
        stage.client(get())
        stage.freeze_spool()
        stage.upstream.deliver(ok(b"ok", "Keep-Alive: timeout=5"))
        stage.clock.advance(3)
        stage.thaw_spool()
        stage.turn()
        self.assertEqual(stage.capture.outcome, "complete")
        stage.clock.advance(0.9)
        self.assertIsNotNone(stage.pool.take())
        stage = Stage()
        stage.client(get())
        stage.freeze_spool()
        stage.upstream.deliver(ok(b"ok", "Keep-Alive: timeout=5"))
        stage.clock.advance(4)
        stage.thaw_spool()
        self.assertIsNone(stage.pool.take())
        self.assertTrue(stage.upstream.closed)


class ReuseTests(SynchronousTestCase):
    def test_kept_with_the_head(self) -> None:
        """A head that comes again, to the same kind of request, is not looked at again."""
        head = parse_response_head(respond("200 OK", "Content-Length: 9"), 100)
        for method, expected in ((b"GET", Reuse()), (b"HEAD", Reuse(True))):
            for _ in range(2):
                found = reuse_after(head, method, response_body(head, method))
                self.assertEqual(found, expected)
                self.assertIs(reuse_after(head, method, response_body(head, method)), found)
