"""A client that leaves: the upstream is told at once, and the capture says so."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.server import ServerLimits
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.proxy.messages import MOMENT
from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, client_of, get, ok, post

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
LEAVING = (Wire.fin, Wire.rst)


class ClientLeftTests(SynchronousTestCase):
    def assertGone(self, stage: Stage) -> None:
        """The upstream is reset, the capture ends with client_closed, nothing is left."""
        stage.turn(MOMENT)
        self.assertTrue(all(wire.aborted for wire in stage.endpoint.wires))
        self.assertEqual(stage.capture.outcome, "client_closed")
        self.assertEqual(stage.problems(), [])
        self.assertEqual(len(stage.site.connections), 0)
        self.assertIsNone(stage.pool.take())
        self.assertEqual([call for call in stage.clock.getDelayedCalls() if call.getTime() < 1e9], [])

    def test_while_connecting(self) -> None:
        """The attempt to connect is given up."""
        for leave in LEAVING:
            stage = Stage()
            stage.endpoint.manual = True
            client = stage.client(get())
            leave(client)
            self.assertEqual(stage.endpoint.cancelled, 1)
            self.assertGone(stage)

    def test_while_shaking_hands(self) -> None:
        """A TLS connection whose exchange is over is reset, not kept, and there is no log message."""
        stage = Stage(secure=True)
        client = stage.client(get())
        client.rst()
        self.assertGone(stage)

    def test_during_upload(self) -> None:
        """In the middle of its request."""
        for leave in LEAVING:
            stage = Stage()
            client = stage.client(post(b"x" * 10)[:-4])
            leave(client)
            self.assertGone(stage)
            self.assertEqual(stage.capture.body(Kind.REQUEST_PIECE), b"x" * 6)
            self.assertFalse(stage.capture.complete(Kind.REQUEST_PIECE))

    def test_while_waiting(self) -> None:
        """After its request, before anything came back."""
        for leave in LEAVING:
            stage = Stage()
            client = stage.client(get())
            leave(client)
            self.assertGone(stage)

    def test_during_stream(self) -> None:
        """In the middle of a stream: the bytes so far are in the capture, which is not complete."""
        for leave in LEAVING:
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(STREAM)
            leave(client)
            self.assertGone(stage)
            self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"abc")
            self.assertFalse(stage.capture.complete(Kind.RESPONSE_PIECE))

    def test_while_spool_is_full(self) -> None:
        """While its response waits for the spool; room in it afterwards has no effect."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(STREAM)
        stage.freeze_spool()
        stage.upstream.deliver(b"1\r\nx\r\n")
        client.rst()
        stage.thaw_spool()
        stage.turn()
        self.assertGone(stage)

    def test_after_the_last_byte(self) -> None:
        """When the response was complete and only waited to be handed over, it stays complete."""
        stage = Stage()
        client = stage.client(get())
        stage.freeze_spool()
        stage.upstream.deliver(ok(b"abc"))
        client.rst()
        stage.thaw_spool()
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.problems(), [])

    def test_half_close_allowed(self) -> None:
        """With `half_close: allow` a client may end its sending and still wait."""
        stage = Stage(server=ServerLimits(half_close_cancels=False))
        client = stage.client(get())
        client.fin()
        stage.upstream.deliver(ok(b"abc"))
        stage.turn()
        self.assertTrue(client.received().endswith(b"abc"))
        self.assertTrue(client.closed)
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.problems(), [])

    def test_half_close_during_upload(self) -> None:
        """... but not before its request is complete."""
        stage = Stage(server=ServerLimits(half_close_cancels=False))
        client = stage.client(post(b"x" * 10)[:-4])
        client.fin()
        self.assertGone(stage)

    def test_malformed_body(self) -> None:
        """A body that stops being chunks: 400, the upstream reset; the capture says whose fault it was."""
        stage = Stage()
        client = stage.client(b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.deliver(b"zz\r\n")
        self.assertTrue(client.received().startswith(b"HTTP/1.1 400 "))
        self.assertTrue(stage.upstream.aborted)
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertIn("client", stage.capture.error)
        self.assertEqual(stage.problems(), [])

    def test_malformed_body_after_the_answer_began(self) -> None:
        """Once the response has begun there is no room for another: the client is reset."""
        stage = Stage()
        client = stage.client(b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        stage.upstream.deliver(STREAM)
        client.received()
        client.deliver(b"zz\r\n")
        self.assertEqual(client.received(), b"")
        self.assertTrue(client.aborted)
        self.assertEqual(stage.problems(), [])

    def test_interrupt(self) -> None:
        """When the proxy stops, exchanges under way end as interrupted; a response that began is reset."""
        stage = Stage()
        waiting, streaming = stage.client(get("/api/1")), stage.client(get("/api/2"))
        stage.upstream.deliver(STREAM)
        for route in stage.tree.routes:
            for exchange in list(route.exchanges):
                exchange.interrupt(Failure(Shutdown("stopped")))
        self.assertTrue(waiting.received().startswith(b"HTTP/1.1 503 "))
        self.assertTrue(streaming.aborted)
        self.assertEqual([capture.outcome for capture in stage.captures], ["interrupted"] * 2)
        self.assertEqual(stage.problems(), [])

    def test_leaving_does_not_lose_other_clients(self) -> None:
        """Only the exchange of the client that left is given up."""
        stage = Stage()
        first, second = stage.client(get("/api/1")), stage.client(get("/api/2"))
        first.rst()
        self.assertEqual([wire.aborted for wire in stage.endpoint.wires], [True, False])
        stage.upstream.deliver(ok(b"two"))
        self.assertTrue(second.received().endswith(b"two"))
        self.assertEqual(client_of(stage.upstream).uses, 1)


END = b"0\r\n\r\n"


class LastMomentTests(SynchronousTestCase):
    """Clients of event streams leave at the last event; the body's own end may come a little later."""

    def left(self, leave: Callable[[Wire], None], response: bytes = STREAM) -> Stage:
        """A stage whose client has left after it got all that had come of `response`."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(response)
        leave(client)
        stage.turn()
        return stage

    def assertEnded(self, stage: Stage, outcome: str, payload: bytes = b"abc") -> None:
        self.assertEqual((stage.capture.outcome, stage.capture.error), (outcome, ""))
        self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), payload)
        self.assertEqual(stage.capture.complete(Kind.RESPONSE_PIECE), outcome == "complete")
        stage.turn()
        self.assertEqual(stage.problems(), [])
        self.assertEqual(len(stage.site.connections), 0)

    def test_end_comes(self) -> None:
        """The end, and nothing else, within the moment: complete, and the upstream's connection stays."""
        for leave in LEAVING:
            for pieces in ((END,), (b"0\r", b"\n\r\n")):
                stage = self.left(leave)
                for piece in pieces:
                    stage.turn(MOMENT / 3)
                    stage.upstream.deliver(piece)
                self.assertEnded(stage, "complete")
                self.assertIsNotNone(stage.pool.take())

    def test_trailers_come(self) -> None:
        """Trailers belong to the end, and are recorded."""
        stage = self.left(Wire.fin)
        stage.upstream.deliver(b"0\r\nT: 1\r\n\r\n")
        self.assertEqual(stage.capture.of(Kind.RESPONSE_TRAILERS), [b"T: 1\r\n"])
        self.assertEnded(stage, "complete")

    def test_close_is_the_end(self) -> None:
        """So it is when the upstream's close ends the body; its reset does not."""
        stage = self.left(Wire.fin, b"HTTP/1.1 200 OK\r\n\r\nabc")
        stage.upstream.fin()
        self.assertEnded(stage, "complete")
        stage = self.left(Wire.fin, b"HTTP/1.1 200 OK\r\n\r\nabc")
        stage.upstream.rst()
        self.assertEnded(stage, "client_closed")

    def test_more_comes(self) -> None:
        """A byte that the client did not get: not complete, at once, and the byte is not recorded."""
        for more in (b"1\r\nx\r\n" + END, b"1\r\nx"):
            stage = self.left(Wire.fin)
            stage.upstream.deliver(more)
            self.assertTrue(stage.upstream.aborted)
            self.assertEnded(stage, "client_closed")

    def test_nothing_comes(self) -> None:
        """The moment passes: the upstream is given up well within a tenth of a second."""
        stage = self.left(Wire.fin)
        self.assertFalse(stage.upstream.aborted)
        stage.turn(MOMENT)
        self.assertTrue(stage.upstream.aborted)
        self.assertLess(MOMENT, 0.1)
        self.assertEnded(stage, "client_closed")

    def test_malformed_end(self) -> None:
        """Further content does not make it complete."""
        stage = self.left(Wire.fin)
        stage.upstream.deliver(b"zz\r\n")
        self.assertEnded(stage, "client_closed")

    def test_no_moment(self) -> None:
        """A Content-Length whose bytes are missing, and a client that had not got everything: at once."""
        stage = self.left(Wire.fin, ok(b"abcd")[:-1])
        self.assertTrue(stage.upstream.aborted)
        self.assertEnded(stage, "client_closed")
        stage = Stage()
        client = stage.client(get())
        stage.freeze_spool()
        stage.upstream.deliver(STREAM)
        client.rst()
        self.assertTrue(stage.upstream.aborted)
        stage.thaw_spool()
        self.assertEnded(stage, "client_closed")

    def test_interrupt(self) -> None:
        """The proxy may stop in that moment."""
        stage = self.left(Wire.fin)
        (exchange,) = stage.tree.routes[0].exchanges
        exchange.interrupt(Failure(Shutdown("stopped")))
        self.assertEqual(stage.capture.outcome, "interrupted")
        stage.turn(1)
        self.assertEqual(stage.problems(), [])
        self.assertEqual([call for call in stage.clock.getDelayedCalls() if call.getTime() < 1e9], [])
