"""The framing of bodies towards the client, and the reuse of its connection."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, ok

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def through(
    request: bytes, response: bytes, size: int = 65536, end: bool = False
) -> tuple[bytes, Stage, Wire]:
    """The bytes that the client receives for `response`, which comes in pieces of `size`."""
    stage = Stage()
    client = stage.client(request)
    stage.upstream.deliver(response, size)
    if end:
        stage.upstream.fin()
    stage.turn()
    return client.received(), stage, client


class ToHTTP11Tests(SynchronousTestCase):
    def test_content_length(self) -> None:
        """A length stays a length, however the bytes come."""
        for size in (1, 7, 65536):
            received, stage, client = through(get(), ok(b"hello"), size)
            self.assertEqual(received, ok(b"hello"))
            self.assertFalse(client.closed or client.disconnecting)
            self.assertEqual(stage.problems(), [])

    def test_chunked(self) -> None:
        """Chunks stay the upstream's chunks, less their extensions; their ends are not recorded."""
        body = b"5;x=1\r\nhello\r\n01\r\n!\r\n0\r\n\r\n"
        for size in (1, 3, 65536):
            received, stage, _ = through(get(), CHUNKED + body, size)
            self.assertEqual(received, CHUNKED + b"5\r\nhello\r\n01\r\n!\r\n0\r\n\r\n")
            self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"hello!")
            self.assertTrue(stage.capture.complete(Kind.RESPONSE_PIECE))

    def test_close_delimited(self) -> None:
        """A body that ends with the connection is chunked, and the client's connection stays."""
        for response in (b"HTTP/1.1 200 OK\r\n\r\nabc", b"HTTP/1.0 200 OK\r\nA: 1\r\n\r\nabc"):
            received, stage, client = through(get(), response, end=True)
            self.assertTrue(received.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
            self.assertEqual(stage.capture.outcome, "complete")
            self.assertFalse(client.disconnecting)
            self.assertEqual(stage.pool.take(), None)

    def test_close_delimited_and_empty(self) -> None:
        """Such a body may be empty."""
        received, _, _ = through(get(), b"HTTP/1.1 200 OK\r\n\r\n", end=True)
        self.assertTrue(received.endswith(b"\r\n\r\n0\r\n\r\n"))

    def test_bodiless(self) -> None:
        """204 and 304 and answers to HEAD have no body and get no invented length; the client stays."""
        head = get().replace(b"GET", b"HEAD")
        for request, response, expected in (
            (get(), b"HTTP/1.1 204 No Content\r\n\r\n", None),
            (get(), b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", None),
            (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", None),
            (head, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", None),
            (head, b"HTTP/1.1 200 OK\r\n\r\n", None),
            (head, CHUNKED, None),
            (
                get(),
                b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 204 No Content\r\n\r\n",
            ),
        ):
            with self.subTest(response):
                received, stage, client = through(request, response)
                self.assertEqual(received, expected or response)
                self.assertFalse(client.disconnecting)
                self.assertEqual(stage.capture.outcome, "complete")

    def test_body_after_head(self) -> None:
        """After a HEAD answered with a body the connection is not used again; no client gets the body."""
        head = get().replace(b"GET", b"HEAD")
        received, stage, _ = through(head, ok(b"body"))
        self.assertTrue(received.endswith(b"Content-Length: 4\r\n\r\n"))
        self.assertTrue(stage.upstream.aborted)
        self.assertIsNone(stage.pool.take())
        self.assertEqual(stage.problems(), [])


class RequestFramingTests(SynchronousTestCase):
    def test_chunked(self) -> None:
        """A chunked request goes on chunk by chunk, as it comes."""
        stage = Stage()
        client = stage.client(
            b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        self.assertTrue(stage.upstream.received().endswith(b"chunked\r\n\r\n3\r\nabc\r\n"))
        client.deliver(b"2;ext\r\nde\r\n0\r\n\r\n")
        self.assertEqual(stage.upstream.received(), b"2\r\nde\r\n0\r\n\r\n")
        stage.upstream.deliver(ok())
        self.assertEqual(stage.capture.body(Kind.REQUEST_PIECE), b"abcde")
        self.assertTrue(stage.capture.complete(Kind.REQUEST_PIECE))
        self.assertEqual(stage.problems(), [])

    def test_pipelined(self) -> None:
        """Requests that come together are answered in their order, one after the other."""
        stage = Stage()
        client = stage.client(get("/api/1") + get("/api/2"))
        self.assertTrue(stage.upstream.received().startswith(b"GET /1 "))
        stage.upstream.deliver(ok(b"one"))
        stage.turn()
        self.assertTrue(stage.upstream.received().startswith(b"GET /2 "))
        stage.upstream.deliver(ok(b"two"))
        self.assertEqual(client.received(), ok(b"one") + ok(b"two"))
        self.assertEqual(len(stage.endpoint.wires), 1)
