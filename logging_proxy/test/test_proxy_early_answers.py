"""An upstream that answers before it has the whole request."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, ok, post

REFUSED = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
BEGUN = post(b"x" * 100_000)[:-90_000]


class EarlyAnswerTests(SynchronousTestCase):
    def test_passed_on_at_once(self) -> None:
        """The answer reaches the client while it still sends, tells it to stop, and ends its connection."""
        stage = Stage()
        client = stage.client(BEGUN)
        stage.upstream.deliver(REFUSED)
        received = client.received()
        self.assertEqual(received.replace(b"Connection: close\r\n", b""), REFUSED)
        self.assertIn(b"Connection: close\r\n", received)
        self.assertTrue(client.closed)

    def test_no_more_goes_up(self) -> None:
        """Further bytes of the client are discarded, and the upstream's connection is not used again."""
        stage = Stage()
        client = stage.client(BEGUN)
        stage.upstream.deliver(REFUSED)
        stage.turn()
        stage.upstream.received()
        client.deliver(b"y" * 90_000)
        self.assertEqual(stage.upstream.received(), b"")
        self.assertTrue(stage.upstream.aborted)
        self.assertIsNone(stage.pool.take())
        self.assertEqual(client.waiting, 0)

    def test_captured(self) -> None:
        """The capture has the bytes that were sent up, no last piece, and a note; it is complete."""
        stage = Stage()
        stage.client(BEGUN)
        stage.upstream.deliver(REFUSED)
        capture = stage.capture
        self.assertEqual(len(capture.body(Kind.REQUEST_PIECE)), 10_000)
        self.assertFalse(capture.complete(Kind.REQUEST_PIECE))
        self.assertEqual(capture.outcome, "complete")
        self.assertIn(b"before the request's body was complete", capture.body(Kind.NOTE))
        self.assertEqual(stage.problems(), [])

    def test_upstream_resets_behind_it(self) -> None:
        """An answer that was read before the reset counts: the client gets it, not a 502."""
        for end in (Wire.rst, Wire.fin):
            stage = Stage()
            client = stage.client(BEGUN)
            stage.upstream.deliver(REFUSED)
            end(stage.upstream)
            stage.turn()
            self.assertTrue(client.received().startswith(b"HTTP/1.1 413 "))
            self.assertFalse(client.aborted)
            self.assertEqual(stage.capture.outcome, "complete")
            self.assertEqual(stage.problems(), [])

    def test_both_directions(self) -> None:
        """An upstream may stream its answer while it still reads; both go on, and both are captured."""
        stage = Stage()
        client = stage.client(b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        stage.upstream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"1\r\na\r\n", b"1\r\nb\r\n"):
            stage.upstream.received(), client.received()
            client.deliver(piece)
            self.assertEqual(stage.upstream.received(), piece)
            stage.upstream.deliver(piece)
            self.assertEqual(client.received(), piece)
        client.deliver(b"0\r\n\r\n")
        stage.upstream.deliver(b"0\r\n\r\n")
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.capture.of(Kind.NOTE), [])
        self.assertTrue(client.closed)
        self.assertIsNotNone(stage.pool.take())
        self.assertEqual(stage.problems(), [])

    def test_rest_waits_for_the_spool(self) -> None:
        """A connection on which the rest of a request is still owed is never used for the next request."""
        stage = Stage()
        client = stage.client(post(b"x" * 10)[:-5])
        stage.upstream.deliver(ok(b"early")[:-3])
        stage.freeze_spool()
        stage.upstream.deliver(b"r")
        client.deliver(b"y" * 5)
        stage.upstream.reading = True
        stage.upstream.deliver(b"ly")
        stage.thaw_spool()
        stage.turn()
        self.assertTrue(client.received().endswith(b"early"))
        self.assertIsNone(stage.pool.take())
        stage.client(get("/api/next"))
        self.assertEqual(len(stage.endpoint.wires), 2)
        self.assertTrue(stage.upstream.received().startswith(b"GET /next "))
        self.assertEqual(stage.captures[0].outcome, "complete")

    def test_rest_waits_for_the_upstream(self) -> None:
        """So is one whose upstream has not read all of the request."""
        stage = Stage()
        client = stage.client(post(b"x" * 400_000)[:-300_000])
        stage.upstream.stalled = True
        client.deliver(b"y" * 300_000)
        stage.upstream.deliver(ok(b"early"))
        stage.turn()
        self.assertTrue(client.received().endswith(b"early"))
        self.assertIsNone(stage.pool.take())
        stage.turn()
        self.assertTrue(client.reading)
