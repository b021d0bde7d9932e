"""Clients and upstreams that speak HTTP/1.0."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.proxy_stage import Stage, get, ok
from logging_proxy.test.test_proxy_framing import CHUNKED, through


class ToHTTP10Tests(SynchronousTestCase):
    def test_content_length(self) -> None:
        """HTTP/1.0 gets an HTTP/1.1 status line, as RFC 9112 §2.3 asks, the length, and our close."""
        received, _, client = through(get(version="1.0"), ok(b"abc"))
        self.assertEqual(received, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
        self.assertTrue(client.closed)

    def test_keep_alive(self) -> None:
        """An HTTP/1.0 client that asks for keep-alive gets it where a length allows it."""
        request = get("/api/x", "Connection: keep-alive", version="1.0")
        received, _, client = through(request, ok(b"abc"))
        self.assertIn(b"\r\nConnection: keep-alive\r\n", received)
        self.assertFalse(client.disconnecting)

    def test_chunked(self) -> None:
        """Chunks and trailers are nothing that HTTP/1.0 knows: bare bytes, and our close ends them."""
        request = get("/api/x", "Connection: keep-alive", version="1.0")
        for size in (1, 65536):
            received, _, client = through(request, CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\nT: 1\r\n\r\n", size)
            self.assertEqual(received, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd")
            self.assertTrue(client.closed)

    def test_close_delimited(self) -> None:
        """Close stays close."""
        received, stage, client = through(get(version="1.0"), b"HTTP/1.1 200 OK\r\n\r\nabc", end=True)
        self.assertEqual(received, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        self.assertTrue(client.closed)
        self.assertEqual(stage.capture.outcome, "complete")

    def test_no_interim(self) -> None:
        """No interim response ever reaches HTTP/1.0 (RFC 9110 §15.2)."""
        received, stage, _ = through(get(version="1.0"), b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"abc"))
        self.assertTrue(received.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(stage.capture.kinds[2], "INFORMATIONAL")

    def test_no_expect(self) -> None:
        """Expect means nothing in HTTP/1.0, and is not passed on as if it did."""
        stage = Stage()
        stage.client(get("/api/x", "Expect: 100-continue", version="1.0"))
        self.assertNotIn(b"Expect", stage.upstream.received())


class HTTP10UpstreamTests(SynchronousTestCase):
    def test_closes(self) -> None:
        """An HTTP/1.0 upstream's connection is used once, even if it has a length."""
        received, stage, client = through(get(), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(received, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertIsNone(stage.pool.take())
        self.assertTrue(stage.upstream.closed)
        self.assertFalse(client.disconnecting)

    def test_keep_alive(self) -> None:
        """... unless it says keep-alive, which is its own connection's business."""
        response = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
        received, stage, _ = through(get(), response)
        self.assertEqual(received, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertIsNotNone(stage.pool.take())

    def test_chunked(self) -> None:
        """Transfer-Encoding in an HTTP/1.0 response is a fault (RFC 9112 §6.1)."""
        received, stage, _ = through(get(), CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n")
        self.assertTrue(received.startswith(b"HTTP/1.1 502 "))
        self.assertEqual(stage.capture.outcome, "protocol_error")
