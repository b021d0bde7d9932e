"""Trailers go both ways, but for those that would change how the message is understood."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.bodies import ChunkedReader
from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, get, ok

REQUEST = b"POST /api/x HTTP/1.1\r\nHost: h\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
BAD = (
    b"content-LENGTH: 5\r\nHost: evil\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nAuthorization: a\r\n"
)


class TrailerTests(SynchronousTestCase):
    def test_of_a_request(self) -> None:
        """Named and sent, they arrive and are captured, in pieces of any size."""
        for size in (1, 4, 65536):
            stage = Stage()
            stage.client(REQUEST + b"1\r\nx\r\n0\r\nX-T: 1\r\nx-t:2\r\n\r\n", size)
            head, _, body = stage.upstream.received().partition(b"\r\n\r\n")
            self.assertIn(b"Trailer: X-T", head)
            self.assertEqual(body, b"1\r\nx\r\n0\r\nX-T: 1\r\nx-t:2\r\n\r\n")
            stage.upstream.deliver(ok())
            self.assertEqual(stage.capture.body(Kind.REQUEST_TRAILERS), b"X-T: 1\r\nx-t:2\r\n")
            self.assertEqual(stage.problems(), [])

    def test_of_a_response(self) -> None:
        """The same the other way."""
        for size in (1, 4, 65536):
            stage = Stage()
            client = stage.client(get("/api/x", "TE: trailers"))
            stage.upstream.deliver(RESPONSE + b"1\r\nx\r\n0\r\nX-T: 1\r\nx-t:2\r\n\r\n", size)
            self.assertEqual(client.received(), RESPONSE + b"1\r\nx\r\n0\r\nX-T: 1\r\nx-t:2\r\n\r\n")
            self.assertEqual(stage.capture.body(Kind.RESPONSE_TRAILERS), b"X-T: 1\r\nx-t:2\r\n")

    def test_dangerous_ones_of_a_request(self) -> None:
        """Framing, routing and credentials are not sent in trailers; the capture has the sent lines."""
        for size in (1, 65536):
            stage = Stage()
            stage.client(REQUEST + b"1\r\nx\r\n0\r\nX-A: 1\r\n" + BAD + b"X-B: 2\r\n\r\n", size)
            self.assertTrue(stage.upstream.received().endswith(b"1\r\nx\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"))
            stage.upstream.deliver(ok())
            self.assertEqual(stage.capture.body(Kind.REQUEST_TRAILERS), b"X-A: 1\r\nX-B: 2\r\n")

    def test_dangerous_ones_of_a_response(self) -> None:
        """Nor does the client get them; the capture has the lines that the destination sent."""
        for size in (1, 65536):
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(RESPONSE + b"1\r\nx\r\n0\r\n" + BAD + b"\r\n", size)
            self.assertEqual(client.received(), RESPONSE + b"1\r\nx\r\n0\r\n\r\n")
            self.assertEqual(stage.capture.body(Kind.RESPONSE_TRAILERS), BAD)
            self.assertEqual(stage.problems(), [])

    def test_all_dropped(self) -> None:
        """A section of which nothing is left leaves a plain end."""
        piece, _ = ChunkedReader().feed(b"0\r\n" + BAD + b"\r\n")
        self.assertEqual((piece.framed, piece.trailers), (b"0\r\n\r\n", BAD))
